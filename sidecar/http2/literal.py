"""HPACK written without a dynamic table: fields that mean the same to every receiver, whatever it has read. Pure.

Used for the field that is appended to a block which passes as it is, for answers made on this side, and for every
block of a direction whose two tables have come apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.http2.table import STATIC, Field, NeverIndexed

SIZE_UPDATE_ZERO: Final = b"\x20"
"""Empties the receiver's dynamic table and keeps it empty (RFC 7541 section 6.3)."""


def _integer(value: int, prefix_bits: int, lead: int) -> bytes:
    """``value`` in the integer form of RFC 7541 section 5.1, ``lead`` being the bits above the prefix."""
    top = (1 << prefix_bits) - 1
    if value < top:
        return bytes((lead | value,))
    octets = bytearray((lead | top,))
    value -= top
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _indexes() -> tuple[dict[Field, bytes], dict[bytes, int]]:
    """Whole static fields as they are written, and the lowest static index of each name."""
    whole: dict[Field, bytes] = {}
    names: dict[bytes, int] = {}
    for index, field in enumerate(STATIC[1:], 1):
        whole[field] = _integer(index, 7, 0x80)
        names.setdefault(field[0], index)
    return whole, names


_WHOLE, _NAMES = _indexes()
_LEADS: Final = {name: _integer(index, 4, 0) for name, index in _NAMES.items()}
_SHORT: Final = tuple(bytes((length,)) for length in range(127))
"""Lengths of strings, as most are written."""


def literal(name: bytes, value: bytes, *, never_indexed: bool = False) -> bytes:
    """One field, not to be indexed; ``name`` is in lower case. Strings go without Huffman coding: the bytes saved on
    the way to a neighbour are worth less than the time of both."""
    index = _NAMES.get(name, 0)
    lead = _integer(index, 4, 0x10 if never_indexed else 0)
    text = _integer(len(value), 7, 0) + value
    return lead + text if index else lead + _integer(len(name), 7, 0) + name + text


def encode(fields: Iterable[Field]) -> bytes:
    """A header block that leaves the receiver's dynamic table as it is and refers to nothing in it."""
    parts = []
    for field in fields:
        if type(field) is NeverIndexed:
            parts.append(literal(*field, never_indexed=True))
            continue
        whole = _WHOLE.get(field)
        if whole is not None:
            parts.append(whole)
            continue
        name, value = field
        if len(value) < 127 and len(name) < 127:
            lead = _LEADS.get(name) or b"\0" + _SHORT[len(name)] + name
            parts += (lead, _SHORT[len(value)], value)
        else:
            parts.append(literal(name, value))
    return b"".join(parts)


def size_update(size_bytes: int) -> bytes:
    return _integer(size_bytes, 5, 0x20)
