"""Requests that have no verdict yet, and what came behind them on their streams. Pure.

Theory of operation. A header block has to be read when it comes, since the next one may refer to what it put into the
table; and streams must be opened in the order of their ids (RFC 9113 section 5.1.1), so a request cannot overtake the
one before it. Hence: a request that waits, and every request after it, is kept as a block that was read, along with the
frames on these streams; frames on streams that are open already, and on the connection, pass. What was kept is then
taken as if it came just now, in its order. From the first such request on the two tables of the direction are out of
step, so every block is written anew (`direction`: In step).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.http2.heads import Entry

HELD_LIMIT_BYTES: Final = 2 * 1024 * 1024
"""What is kept; more and the connection ends. An adapter reads no more long before."""
PAUSED_BYTES: Final = 64 * 1024
_ITEM_BYTES: Final = 256  # of an item, beside its bytes


@dataclass(slots=True)
class HeldBlock:
    """A header block that was read."""

    stream_id: int
    end: bool
    block: bytes
    entry: Entry
    opens: bool
    """Of a new stream; else trailers."""

    @property
    def size_bytes(self) -> int:
        return _ITEM_BYTES + len(self.block)


@dataclass(slots=True)
class HeldFrame:
    """A frame of another kind, with its header."""

    stream_id: int
    kind: int
    flags: int
    frame: bytes

    @property
    def size_bytes(self) -> int:
        return _ITEM_BYTES + len(self.frame)


class Held:
    """What is kept of one connection, in its order."""

    __slots__ = ("_items", "from_id", "size_bytes")

    def __init__(self) -> None:
        self._items: list[HeldBlock | HeldFrame] = []
        self.from_id = 0
        """The stream whose request waits; those above it wait behind it."""
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, item: HeldBlock | HeldFrame) -> bool:
        """Keep ``item``; False if that is too much."""
        if not self._items:
            self.from_id = item.stream_id
        self._items.append(item)
        self.size_bytes += item.size_bytes
        return self.size_bytes <= HELD_LIMIT_BYTES

    def take(self) -> list[HeldBlock | HeldFrame]:
        """All that was kept; nothing is, then."""
        items, self._items = self._items, []
        self.size_bytes = 0
        return items
