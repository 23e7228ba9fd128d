"""Answers made on this side of the server, in the words of the request's protocol: HTTP or gRPC. Pure.

A gRPC client takes nothing but a grpc-status for an answer: trailers-only where the response has not begun
(``:status 200``), trailers where it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.http2.literal import encode
from sidecar.http2.table import Field

GRPC_DEADLINE_EXCEEDED: Final = 4
GRPC_PERMISSION_DENIED: Final = 7
GRPC_INTERNAL: Final = 13
GRPC_UNAVAILABLE: Final = 14
_GRPC_STATUS: Final = {
    400: 13,
    401: 16,
    403: 7,
    404: 12,
    408: 4,
    413: 8,
    429: 8,  # gRPC's own table says UNAVAILABLE, of proxies that know no better; a limit is RESOURCE_EXHAUSTED
    431: 8,
    500: 13,
    502: 14,
    503: 14,
    504: 14,
}
_GRPC_UNKNOWN: Final = 2
_MESSAGE_BYTES: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer for either protocol.

    status          HTTP status, 200 to 599, unless the request is gRPC
    grpc            the code for gRPC, where ``status`` does not stand for it
    message         what a gRPC client's programmer reads; plain text
    fields          further fields, lower-case names, told either way
    retry_after_seconds  when the same may be asked again, told in either protocol's words; 0: not known
    content         body for HTTP; left out where it cannot be sent (HEAD, no room in the client's windows)
    """

    status: int
    message: str
    fields: tuple[Field, ...] = ()
    content: bytes = b""
    content_type: bytes = b"application/json"
    grpc: int | None = None
    retry_after_seconds: int = 0

    @property
    def grpc_status(self) -> int:
        """The code that stands for ``status`` in gRPC (after its mapping of HTTP statuses)."""
        return _GRPC_STATUS.get(self.status, _GRPC_UNKNOWN) if self.grpc is None else self.grpc

    def head(self, *, with_content: bool) -> bytes:
        """Header block of the HTTP response."""
        fields: list[Field] = [(b":status", b"%d" % self.status), (b"cache-control", b"no-store")]
        if with_content:
            fields += [(b"content-type", self.content_type), (b"content-length", b"%d" % len(self.content))]
        if self.retry_after_seconds:
            fields.append((b"retry-after", b"%d" % self.retry_after_seconds))
        return encode((*fields, *self.fields))

    def trailers_only(self) -> bytes:
        """Header block of the gRPC response."""
        return encode([(b":status", b"200"), (b"content-type", b"application/grpc")]) + self.trailers()

    def trailers(self) -> bytes:
        """Block of the trailers that end a gRPC response which has begun."""
        told = b"".join(
            bytes((byte,)) if byte in _MESSAGE_BYTES else b"%%%02X" % byte for byte in self.message.encode()
        )
        fields: list[Field] = [(b"grpc-status", b"%d" % self.grpc_status), (b"grpc-message", told)]
        if self.retry_after_seconds:
            fields.append((b"grpc-retry-pushback-ms", b"%d" % (1000 * self.retry_after_seconds)))  # gRFC A6
        return encode((*fields, *self.fields))
