"""How a call ends: gRPC's status codes, and how trailers, HTTP and HTTP/2 tell them. Pure.

Sources: gRPC's doc/statuscodes.md, doc/PROTOCOL-HTTP2.md ("Status", "Errors"), doc/http-grpc-status-mapping.md. Nothing
that is missing, doubled or malformed ever reads as OK.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ringfence.spiffe import VerificationError
from sidecar.http2 import frames as h2

Fields = list[tuple[bytes, bytes]]
"""Header fields in order; names in lower case."""

_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


class StatusCode(IntEnum):
    """gRPC's closed set."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The end of one call."""

    code: StatusCode
    details: str = ""
    metadata: Mapping[bytes, bytes] = field(default_factory=dict)
    """The trailing metadata; empty if the end was not told by trailers."""


class RpcError(Exception):
    """A call, or the connection for it, did not end well.

    ``refused``: why this side refused the server's identity in the TLS handshake; None in every other case.
    """

    def __init__(self, status: Status, refused: VerificationError | None = None) -> None:
        super().__init__(
            f"{status.code.name.lower()}: {status.details}" if status.details else status.code.name.lower()
        )
        self.status = status
        self.refused = refused

    @property
    def code(self) -> StatusCode:
        return self.status.code

    @property
    def details(self) -> str:
        """The other side's words, or our own for its silence; any characters, never longer than a header list."""
        return self.status.details


def unavailable(details: str) -> RpcError:
    """What a call ends with when its connection cannot be had or is lost."""
    return RpcError(Status(code=StatusCode.UNAVAILABLE, details=details))


def status_of_trailers(trailers: Fields) -> Status:
    """What ``grpc-status`` and ``grpc-message`` say."""
    codes = [value for name, value in trailers if name == b"grpc-status"]
    messages = [value for name, value in trailers if name == b"grpc-message"]
    metadata = dict(trailers)
    if len(codes) != 1:
        return Status(code=StatusCode.UNKNOWN, details=f"the call ended with {len(codes)} status codes")
    text = codes[0]
    code = StatusCode(int(text)) if text in _KNOWN_CODES else StatusCode.UNKNOWN
    details = percent_decoded(messages[0]) if messages else ""
    if code is StatusCode.UNKNOWN and not details:
        details = f"status code {text[:20]!r}"
    return Status(code=code, details=details, metadata=metadata)


_KNOWN_CODES: Final = frozenset(str(int(code)).encode() for code in StatusCode)


def percent_decoded(message: bytes) -> str:
    """``grpc-message`` as text; what is no escape, or no UTF-8, is kept or replaced, as the protocol asks."""
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), message).decode("utf-8", "replace")


def status_of_http(code: bytes) -> Status:
    """What an answer means that is no gRPC answer, such as a proxy's."""
    return Status(
        code=_BY_HTTP.get(code, StatusCode.UNKNOWN), details=f"HTTP status {code[:8].decode('ascii', 'replace')}"
    )


_BY_HTTP: Final = {
    b"400": StatusCode.INTERNAL,
    b"401": StatusCode.UNAUTHENTICATED,
    b"403": StatusCode.PERMISSION_DENIED,
    b"404": StatusCode.UNIMPLEMENTED,
    b"429": StatusCode.UNAVAILABLE,
    b"502": StatusCode.UNAVAILABLE,
    b"503": StatusCode.UNAVAILABLE,
    b"504": StatusCode.UNAVAILABLE,
}


def status_of_reset(code: int) -> Status:
    """What a RST_STREAM with an HTTP/2 error code means."""
    return Status(
        code=_BY_RESET.get(code, StatusCode.UNKNOWN),
        details=f"the stream was reset: {h2.ERROR_NAMES.get(code, hex(code))}",
    )


_INADEQUATE_SECURITY: Final = 0xC
_BY_RESET: Final = {
    **dict.fromkeys(range(0x0, 0x5), StatusCode.INTERNAL),  # NO_ERROR … SETTINGS_TIMEOUT
    h2.FRAME_SIZE_ERROR: StatusCode.INTERNAL,
    h2.COMPRESSION_ERROR: StatusCode.INTERNAL,
    h2.CONNECT_ERROR: StatusCode.INTERNAL,
    h2.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    h2.CANCEL: StatusCode.CANCELLED,
    h2.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    _INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}
