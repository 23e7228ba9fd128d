"""One call on the wire: an HTTP/2 stream that carries request messages one way and answers the other. Sans-IO.

The status is set once, and is the end: by trailers, by a reset, by a breach of the protocol on either side's account,
or with the connection. What had arrived whole before a regular end can still be taken after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.http2 import frames as h2
from sidecar.rpc.messages import MessageBuffer
from sidecar.rpc.status import Fields, Status, StatusCode, status_of_http, status_of_reset, status_of_trailers

WINDOW_BYTES: Final = 256 * 1024
"""Of a stream and of its connection: what may be on its way, or wait unread, beside the message that is assembled."""
_CREDIT_AT_BYTES: Final = WINDOW_BYTES // 2
_GRPC: Final = b"application/grpc"


class RpcStream:
    """The state of one call. ``put`` takes frames to be sent; ``ended`` is told once, when none concerns it more."""

    __slots__ = (
        "_answered",
        "_ended",
        "_messages",
        "_put",
        "_sent_end",
        "_uncredited_bytes",
        "pending",
        "pending_end",
        "recv_window",
        "send_window",
        "status",
        "stream_id",
    )

    def __init__(
        self,
        stream_id: int,
        *,
        send_window: int,
        limit_bytes: int,
        put: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        self.stream_id = stream_id
        self.send_window = send_window
        self.recv_window = WINDOW_BYTES
        self.pending = bytearray()
        """What ``send`` was given and flow control did not let out yet."""
        self.pending_end = False
        self.status: Status | None = None
        self._messages = MessageBuffer(limit_bytes)
        self._answered = False  # the headers of an answer were seen
        self._sent_end = False
        self._uncredited_bytes = 0
        self._put = put
        self._ended = ended

    # -- sending ------------------------------------------------------------------------------------------------------

    def push(self, window: int, frame_bytes: int) -> int:
        """Put out what waits, at most ``window`` bytes of it; returns how many went."""
        gone = 0
        while self.status is None and not self._sent_end:
            size = max(0, min(len(self.pending), window - gone, self.send_window, frame_bytes))
            if not size and (self.pending or not self.pending_end):
                break
            last = self.pending_end and size == len(self.pending)
            flags = h2.FLAG_END_STREAM if last else 0
            self._put(h2.frame(h2.DATA, flags, self.stream_id, bytes(self.pending[:size])))
            del self.pending[:size]
            self.send_window -= size
            gone += size
            self._sent_end = last
        return gone

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self.break_off(Status(code=StatusCode.CANCELLED, details="cancelled"), h2.CANCEL)

    def break_off(self, status: Status, code: int) -> None:
        """End the call from this side, and let go of what had arrived."""
        if self.status is None:
            self._put(h2.rst_stream(self.stream_id, code))
            self._messages = MessageBuffer(0)
            self.end(status)

    def end(self, status: Status) -> None:
        """The call is over; the first status counts."""
        if self.status is None:
            self.status = status
            self.pending.clear()
            self._ended()

    # -- receiving ----------------------------------------------------------------------------------------------------

    def take(self) -> bytes | None:
        """The next message, None if none is complete. After the last one a regular end may turn out to be none."""
        message = self._messages.take()
        self._refuse()
        if message is None and self.status is not None and self.status.code is StatusCode.OK:
            if not self._messages.is_empty:
                self.status = Status(code=StatusCode.INTERNAL, details="the call ended inside a message")
        else:
            self._credit()
        return message

    def on_fields(self, fields: Fields, *, end: bool) -> None:
        """A header block: the answer's head, or trailers, or both in one."""
        found = dict(fields)
        if self._answered:
            if end and b":status" not in found:
                self._regular_end(status_of_trailers(fields))
            else:
                self._breach("a second head")
            return
        http = found.get(b":status", b"")
        if http.startswith(b"1") and len(http) == 3 and not end:
            return  # an interim answer (RFC 9110 section 15.2)
        if http != b"200":
            self._regular_end(status_of_http(http)) if end else self.break_off(status_of_http(http), h2.CANCEL)
        elif not _is_grpc(found.get(b"content-type", b"")):
            self.break_off(Status(code=StatusCode.UNKNOWN, details="the answer is not gRPC"), h2.CANCEL)
        elif end:
            self._regular_end(status_of_trailers(fields))
        else:
            self._answered = True

    def on_data(self, content: bytes, length: int, *, end: bool) -> None:
        """A DATA frame of ``length`` bytes of flow control, padding included."""
        self.recv_window -= length
        self._uncredited_bytes += length
        if not self._answered:
            self._breach("data before the answer's head")
            return
        self._messages.feed(content)
        self._refuse()
        if end:
            self._regular_end(Status(code=StatusCode.UNKNOWN, details="the call ended without a status"))
        elif self.status is None:
            self._credit()

    def on_reset(self, code: int) -> None:
        self.end(status_of_reset(code))

    def _regular_end(self, status: Status) -> None:
        """The other side ends the call; if this side has not, it lets go of its half, too."""
        if self.status is None:
            if not self._sent_end:
                self._put(h2.rst_stream(self.stream_id, h2.NO_ERROR))
            self.end(status)

    def _breach(self, detail: str) -> None:
        self.break_off(Status(code=StatusCode.INTERNAL, details=detail), h2.PROTOCOL_ERROR)

    def _refuse(self) -> None:
        """Break off if what stands at the front of the buffer may not be taken."""
        refusal = self._messages.refusal
        if refusal is None:
            return
        if self.status is None:
            self.break_off(refusal, h2.CANCEL)
        elif self.status.code is StatusCode.OK:
            self.status = refusal

    def _credit(self) -> None:
        """Let the other side send on, unless a whole message waits already: then nothing more is wanted for now."""
        if self.status is not None or self._messages.holds_message or self._uncredited_bytes < _CREDIT_AT_BYTES:
            return
        self._put(h2.window_update(self.stream_id, self._uncredited_bytes))
        self.recv_window += self._uncredited_bytes
        self._uncredited_bytes = 0


def _is_grpc(content_type: bytes) -> bool:
    """``application/grpc``, alone or with a subtype (``+proto``) or parameters behind it."""
    kind, following = content_type[: len(_GRPC)], content_type[len(_GRPC) : len(_GRPC) + 1]
    return kind == _GRPC and following in (b"", b"+", b";")
