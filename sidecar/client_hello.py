"""A TLS ClientHello: the server name and the application protocols that it asks for (RFC 8446 section 4.1.2). Pure.

Read, never trusted: for choosing an egress rule by the name, and for telling in logs what passes through unread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

HELLO_LIMIT_BYTES: Final = 16 * 1024
HANDSHAKE_RECORD: Final = 0x16
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0  # RFC 6066 section 3
_ALPN: Final = 16  # RFC 7301 section 3.1
_ALPN_SHOWN: Final = 4
_ALPN_SHOWN_BYTES: Final = 16
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """``server_name``: lower case, "" if it told none, or what two readers could take for two.

    ``alpn``: the protocols offered, for people to read: printable, a few of them, with commas between.
    """

    server_name: str
    alpn: str


NOTHING_TOLD: Final = Hello(server_name="", alpn="")


def read_hello(data: bytes) -> Hello | None:
    """The ClientHello that ``data`` begins with, which may span records; None: more bytes are needed.

    What is no ClientHello after all tells nothing.
    """
    hello = bytearray()
    pos = 0
    while pos + 5 <= len(data):
        if data[pos] != HANDSHAKE_RECORD:
            return NOTHING_TOLD
        size = int.from_bytes(data[pos + 3 : pos + 5], "big")
        hello += data[pos + 5 : pos + 5 + size]
        pos += 5 + size
        if hello and hello[0] != _CLIENT_HELLO:
            return NOTHING_TOLD
        if len(hello) >= 4 and len(hello) >= 4 + (whole := int.from_bytes(hello[1:4], "big")):
            try:
                return _told(_Reader(bytes(hello), 4, 4 + whole))
            except _ShortError:
                return NOTHING_TOLD
    return None


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


def _told(reader: _Reader) -> Hello:
    reader.take(2 + 32)  # version, random
    reader.take(reader.number(1))  # session id
    reader.take(reader.number(2))  # cipher suites
    reader.take(reader.number(1))  # compression methods
    reader.within(reader.number(2))  # all extensions
    names: list[str] = []
    offered: list[bytes] = []
    while reader.more:
        kind = reader.number(2)
        body = reader.take(reader.number(2))
        if kind == _SERVER_NAME:
            names += _names(_Reader(body, 0, len(body)))
        elif kind == _ALPN:
            offered += _protocols(_Reader(body, 0, len(body)))
    return Hello(server_name=names[0] if len(names) == 1 else "", alpn=_shown(offered))


def _names(reader: _Reader) -> list[str]:
    """Each name asked for, "" for one that is none; more than one is none for the caller."""
    reader.within(reader.number(2))
    found = []
    while reader.more:
        is_host = reader.number(1) == 0
        name = reader.take(reader.number(2))
        found.append(host_name(name) if is_host and b":" not in name else "")
    return found


def _protocols(reader: _Reader) -> list[bytes]:
    reader.within(reader.number(2))
    found = []
    while reader.more:
        found.append(reader.take(reader.number(1)))
    return found


def _shown(offered: list[bytes]) -> str:
    """A client writes these bytes, and people read them in a log."""
    shown = [
        "".join(chr(byte) if 0x20 < byte < 0x7F and byte not in b'",\\' else f"%{byte:02x}" for byte in name)
        for name in (name[:_ALPN_SHOWN_BYTES] for name in offered[:_ALPN_SHOWN])
    ]
    return ",".join(shown) + (",…" if len(offered) > _ALPN_SHOWN else "")
