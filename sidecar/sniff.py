"""What the first bytes of a connection say: TLS with its server name, HTTP/2, HTTP/1 with its host, or nothing known.

Pure. Each function takes all bytes seen so far and answers None while more are needed to tell; nothing here trusts what
it reads further than to choose a rule by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sidecar.client_hello import HANDSHAKE_RECORD, HELLO_LIMIT_BYTES, host_name, read_hello
from sidecar.http2.frames import PREFACE

SNIFF_LIMIT_BYTES: Final = HELLO_LIMIT_BYTES
_METHOD: Final = re.compile(rb"[A-Z]{3,16} ")
_METHOD_BEGUN: Final = re.compile(rb"[A-Z]{1,16}")
# Blanks around the name are no field name to a strict reader, but to a lenient one they are: such a line counts, too.
# Those behind the colon are taken off later: a pattern that does it may cost the cube of their number.
_HOST_FIELD: Final = re.compile(rb"\n[ \t]*host[ \t]*:([^\r\n]*)(?=\r\n(.?))", re.IGNORECASE | re.DOTALL)
_BARE_BREAK: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")


class Kind(StrEnum):
    """What a client's first bytes are."""

    TLS = "tls"
    HTTP1 = "http1"
    HTTP2 = "http2"
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sniffed:
    """``host`` is the server name that the client wants (lower case, no port), or "" if it told none."""

    kind: Kind
    host: str


def sniff(data: bytes) -> Sniffed | None:
    """Kind and host of a connection that begins with ``data``; None: not enough bytes yet."""
    if not data:
        return None
    kind = _kind(data)
    if kind is None:
        return None
    if kind is Kind.OPAQUE or kind is Kind.HTTP2:
        return Sniffed(kind=kind, host="")
    host = _server_name(data) if kind is Kind.TLS else _http_host(data)
    if host is None:
        return Sniffed(kind=kind, host="") if len(data) >= SNIFF_LIMIT_BYTES else None
    return Sniffed(kind=kind, host=host)


def _kind(data: bytes) -> Kind | None:
    if data[0] == HANDSHAKE_RECORD:
        if len(data) < 3:
            return None
        return Kind.TLS if data[1] == 3 and data[2] <= 4 else Kind.OPAQUE
    if PREFACE.startswith(data[: len(PREFACE)]):
        return Kind.HTTP2 if len(data) >= len(PREFACE) else None
    if _METHOD.match(data):
        return Kind.HTTP1
    begun = _METHOD_BEGUN.fullmatch(data)
    return None if begun else Kind.OPAQUE


def _server_name(data: bytes) -> str | None:
    hello = read_hello(data)
    return hello.server_name if hello is not None else None


def _http_host(data: bytes) -> str | None:
    """The one host that a request names (RFC 9112 section 3.2); "" where two readers could take two hosts from it."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[: end + 4]
    found = _HOST_FIELD.findall(head)
    if _BARE_BREAK.search(head) or len(found) != 1 or found[0][1] in (b" ", b"\t"):
        return ""
    host = host_name(found[0][0].strip(b" \t"))
    authority = _authority_in(head[: head.index(b"\r\n")])
    return host if authority is None or host_name(authority) == host else ""


def _authority_in(line: bytes) -> bytes | None:
    """The authority in a request line's target, which outweighs the Host field; None in origin or asterisk form."""
    method, _, rest = line.partition(b" ")
    target = rest.partition(b" ")[0]
    if target.startswith((b"/", b"*")):
        return None
    if method == b"CONNECT":
        return target
    _scheme, mark, after = target.partition(b"://")
    return after.partition(b"/")[0].partition(b"?")[0] if mark else b""
