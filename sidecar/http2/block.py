"""Reading a header block (RFC 7541 section 6): bytes and a table in, fields and the table after them out. Pure.

Written here, and not left to ``hpack``, because most blocks of real clients hold something new (a trace id, a path):
the library takes 15 to 30 µs for one, and its table cannot be shared or kept as a value. Huffman decoding is the
library's, and the library is the oracle in the tests. Every length and index is checked; what is refused here has
left the two tables of a direction out of step for good, so it costs the connection (RFC 9113 section 4.3).
"""

from __future__ import annotations

from typing import Final

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman

from sidecar.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM
from sidecar.http2.reasons import Broken, BrokenError
from sidecar.http2.table import ENTRY_OVERHEAD_BYTES, STATIC, STATIC_LENGTH, Field, NeverIndexed, Table

FIELDS_READ: Final = 1024
"""Fields of one block that are read before it counts as a bomb; each may refer to a large table entry."""

_INTEGER_LIMIT: Final = 1 << 28
_REMEMBERED_STRINGS: Final = 4096
_REMEMBERED_STRING_BYTES: Final = 64


def _error(detail: str) -> BrokenError:
    return BrokenError(COMPRESSION_ERROR, Broken.COMPRESSION, detail)


def read_block(
    block: bytes, table: Table, ceiling_bytes: int, strings: dict[bytes, bytes]
) -> tuple[list[Field], Table]:
    """The fields of ``block``, and the table after it (``table`` itself if nothing changed it).

    ``ceiling_bytes`` is the largest table the encoder may use; ``strings`` remembers Huffman-coded strings and is
    bounded here. Raises `BrokenError`.
    """
    fields: list[Field] = []
    entries = table.entries
    size, limit = table.size_bytes, table.limit_bytes
    changed = False
    pos, end = 0, len(block)
    try:
        while pos < end:
            if len(fields) >= FIELDS_READ:
                raise BrokenError(ENHANCE_YOUR_CALM, Broken.HEADER_BOMB, f"more than {FIELDS_READ} fields")
            byte = block[pos]
            pos += 1
            if byte & 0x80:
                index = byte & 0x7F
                if index == 0x7F:
                    index, pos = _integer(block, pos, 0x7F)
                if index > STATIC_LENGTH:
                    fields.append(entries[STATIC_LENGTH - index])
                elif index:
                    fields.append(STATIC[index])
                else:
                    raise _error("index 0")
                continue
            if byte & 0xE0 == 0x20:
                if fields:
                    raise _error("table size update behind a field")
                limit = byte & 0x1F
                if limit == 0x1F:
                    limit, pos = _integer(block, pos, 0x1F)
                if limit > ceiling_bytes:
                    raise _error(f"table of {limit} bytes, {ceiling_bytes} allowed")
                if not changed:
                    entries = entries.copy()
                    changed = True
                size = _evict(entries, size, limit)
                continue
            mask = 0x3F if byte & 0x40 else 0x0F
            index = byte & mask
            if index == mask:
                index, pos = _integer(block, pos, mask)
            if index > STATIC_LENGTH:
                name = entries[STATIC_LENGTH - index][0]
            elif index:
                name = STATIC[index][0]
            else:
                name, pos = _string(block, pos, strings)
            value, pos = _string(block, pos, strings)
            if byte & 0x40:
                field = (name, value)
                if not changed:
                    entries = entries.copy()
                    changed = True
                cost = len(name) + len(value) + ENTRY_OVERHEAD_BYTES
                size = _evict(entries, size, limit - cost)
                if cost <= limit:
                    entries.append(field)
                    size += cost
                fields.append(field)
            else:
                fields.append(NeverIndexed((name, value)) if byte & 0x10 else (name, value))
    except IndexError:
        raise _error("index out of the table, or a block cut short") from None
    except HPACKDecodingError as error:
        raise _error("bad Huffman code") from error
    if limit > ceiling_bytes:
        raise _error(f"table of {limit} bytes after {ceiling_bytes} were agreed")
    return fields, Table(entries, size, limit, table.depth + 1) if changed else table


def _integer(block: bytes, pos: int, value: int) -> tuple[int, int]:
    """The rest of an integer whose prefix was full; and the position behind it."""
    shift = 0
    while True:
        byte = block[pos]
        pos += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
        if shift > 28 or value > _INTEGER_LIMIT:
            raise _error("integer out of range")


def _string(block: bytes, pos: int, strings: dict[bytes, bytes]) -> tuple[bytes, int]:
    byte = block[pos]
    length = byte & 0x7F
    pos += 1
    if length == 0x7F:
        length, pos = _integer(block, pos, 0x7F)
    end = pos + length
    if end > len(block):
        raise IndexError
    raw = block[pos:end]
    if byte < 0x80:
        return raw, end
    text = strings.get(raw)
    if text is None:
        text = decode_huffman(raw)
        if length <= _REMEMBERED_STRING_BYTES:
            if len(strings) >= _REMEMBERED_STRINGS:
                strings.clear()
            strings[raw] = text
    return text, end


def _evict(entries: list[Field], size: int, room: int) -> int:
    """Drop the oldest entries until what is left fits ``room``; the size left."""
    dropped = 0
    while size > room and dropped < len(entries):
        name, value = entries[dropped]
        size -= len(name) + len(value) + ENTRY_OVERHEAD_BYTES
        dropped += 1
    del entries[:dropped]
    return size
