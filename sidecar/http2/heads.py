"""Header blocks, read once and remembered by their exact bytes, for all connections of one direction of a sidecar.

A block means the same whenever it is read against the same table, so what it said is kept in that table
(`Table.known`). Tables are values: the first requests of every client of one kind lead through the same tables, and
are looked up, not read. The memory is bounded over all tables; when it would pass its bound, all of it is forgotten,
so hostile blocks cost their reading, no more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sidecar.http1.fields import FieldNames
from sidecar.http1.head import DEFAULT_PREFIXES, DEFAULT_PRIVATE
from sidecar.http2.block import read_block
from sidecar.http2.frames import ENHANCE_YOUR_CALM
from sidecar.http2.head import HeadReader, RequestHead, ResponseHead
from sidecar.http2.reasons import Broken, BrokenError, Malformed, MalformedError
from sidecar.http2.table import ENTRY_OVERHEAD_BYTES, Field, Table

LIST_LIMIT_BYTES: Final = 64 * 1024
"""A header list, as RFC 9113 section 6.5.2 counts it; above it a request is refused."""
LIST_CEILING_BYTES: Final = 4 * LIST_LIMIT_BYTES
"""Above this it counts as a bomb, and costs the connection."""
REMEMBERED_BYTES: Final = 4 * 1024 * 1024
_REMEMBERED_BLOCK_BYTES: Final = 2048
_REMEMBERED_DEPTH: Final = 16
_STATIC_ENTRY_BYTES: Final = 64
_ENTRY_BYTES: Final = 600  # of an entry, its head and its fields, beside the strings
_SETTLED_TABLES: Final = 64
_FRUITLESS_TRIES: Final = 256
_FRUITLESS_PERIOD: Final = 16
_SIZE_UPDATE: Final = 0x20
DEFAULT_PROTOCOLS: Final = frozenset({b"websocket"})


class Entry:
    """A block that was read: its fields, the table after it, and what they say, filled in when it is asked."""

    __slots__ = (
        "after",
        "fields",
        "list_bytes",
        "plain_response",
        "request",
        "request_trailers",
        "response",
        "response_trailers",
    )

    def __init__(self, fields: list[Field], after: Table | None, list_bytes: int) -> None:
        self.fields = fields
        self.after = after
        """None: the table is what it was, or one of equal content."""
        self.list_bytes = list_bytes
        """At least the size of the list; exact where it is near the limit."""
        self.request: RequestHead | None = None
        self.response: ResponseHead | None = None
        self.plain_response: ResponseHead | None = None
        """`response`, if it is a final one, nothing is to be taken out of it, and the table is what it was."""
        self.request_trailers: ResponseHead | None = None
        self.response_trailers: ResponseHead | None = None


class Heads:
    """Reads blocks by one set of rules. One per direction of a sidecar, shared by its connections.

    private, prefixes   lower-case names, and beginnings of names, of the fields that only a sidecar may set; they are
                        taken out of requests and responses alike, in any spelling, and refused in request trailers
    refusal_name        the private response field whose value becomes `ResponseHead.refusal`; None on the inbound
                        side, where such a field comes from the application and is a forgery
    protocols           what an extended CONNECT may ask for, where the server offers it
    """

    __slots__ = (
        "_filled",
        "_fruitless",
        "_reader",
        "_remembered_bytes",
        "_strings",
        "_tables",
        "_tries",
        "protocols",
        "request_table",
        "response_table",
    )

    def __init__(
        self,
        *,
        private: Collection[bytes] = DEFAULT_PRIVATE,
        prefixes: Collection[bytes] = DEFAULT_PREFIXES,
        refusal_name: bytes | None = None,
        protocols: Collection[bytes] = DEFAULT_PROTOCOLS,
    ) -> None:
        taken = frozenset(private) | ({refusal_name} if refusal_name else set())
        names = FieldNames(wanted=frozenset(), private=taken, prefixes=tuple(prefixes))
        self.protocols = frozenset(protocols)
        self._reader = HeadReader(names, refusal_name, self.protocols)
        self._strings: dict[bytes, bytes] = {}
        self._filled: list[Table] = []
        self._remembered_bytes = 0
        self._tables: dict[tuple[int, tuple[Field, ...]], Table] = {}
        self._tries = 0
        self._fruitless = 0
        self.request_table = Table()
        """The empty table that each client begins with."""
        self.response_table = Table()

    def read(self, block: bytes, table: Table, ceiling_bytes: int) -> Entry:
        """Read ``block`` against ``table``, whose `Table.known` does not hold it; raises `BrokenError`."""
        fields, after = read_block(block, table, ceiling_bytes, self._strings)
        if after is not table and after.depth > _REMEMBERED_DEPTH:
            after = self._settled(table, after)
        changed = after is not table
        # No field can be longer than the table, a static entry, or what its own bytes decode to.
        longest = table.limit_bytes if changed else table.size_bytes
        size = len(fields) * (ENTRY_OVERHEAD_BYTES + _STATIC_ENTRY_BYTES + longest) + 2 * len(block)
        if size > LIST_LIMIT_BYTES:
            size = sum(len(name) + len(value) for name, value in fields) + ENTRY_OVERHEAD_BYTES * len(fields)
            if size > LIST_CEILING_BYTES:
                raise BrokenError(ENHANCE_YOUR_CALM, Broken.HEADER_BOMB, f"header list of {size} bytes")
        entry = Entry(fields, after if changed else None, size)
        # Whether a size update is lawful depends on the connection, so a block with one is read every time.
        if (
            0 < len(block) <= _REMEMBERED_BLOCK_BYTES
            and block[0] & 0xE0 != _SIZE_UPDATE
            and (not changed or table.depth < _REMEMBERED_DEPTH or after.settled)
        ):
            self._remember(block, table, entry, after.size_bytes if changed else 0)
        return entry

    def _settled(self, table: Table, after: Table) -> Table:
        """``after``, or a table of equal content that is known already.

        An encoder that adds the same fields with every block (nginx adds ``date``, ``content-type`` and more, and never
        refers to them) goes round in few tables, or stays in one, once its table is full: each entry that it adds
        drives out an equal one. Tables are compared by content, which is all that a block can refer to, so a block
        that leads back to ``table`` has not changed it. Where nothing ever comes back, only some blocks are tried.
        """
        self._tries += 1
        if self._fruitless > _FRUITLESS_TRIES and self._tries % _FRUITLESS_PERIOD:
            return after
        if after.entries == table.entries and after.limit_bytes == table.limit_bytes:
            self._fruitless = 0
            return table
        key = (after.limit_bytes, tuple(after.entries))
        found = self._tables.get(key)
        if found is not None:
            self._fruitless = 0
            return found
        self._fruitless += 1
        if len(self._tables) >= _SETTLED_TABLES:
            self._tables.clear()
        after.settled = True
        self._tables[key] = after
        return after

    def _remember(self, block: bytes, table: Table, entry: Entry, table_bytes: int) -> None:
        cost = _ENTRY_BYTES + 3 * len(block) + table_bytes
        if self._remembered_bytes + cost > REMEMBERED_BYTES:
            for filled in self._filled:
                filled.known.clear()
            self._filled.clear()
            self._remembered_bytes = 0
        self._remembered_bytes += cost
        if not table.known:
            self._filled.append(table)
        table.known[block] = entry

    def request(self, entry: Entry) -> RequestHead:
        """What ``entry`` says as a request's header section; raises `MalformedError`."""
        self._check_size(entry)
        head = entry.request = self._reader.request(entry.fields)
        return head

    def response(self, entry: Entry) -> ResponseHead:
        """What ``entry`` says as a response's header section; raises `MalformedError`."""
        self._check_size(entry)
        head = entry.response = self._reader.response(entry.fields)
        if head.status >= 200 and head.kept is None and entry.after is None:
            entry.plain_response = head
        return head

    def request_trailers(self, entry: Entry) -> ResponseHead:
        """Raises `MalformedError`."""
        self._check_size(entry)
        head = entry.request_trailers = self._reader.request_trailers(entry.fields)
        return head

    def response_trailers(self, entry: Entry) -> ResponseHead:
        """Raises `MalformedError`."""
        self._check_size(entry)
        head = entry.response_trailers = self._reader.response_trailers(entry.fields)
        return head

    @staticmethod
    def _check_size(entry: Entry) -> None:
        if entry.list_bytes > LIST_LIMIT_BYTES:
            detail = f"header list of {entry.list_bytes} bytes, {LIST_LIMIT_BYTES} allowed"
            raise MalformedError(Malformed.HEAD_TOO_LARGE, detail)
