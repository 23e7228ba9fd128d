"""One request with its response, and the port through which the machine asks for a decision.

`Exchange` is the only object that a request costs, and the state of its stream. `Judge` is what the adapter implements:
plain calls, made in the middle of parsing, that must not block and must not feed the machine they were called from.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.http2.answer import Answer
from sidecar.http2.head import UNANNOUNCED, RequestHead
from sidecar.http2.reasons import Broken, Malformed
from sidecar.trace_context import Span


class Exchange:
    """A request that was judged, and how far it and its response have come."""

    __slots__ = (
        "cut",
        "decision",
        "fields",
        "grpc_status",
        "interim",
        "local",
        "method",
        "note",
        "refusal",
        "request_bytes",
        "request_left",
        "request_open",
        "response_bytes",
        "response_left",
        "response_open",
        "started",
        "status",
        "stream_id",
        "target",
        "withheld",
    )

    def __init__(self, stream_id: int, fields: RequestHead, request_bytes: int) -> None:
        self.stream_id = stream_id
        self.method = fields.method
        self.target = fields.target
        """Path and query in origin form, or ``*``: exactly what the server is sent."""
        self.fields = fields
        self.request_bytes = request_bytes
        """Of the whole request as received so far: header blocks as they came, and content."""
        self.request_left = fields.length
        """Of the content announced."""
        self.request_open = True
        """More of the request is to come."""
        self.response_bytes = 0
        self.response_left = UNANNOUNCED
        self.response_open = True
        self.status = 0
        """Of the final response from the server; 0 while there is none, and for good if it was answered here."""
        self.grpc_status: int | None = None
        """From the server's trailers (or a response of trailers only); -1 if it is no number."""
        self.interim = 0
        self.cut = False
        """It ended before both its messages were complete."""
        self.local: Answer | None = None
        """The answer given on this side of the server, once there is one."""
        self.refusal: bytes | None = None
        """What the other sidecar says of its refusal (`ResponseHead.refusal`)."""
        self.started = 0.0
        """The judge's: its clock when it was asked."""
        self.decision: object = None
        """The judge's."""
        self.note: Span | None = None
        """The judge's: what it times this request by, if it does."""
        self.withheld: frozenset[bytes] = frozenset()
        """Names that its trailers may not have, either."""

    def withhold(self, plain: frozenset[bytes]) -> None:
        """Forward no field of these names (`plain_name`), in whatever spelling: those in the head go, one in the
        trailers refuses them. Only from within `Judge.request`."""
        self.withheld = plain
        self.fields = self.fields.without_any(plain)

    @property
    def host(self) -> bytes:
        """The authority as sent."""
        return self.fields.host

    @property
    def grpc(self) -> bool:
        return self.fields.grpc


class Judge(Protocol):
    """What the machine asks and tells; each `request` is followed by exactly one `done` with the same exchange."""

    def request(self, exchange: Exchange) -> bytes | None:
        """Permit, with the fields to append to the header block (each made by `literal`; b"" for none); or None, having
        called `Inspector.refuse` or `Inspector.wait`. It may put other ``fields`` into the exchange: what they keep is
        forwarded."""

    def response(self, exchange: Exchange, status: int) -> None:
        """The header section of the final response came from the server."""

    def done(self, exchange: Exchange) -> None:
        """Both messages have ended, the refusal was given, or (``exchange.cut``) it ended early."""

    def malformed(self, reason: Malformed, detail: str) -> Answer:
        """A request, or the rest of one, is refused for its form. The answer is given where the flaw is one of
        `ANSWERED`; otherwise the stream is reset."""

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> Answer | None:
        """The server's frames, or their absence, are no response to ``exchange``: what to tell the client, if its
        protocol still has room for it; None for a bare reset."""

    def broken(self, by_client: bool, reason: Broken, detail: str) -> None:
        """A peer broke HTTP/2 itself, or flooded: its connection ends, and with it all exchanges."""
