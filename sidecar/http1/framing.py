"""What a field block says of the message: where its body ends (RFC 9112 section 6.3) and whom it is for. Pure.

Stricter than the RFC wherever it lets a recipient choose: of two readers one may have chosen otherwise.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.http1.fields import Named
from sidecar.http1.lines import is_authority
from sidecar.http1.reasons import Malformed, MalformedError, shown

CHUNKED: Final = -1
"""In place of a length: chunked transfer coding."""
UNTIL_CLOSE: Final = -2
"""In place of a length: the end of the connection is the end of the body (responses only)."""
LENGTH_LIMIT: Final = 2**63 - 1


_LENGTH: Final = re.compile(rb" *(0|[1-9][0-9]{0,18})")
_CODING: Final = re.compile(rb" *chunked")
HOST: Final = b"host"
LENGTH_NAME: Final = b"content-length"
CODING_NAME: Final = b"transfer-encoding"


def request_length(named: Named, http11: bool) -> int:
    """Bytes of a request's body, or `CHUNKED`; raises `MalformedError`."""
    length = _framing(named, http11)
    return 0 if length is None else length


def response_length(named: Named, http11: bool, status: int) -> int:
    """Bytes of a response's body (to anything but HEAD), `CHUNKED` or `UNTIL_CLOSE`; raises `MalformedError`."""
    length = _framing(named, http11)
    if status < 200 or status == 204:
        if length:
            raise MalformedError(Malformed.BODY_NOT_ALLOWED, f"status {status} announces a body")
        return 0
    if status == 304:
        return 0
    return UNTIL_CLOSE if length is None else length


def _framing(named: Named, http11: bool) -> int | None:
    """The announced length or `CHUNKED`; None if nothing is announced."""
    lengths = named.get(LENGTH_NAME)
    codings = named.get(CODING_NAME)
    if codings is not None:
        if lengths is not None:
            detail = "both content-length and transfer-encoding"
            raise MalformedError(Malformed.CONTENT_LENGTH_WITH_TRANSFER_ENCODING, detail)
        if len(codings) != 1 or _CODING.fullmatch(codings[0]) is None:
            detail = f"transfer-encoding {shown(b','.join(codings))}, only chunked is taken"
            raise MalformedError(Malformed.TRANSFER_ENCODING_UNSUPPORTED, detail)
        if not http11:
            raise MalformedError(Malformed.TRANSFER_ENCODING_IN_HTTP10, "transfer-encoding in a version without it")
        return CHUNKED
    if lengths is None:
        return None
    if len(lengths) != 1:
        raise MalformedError(Malformed.DUPLICATE_CONTENT_LENGTH, f"content-length {shown(b','.join(lengths))}")
    match = _LENGTH.fullmatch(lengths[0])
    if match is None or int(match[1]) > LENGTH_LIMIT:
        raise MalformedError(Malformed.BAD_CONTENT_LENGTH, f"content-length {shown(lengths[0])}")
    return int(match[1])


def host_of(named: Named, http11: bool) -> bytes:
    """The one lawful Host; empty only where HTTP/1.0 sent none. Raises `MalformedError`."""
    hosts = named.get(HOST)
    if hosts is None:
        if http11:
            raise MalformedError(Malformed.HOST_MISSING, "no host field")
        return b""
    if len(hosts) != 1:
        raise MalformedError(Malformed.HOST_DUPLICATE, f"hosts {shown(b','.join(hosts))}")
    host = hosts[0].strip(b" ")
    if not is_authority(host):
        raise MalformedError(Malformed.HOST_INVALID, f"host {shown(host)}")
    return host
