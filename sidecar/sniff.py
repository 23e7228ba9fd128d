"""What the first bytes of a connection say: TLS with its server name, HTTP/2, HTTP/1 with its host, or nothing known.

Pure. Each function takes all bytes seen so far and answers None while more are needed to tell; nothing here trusts what
it reads further than to choose a rule by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SNIFF_LIMIT_BYTES: Final = 16 * 1024
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HANDSHAKE_RECORD: Final = 0x16
_CLIENT_HELLO: Final = 1
_METHOD: Final = re.compile(rb"[A-Z]{3,16} ")
_METHOD_BEGUN: Final = re.compile(rb"[A-Z]{1,16}")
# Blanks around the name are no field name to a strict reader, but to a lenient one they are: such a line counts, too.
_HOST_FIELD: Final = re.compile(rb"\n[ \t]*host[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n(.?))", re.IGNORECASE | re.DOTALL)
_BARE_BREAK: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)


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
    if data[0] == _HANDSHAKE_RECORD:
        if len(data) < 3:
            return None
        return Kind.TLS if data[1] == 3 and data[2] <= 4 else Kind.OPAQUE
    if _PREFACE.startswith(data[: len(_PREFACE)]):
        return Kind.HTTP2 if len(data) >= len(_PREFACE) else None
    if _METHOD.match(data):
        return Kind.HTTP1
    begun = _METHOD_BEGUN.fullmatch(data)
    return None if begun else Kind.OPAQUE


def _http_host(data: bytes) -> str | None:
    """The one host that a request names (RFC 9112 section 3.2); "" where two readers could take two hosts from it."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[: end + 4]
    found = _HOST_FIELD.findall(head)
    if _BARE_BREAK.search(head) or len(found) != 1 or found[0][1] in (b" ", b"\t"):
        return ""
    host = host_name(found[0][0])
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


def host_name(value: bytes) -> str:
    """A DNS name in ``value`` without its port, lower case; "" if it is none."""
    text = value.decode("ascii", "replace").lower()
    name, colon, port = text.partition(":")
    if (colon and not port.isascii()) or (port and not port.isdigit()):
        return ""
    name = name.removesuffix(".")
    return name if _HOST_NAME.fullmatch(name) else ""


class _ShortError(Exception):
    """The bytes end before the field does, or after it where they must not."""


class _Reader:
    """Reads big-endian fields of a ClientHello."""

    __slots__ = ("_data", "_end", "_pos")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data = data
        self._pos = start
        self._end = end

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        if self._pos + size > self._end:
            raise _ShortError
        piece = self._data[self._pos : self._pos + size]
        self._pos += size
        return piece

    def within(self, size: int) -> None:
        """What is left must be exactly ``size`` bytes."""
        if self._pos + size != self._end:
            raise _ShortError

    @property
    def more(self) -> bool:
        return self._pos < self._end


def _server_name(data: bytes) -> str | None:
    """``server_name`` of a ClientHello (RFC 6066 section 3), which may span records; None: more bytes needed."""
    hello = bytearray()
    pos = 0
    while pos + 5 <= len(data):
        if data[pos] != _HANDSHAKE_RECORD:
            return ""
        size = int.from_bytes(data[pos + 3 : pos + 5], "big")
        hello += data[pos + 5 : pos + 5 + size]
        pos += 5 + size
        if hello and hello[0] != _CLIENT_HELLO:
            return ""
        if len(hello) >= 4 and len(hello) >= 4 + (whole := int.from_bytes(hello[1:4], "big")):
            try:
                return _name_in(_Reader(bytes(hello), 4, 4 + whole))
            except _ShortError:
                return ""
    return None


def _name_in(reader: _Reader) -> str:
    """The one name asked for; "" if there is none, or if two readers could find two."""
    reader.take(2 + 32)  # version, random
    reader.take(reader.number(1))  # session id
    reader.take(reader.number(2))  # cipher suites
    reader.take(reader.number(1))  # compression methods
    reader.within(reader.number(2))  # all extensions
    found: list[str] = []
    while reader.more:
        kind = reader.number(2)
        body = reader.take(reader.number(2))
        if kind == 0:
            names = _Reader(body, 0, len(body))
            names.within(names.number(2))
            while names.more:
                is_host = names.number(1) == 0
                name = names.take(names.number(2))
                found.append(host_name(name) if is_host and b":" not in name else "")
    return found[0] if len(found) == 1 else ""
