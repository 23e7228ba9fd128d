"""The tunnel's header blocks: HPACK by ``hpack``, with what repeats remembered. Sans-IO.

Nearly every header list of a tunnel was there before: the same CONNECT for each app connection, ``:status 200`` for
each answer. A block that leaves the dynamic table as it was means the same for as long as nothing else changes that
table (RFC 7541 section 2.3.2), so it is looked up rather than worked out, and all is forgotten with the next change.
"""

from __future__ import annotations

from typing import Final

import hpack
from hpack.hpack import encode_integer

from sidecar.tunnel.stream import Headers

TABLE_BYTES: Final = 4096
_REMEMBERED: Final = 256
_TABLE_SIZE_UPDATE: Final = 0x20  # of the three highest bits of a block's first byte


class Encoder:
    """Header lists to blocks, in the order in which the blocks are sent."""

    __slots__ = ("_encoder", "_known")

    def __init__(self) -> None:
        self._encoder = hpack.Encoder()
        self._known: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}

    def encode(self, headers: Headers) -> bytes:
        key = tuple(headers)
        known = self._known.get(key)
        if known is not None:
            return known
        encoder = self._encoder
        table = encoder.header_table.dynamic_entries
        newest = table[0] if table else None
        settled = not encoder.table_size_changes
        block = encoder.encode(headers, huffman=False)
        if not settled or (table[0] if table else None) is not newest or len(self._known) >= _REMEMBERED:
            self._known.clear()
        else:
            self._known[key] = block
        return block

    def encode_once(self, headers: Headers) -> bytes:
        """What will not come again, as the refusals that a change of policy sends by the hundred, each with an id of
        its own: literals (RFC 7541 section 6.2.2), which leave the table, and so what is remembered, as they are."""
        if self._encoder.table_size_changes:  # which this block would have to tell first
            return self.encode(headers)
        return b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in headers)

    def limit_table(self, size_bytes: int) -> None:
        """The peer's decoder takes a table of at most ``size_bytes``."""
        size_bytes = min(size_bytes, TABLE_BYTES)
        # hpack would take a size that is set twice for none, and not tell the peer of it.
        if size_bytes != self._encoder.header_table_size:
            self._known.clear()
            self._encoder.header_table_size = size_bytes


def _literal(text: bytes) -> bytes:
    """RFC 7541 section 5.2, without Huffman, which is Python here."""
    return bytes(encode_integer(len(text), 7)) + text


class Decoder:
    """Blocks to header lists, in the order in which the blocks came. ``decode`` raises ``hpack.HPACKError``."""

    __slots__ = ("_decoder", "_known")

    def __init__(self, limit_bytes: int) -> None:
        """``limit_bytes``: of a header list as RFC 9113 section 6.5.2 counts it."""
        self._decoder = hpack.Decoder(max_header_list_size=limit_bytes)
        self._decoder.max_allowed_table_size = TABLE_BYTES
        self._known: dict[bytes, Headers] = {}

    def decode(self, block: bytes) -> Headers:
        known = self._known.get(block)
        if known is not None:
            return known.copy()
        table = self._decoder.header_table.dynamic_entries
        newest = table[0] if table else None
        headers: Headers = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        settled = bool(block) and block[0] & 0xE0 != _TABLE_SIZE_UPDATE
        if not settled or (table[0] if table else None) is not newest or len(self._known) >= _REMEMBERED:
            self._known.clear()
        elif len(block) <= 64:  # only what is made of references: a peer's literals are not worth keeping
            self._known[block] = headers.copy()
        return headers
