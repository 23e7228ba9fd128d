"""Where a body ends, by the framing its head announced (RFC 9112 sections 6 and 7); the bytes themselves pass as they
are.

Three machines with one shape: ``take(data, pos, out) -> pos`` consumes what belongs to this body from ``data[pos:]``,
appends to ``out`` what may be forwarded, and sets ``ended``. Bytes are cut through at once, but for chunk-size lines,
the CR LF after a chunk and trailers: these are held until they are complete and lawful, so that no reader behind us
ever sees half of one that we then refuse, and the forwarded bytes do not depend on how the input was cut. All holds
are bounded.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from sidecar.http1.fields import FieldNames, plain_name, read_block
from sidecar.http1.framing import CHUNKED, LENGTH_LIMIT, UNTIL_CLOSE
from sidecar.http1.head import Heads
from sidecar.http1.reasons import Malformed, MalformedError, shown

SIZE_DIGITS: Final = 16
TRAILERS_LIMIT_BYTES: Final = 8 * 1024
"""Trailer fields with the empty line."""

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n").match
_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")
_SIZE_LINE_LIMIT_BYTES: Final = SIZE_DIGITS + 2
_FORBIDDEN_TRAILERS: Final = frozenset(
    b"transfer-encoding content-length host connection keep-alive proxy-connection te trailer upgrade expect "
    b"http2-settings max-forwards cache-control pragma range if-match if-none-match if-modified-since "
    b"if-unmodified-since if-range authorization proxy-authorization proxy-authenticate www-authenticate cookie "
    b"set-cookie content-type content-encoding content-range content-location location age date expires vary "
    b"retry-after forwarded x-real-ip".split()
)
"""RFC 9110 section 6.5.1: framing, routing, authentication, modifiers and what tells how to read the content."""
_TRAILER_NAMES: Final = FieldNames(wanted=_FORBIDDEN_TRAILERS)


class Body(Protocol):
    """One body being read."""

    ended: bool
    endless: bool
    """Only the end of the connection ends it."""

    def withhold(self, plain: frozenset[bytes]) -> None:
        """Refuse trailers with fields of these names (`plain_name`), too."""

    def take(self, data: bytes, pos: int, out: list[bytes]) -> int:
        """Consume from ``data[pos:]``; raises `MalformedError`."""


def body_for(length: int, heads: Heads) -> Body:
    """The machine for an announced ``length`` (never 0: such a body has ended before it began)."""
    if length == CHUNKED:
        return ChunkedBody(heads)
    return EndlessBody() if length == UNTIL_CLOSE else CountedBody(length)


class CountedBody:
    """A body of a known length in bytes."""

    __slots__ = ("ended", "remaining")
    endless = False

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.ended = length == 0

    def withhold(self, plain: frozenset[bytes]) -> None:
        """There are no trailers."""

    def take(self, data: bytes, pos: int, out: list[bytes]) -> int:
        size = len(data) - pos
        if size < self.remaining:
            self.remaining -= size
            out.append(data[pos:] if pos else data)
            return pos + size
        end = pos + self.remaining
        out.append(data[pos:end])
        self.remaining = 0
        self.ended = True
        return end


class EndlessBody:
    """A response body that the end of the connection ends."""

    __slots__ = ("ended",)
    endless = True

    def __init__(self) -> None:
        self.ended = False

    def withhold(self, plain: frozenset[bytes]) -> None:
        """There are no trailers."""

    def take(self, data: bytes, pos: int, out: list[bytes]) -> int:
        out.append(data[pos:] if pos else data)
        return len(data)


_IN_SIZE: Final = 0
_IN_DATA: Final = 1
_IN_DATA_END: Final = 2
_IN_TRAILERS: Final = 3


class ChunkedBody:
    """A chunked body: sizes of 1 to 16 hexadecimal digits, no extensions, exact CR LF, bounded and harmless
    trailers."""

    __slots__ = ("_heads", "_held", "_remaining", "_step", "_withheld", "ended")
    endless = False

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._held = b""
        self._remaining = 0
        self._step = _IN_SIZE
        self._withheld: frozenset[bytes] = frozenset()
        self.ended = False

    def withhold(self, plain: frozenset[bytes]) -> None:
        self._withheld = plain

    def take(self, data: bytes, pos: int, out: list[bytes]) -> int:
        if self._held:
            data = self._held + data[pos:]
            shift = pos - len(self._held)
            self._held = b""
            return self._read(data, 0, out) + shift
        return self._read(data, pos, out)

    def _read(self, data: bytes, pos: int, out: list[bytes]) -> int:
        """Consume ``data[pos:]`` of which nothing is held; what has been checked leaves in one piece."""
        start = pos
        size = len(data)
        try:
            while pos < size and not self.ended:
                if self._step == _IN_DATA:
                    taken = min(self._remaining, size - pos)
                    pos += taken
                    self._remaining -= taken
                    if not self._remaining:
                        self._step = _IN_DATA_END
                    continue
                if self._step == _IN_SIZE:
                    pos = _after_whole_chunks(data, pos)
                    if pos == size:
                        break
                    end = self._read_size(data, pos)
                elif self._step == _IN_DATA_END:
                    end = self._read_data_end(data, pos)
                else:
                    end = self._read_trailers(data, pos)
                if end < 0:
                    self._held = data[pos:]
                    return size
                pos = end
        finally:
            if pos > start:
                out.append(data[start:pos])
        return pos

    def _read_size(self, data: bytes, pos: int) -> int:
        """The position after a size line, or -1 if it is incomplete."""
        end = data.find(b"\n", pos, pos + _SIZE_LINE_LIMIT_BYTES)
        line = data[pos : end + 1] if end >= 0 else data[pos : pos + _SIZE_LINE_LIMIT_BYTES]
        match = _SIZE.match(line)
        digits = match[0] if match else b""
        rest = line[len(digits) :]
        if not (digits and b"\r\n".startswith(rest)):
            if digits and rest.startswith(b";"):
                raise MalformedError(Malformed.CHUNK_EXTENSION, f"chunk extension in {shown(line)}")
            if digits and rest.startswith(b"\n"):
                raise MalformedError(Malformed.BARE_LF, f"chunk size line {shown(line)} ends in a lone line feed")
            raise MalformedError(Malformed.BAD_CHUNK_SIZE, f"chunk size line {shown(line)}")
        if rest != b"\r\n":
            return -1
        self._remaining = int(digits, 16)
        if self._remaining > LENGTH_LIMIT:
            raise MalformedError(Malformed.BAD_CHUNK_SIZE, f"chunk of {shown(digits)} bytes")
        self._step = _IN_DATA if self._remaining else _IN_TRAILERS
        return end + 1

    def _read_data_end(self, data: bytes, pos: int) -> int:
        """The position after the CR LF that closes a chunk, or -1."""
        ending = data[pos : pos + 2]
        if ending == b"\r\n":
            self._step = _IN_SIZE
            return pos + 2
        if ending == b"\r":
            return -1
        raise MalformedError(Malformed.BAD_CHUNK_END, f"chunk data followed by {shown(ending)}")

    def _read_trailers(self, data: bytes, pos: int) -> int:
        """The position after the trailer section, or -1."""
        first = data[pos : pos + 2]
        if first == b"\r\n":
            self.ended = True
            return pos + 2
        if first == b"\r":
            return -1
        limit = pos + TRAILERS_LIMIT_BYTES
        end = data.find(b"\r\n\r\n", pos, limit)
        stop = limit if end < 0 else end
        if data.count(b"\n", pos, stop) != data.count(b"\r\n", pos, stop):
            raise MalformedError(Malformed.BARE_LF, "trailer line ends in a lone line feed")
        if end < 0:
            if len(data) >= limit:
                raise MalformedError(Malformed.BAD_TRAILER, f"trailers above {TRAILERS_LIMIT_BYTES} bytes")
            return -1
        named, _ = read_block(data[pos : end + 4], _TRAILER_NAMES)
        for line in data[pos:end].split(b"\r\n"):
            name = line.partition(b":")[0].lower()
            foreign = name in named or name.startswith(b"x-forwarded-") or self._heads.is_private(name)
            if foreign or (self._withheld and plain_name(name) in self._withheld):
                raise MalformedError(Malformed.BAD_TRAILER, f"trailer field {shown(name)}")
        self.ended = True
        return end + 4


def _after_whole_chunks(data: bytes, pos: int) -> int:
    """The position after the lawful chunks that lie whole in ``data``; small ones come in thousands: keep it tight."""
    while (match := _SIZE_LINE(data, pos)) is not None:
        start = match.end()
        end = start + int(match[1], 16)
        if end == start or data[end : end + 2] != b"\r\n":
            break
        pos = end + 2
    return pos
