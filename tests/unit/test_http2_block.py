"""Header blocks, read as RFC 7541 says, with the library as the oracle."""

from __future__ import annotations

import hpack
import pytest

from sidecar.http2.block import FIELDS_READ, read_block
from sidecar.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM
from sidecar.http2.literal import SIZE_UPDATE_ZERO, encode, literal, size_update
from sidecar.http2.reasons import BrokenError
from sidecar.http2.table import Field, NeverIndexed, Table

FIELDS: list[Field] = [
    (b":method", b"GET"),
    (b":path", b"/orders/17?a=b"),
    (b"cookie", b"crumb=1"),
    (b"x-empty", b""),
    (b"x-long", b"v" * 500),
]


def read(block: bytes, table: Table | None = None, ceiling: int = 4096) -> tuple[list[Field], Table]:
    return read_block(block, table or Table(), ceiling, {})


@pytest.mark.parametrize("huffman", [False, True])
def test_blocks_of_a_library_encoder_read_as_they_were_written(huffman: bool) -> None:
    encoder, decoder, table = hpack.Encoder(), hpack.Decoder(), Table()
    for _ in range(4):
        block = encoder.encode(FIELDS, huffman=huffman)
        fields, table = read(block, table)
        assert fields == FIELDS == decoder.decode(block, raw=True)
        assert list(reversed(table.entries)) == list(decoder.header_table.dynamic_entries)
        assert table.size_bytes == decoder.header_table._current_size


def test_a_table_is_never_changed_once_it_is_made() -> None:
    encoder = hpack.Encoder()
    empty = Table()
    _, first = read(encoder.encode(FIELDS), empty)
    assert empty.entries == []
    kept = list(first.entries)
    _, second = read(encoder.encode([(b"x-other", b"1")]), first)
    assert first.entries == kept
    assert second.entries == [*kept, (b"x-other", b"1")]
    assert (empty.depth, first.depth, second.depth) == (0, 1, 2)


def test_a_block_that_changes_nothing_leaves_the_very_table() -> None:
    table = Table()
    assert read(b"\x82" + literal(b"x-a", b"1") + literal(b"x-b", b"2", never_indexed=True), table)[1] is table


def test_the_oldest_entries_make_room() -> None:
    table = Table(limit_bytes=100)
    one = b"\x40\x01a\x01" + b"1"
    _, table = read(one, table)
    _, table = read(b"\x40\x01b\x012", table)
    _, table = read(b"\x40\x01c\x013", table)
    assert table.entries == [(b"b", b"2"), (b"c", b"3")]
    _, table = read(b"\x40\x01d\x64" + b"x" * 100, table)  # larger than the table: it empties it
    assert table.entries == []
    assert table.size_bytes == 0


def test_size_updates_evict_and_are_counted_as_a_change() -> None:
    _, table = read(b"\x40\x01a\x011\x40\x01b\x012")
    fields, after = read(size_update(40) + b"\x82", table)
    assert fields == [(b":method", b"GET")]
    assert (after.entries, after.limit_bytes) == ([(b"b", b"2")], 40)
    _, after = read(SIZE_UPDATE_ZERO + size_update(4096), table)
    assert (after.entries, after.size_bytes, after.limit_bytes) == ([], 0, 4096)
    assert read(size_update(4096), table)[1] is not table


def test_never_indexed_fields_are_told_apart_but_equal() -> None:
    (field,), _ = read(literal(b"authorization", b"token", never_indexed=True))
    assert isinstance(field, NeverIndexed)
    assert field == (b"authorization", b"token")


def test_a_name_may_come_from_an_entry_that_its_own_field_evicts() -> None:
    _, table = read(b"\x40\x01a" + b"\x32" + b"x" * 50, Table(limit_bytes=90))
    fields, table = read(b"\x7e\x33" + b"y" * 51, table)
    assert fields == [(b"a", b"y" * 51)]
    assert table.entries == fields


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # index 62 of an empty table
        b"\xff\x80\x80\x80\x80\x01",  # an index without end
        b"\xff\xff\xff\xff\x7f",
        b"\xff",
        b"\x40",
        b"\x40\x05abc",
        b"\x40\x01a",
        b"\x40\x01a\x05b",
        b"\x7e\x01a",  # name of an entry that is not there
        b"\x0f\x80",
        b"\x00\x7f\xff\xff\xff\x7f",
        b"\x82\x20",  # size update behind a field
        b"\x3f\xe2\x1f",  # 4097 bytes
        b"\x00\x81\xff\x00",  # Huffman: nothing but padding
        b"\x00\x01a\x81\xfe",  # Huffman: padding with a zero
        b"\x00\x01a\x84\xff\xff\xff\xff",  # Huffman: the end-of-string symbol
        b"\x00\x01a\x82\x1f\xff",  # Huffman: more than seven bits of padding
    ],
)
def test_a_block_that_cannot_be_read_breaks_the_connection(block: bytes) -> None:
    with pytest.raises(BrokenError) as caught:
        read(block)
    assert caught.value.code == COMPRESSION_ERROR
    with pytest.raises(hpack.HPACKError):
        hpack.Decoder().decode(block, raw=True)


def test_a_table_above_the_agreed_ceiling_is_refused_even_if_the_block_says_nothing() -> None:
    _, table = read(b"\x40\x01a\x011")
    assert read(size_update(100) + b"\x82", table, 100)[0]
    with pytest.raises(BrokenError):
        read(b"\x82", table, 100)
    with pytest.raises(BrokenError):
        read(size_update(101) + b"\x82", table, 100)


def test_a_bomb_of_references_is_cut_off() -> None:
    assert len(read(b"\x82" * FIELDS_READ)[0]) == FIELDS_READ
    with pytest.raises(BrokenError) as caught:
        read(b"\x82" * (FIELDS_READ + 1))
    assert caught.value.code == ENHANCE_YOUR_CALM


def test_huffman_strings_are_remembered_within_bounds() -> None:
    strings: dict[bytes, bytes] = {}
    for number in range(5000):
        read_block(hpack.Encoder().encode([(b"x-n", b"number %d" % number)]), Table(), 4096, strings)
        assert 0 < len(strings) <= 4096
    before = dict(strings)
    read_block(hpack.Encoder().encode([(b"x-n", b"n" * 1000)]), Table(), 4096, strings)
    assert strings == before  # too long to keep


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 16_383, 100_000])
def test_what_is_written_is_read_by_the_library(length: int) -> None:
    fields: list[Field] = [(b":status", b"200"), (b"content-type", b"x" * length), (b"y" * (length or 1), b"z")]
    block = encode(fields)
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    assert decoder.decode(block, raw=True) == fields
    assert not decoder.header_table.dynamic_entries
    assert read(block)[0] == fields


def test_never_indexed_fields_are_written_so() -> None:
    block = encode([NeverIndexed((b":method", b"GET")), NeverIndexed((b"x", b"1"))])
    found = hpack.Decoder().decode(block, raw=True)
    assert [type(field) for field in found] == [hpack.NeverIndexedHeaderTuple] * 2
    assert found == [(b":method", b"GET"), (b"x", b"1")]


@pytest.mark.parametrize("size", [0, 30, 31, 100, 4096])
def test_size_updates_are_written_as_the_library_reads_them(size: int) -> None:
    decoder = hpack.Decoder()
    decoder.decode(size_update(size), raw=True)
    assert decoder.header_table_size == size
