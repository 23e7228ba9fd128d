"""One request on its way to the endpoint that was chosen for it, and its response on the way back. Pure.

`Flow` is what one end still has to send of one message. What a full window keeps back waits there: of a request at most
what the client was allowed to send, of a response at most what the endpoint's connection was.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from sidecar.balance import Member, Outcome
from sidecar.http2.exchange import Exchange
from sidecar.http2.head import RequestHead

if TYPE_CHECKING:
    from sidecar.split.leg import Leg

KEPT_CALL_BYTES: Final = 64 * 1024
"""Content of one request that is kept until its response begins, so that it can be sent again elsewhere."""


class Flow:
    """A message in the hands of the end that sends it (`End.send`)."""

    __slots__ = ("again_bytes", "call", "done", "ending", "pending", "stream_id", "trailers", "window")

    def __init__(self, call: Call, stream_id: int, window: int) -> None:
        self.call = call
        self.stream_id = stream_id
        """On the connection that the message is sent on; 0 while there is none."""
        self.window = window
        """Of the stream; below 0 where the receiver has lowered it."""
        self.pending: deque[bytes] | None = None
        """Content that no window has let out."""
        self.again_bytes = 0
        """Of ``pending``: what was sent before, on another connection, and given back to its sender then."""
        self.ending = False
        """END_STREAM follows what is pending."""
        self.trailers: bytes | None = None
        """A block to end with."""
        self.done = False
        """END_STREAM is out, or never will be."""

    def wait(self, content: bytes, *, end: bool) -> None:
        """Keep ``content`` until there is a stream to send it on."""
        if self.pending is None:
            self.pending = deque()
        if content:
            self.pending.append(content)
        if end:
            self.ending = True

    def again(self, content: list[bytes], again_bytes: int, *, ending: bool) -> None:
        """The whole message is to be sent once more; ``again_bytes`` of it were given back to its sender."""
        self.pending = deque(content)
        self.again_bytes = again_bytes
        self.ending = ending
        self.done = False


class Call(Exchange):
    """An `Exchange` that has two streams: the client's, and one on a leg."""

    __slots__ = (
        "attempts",
        "avoid",
        "begun",
        "block",
        "down",
        "granted_bytes",
        "head_seconds",
        "kept",
        "kept_bytes",
        "leg",
        "outcome",
        "owed_bytes",
        "reset_code",
        "up",
        "waiting_since",
        "wants",
    )

    def __init__(self, stream_id: int, head: RequestHead, request_bytes: int, *, window: int, granted: int) -> None:
        super().__init__(stream_id, head, request_bytes)
        self.block = b""
        """The header section to send, in literals."""
        self.up = Flow(self, 0, 0)
        self.down = Flow(self, stream_id, window)
        self.granted_bytes = granted
        """What the client may still send on the stream."""
        self.owed_bytes = 0
        """Of its content, passed on and not yet given back to its window."""
        self.leg: Leg | None = None
        """The connection on which the request is, or was last."""
        self.wants: Leg | None = None
        """The connection that it waits for; None: any."""
        self.waiting_since: float | None = None
        """Monotonic seconds; None while it does not wait for a connection."""
        self.avoid: frozenset[Member] = frozenset()
        """Endpoints that have failed it."""
        self.outcome: Outcome | None = None
        """What its response says of the endpoint, if not what its status says; the adapter's to set."""
        self.attempts = 0
        self.begun = 0.0
        """Monotonic seconds: when it was last sent."""
        self.head_seconds = 0.0
        """From then until its response began."""
        self.kept: list[bytes] | None = []
        """All content so far; None: not all of it is kept, or the response has begun."""
        self.kept_bytes = 0
        self.reset_code: int | None = None
        """The endpoint has reset its stream behind a whole response: so will the client's be."""

    @property
    def repeatable(self) -> bool:
        """All of the request that was sent is still here, and nothing of a response was."""
        return self.kept is not None and not self.status and not self.interim
