"""One request with its response, and the port through which the machine asks for a decision.

`Exchange` is the only object that a request costs. `Judge` is what the adapter implements: plain calls, made in the
middle of parsing, that must not block and must not feed the machine they were called from.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.http1.reasons import Malformed
from sidecar.http1.verdicts import RequestFields
from sidecar.trace_context import Span


class Exchange:
    """A request that was judged, and how far it and its response have come."""

    __slots__ = (
        "cut",
        "decision",
        "fields",
        "local",
        "local_close",
        "method",
        "note",
        "refusal",
        "request_bytes",
        "request_open",
        "response_bytes",
        "response_open",
        "started",
        "status",
        "target",
        "withheld",
    )

    def __init__(self, method: bytes, target: bytes, fields: RequestFields, request_bytes: int) -> None:
        self.method = method
        self.target = target
        """Path and query in origin form, or ``*``: exactly what the server is sent."""
        self.fields = fields
        self.request_bytes = request_bytes
        """Of the whole request as received so far, head included."""
        self.response_bytes = 0
        self.status = 0
        """Of the final response from the server, or 101; 0 while there is none, and for good if it was answered
        here."""
        self.request_open = False
        """More of the request's body is to come."""
        self.response_open = True
        self.cut = False
        """It ended before both its messages were complete."""
        self.local: bytes | None = None
        """The response made on this side of the server, once there is one."""
        self.local_close = False
        self.refusal: bytes | None = None
        """What the other sidecar says of its refusal (`ResponseFields.refusal`)."""
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
        """The Host value as sent; empty if an HTTP/1.0 request had none."""
        return self.fields.host


class Judge(Protocol):
    """What the machine asks and tells; each `request` is followed by exactly one `done` with the same exchange."""

    def request(self, exchange: Exchange) -> bytes | None:
        """Permit, with the field lines to put right after the request line (each with its CR LF; b"" for none); or
        None, having called `Inspector.refuse` or `Inspector.wait`. It may put other ``fields`` into the exchange: what
        they forward is forwarded."""

    def response(self, exchange: Exchange, status: int) -> None:
        """The final response head (or 101) came from the server."""

    def done(self, exchange: Exchange) -> None:
        """Both messages have ended, the refusal was given, or (``exchange.cut``) it ended early."""

    def malformed(self, reason: Malformed, detail: str) -> bytes:
        """The client's bytes are refused: a whole 400 response with a content-length and no connection field."""

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> bytes:
        """The server's bytes, or their absence, are no response to ``exchange``: a whole 502 response made as in
        `malformed`, or b"" to close without a word. Not used if a part of the server's response has already gone on."""
