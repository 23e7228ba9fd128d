"""The tables that HPACK refers to (RFC 7541 section 2.3). The dynamic one is a value: a change makes a new table. Pure.

So "the table is the same as before" is a comparison of two references, a table may be shared by all connections whose
clients said the same so far, and what a header block means can be kept in the table it was read against (``known``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from hpack.table import HeaderTable

if TYPE_CHECKING:
    from sidecar.http2.heads import Entry

Field: TypeAlias = tuple[bytes, bytes]
"""Name and value, as decoded."""

STATIC_LENGTH: Final = HeaderTable.STATIC_TABLE_LENGTH
STATIC: Final[tuple[Field, ...]] = ((b"", b""), *HeaderTable.STATIC_TABLE)
"""By index; index 0 is unlawful and must be refused before the look-up."""
ENTRY_OVERHEAD_BYTES: Final = 32
DEFAULT_TABLE_BYTES: Final = 4096


class NeverIndexed(tuple[bytes, bytes]):
    """A field that no hop may put into a table (RFC 7541 section 6.2.3); equal to the plain pair."""

    __slots__ = ()


class Table:
    """One state of a dynamic table. ``entries`` has the newest last; it is never changed once the table is made."""

    __slots__ = ("depth", "entries", "known", "limit_bytes", "settled", "size_bytes")

    def __init__(
        self,
        entries: list[Field] | None = None,
        size_bytes: int = 0,
        limit_bytes: int = DEFAULT_TABLE_BYTES,
        depth: int = 0,
    ) -> None:
        self.entries: list[Field] = [] if entries is None else entries
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        """What the encoder allows itself, by its last size update."""
        self.depth = depth
        """Blocks that changed the table, from the empty one to this."""
        self.settled = False
        """`Heads` keeps it as the one table of its content, so what is read against it is worth keeping."""
        self.known: dict[bytes, Entry] = {}
        """Blocks read against this table; kept and bounded by `Heads`."""
