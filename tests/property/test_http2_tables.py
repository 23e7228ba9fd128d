"""Reading header blocks with remembered tables says the same as reading each afresh, however the tables go round."""

from __future__ import annotations

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http2.heads import Heads
from sidecar.http2.table import DEFAULT_TABLE_BYTES

FIELDS = [(b":status", b"200"), (b"server", b"nginx"), (b"content-type", b"text/plain"), (b"content-length", b"240")]


def added(fields: list[tuple[bytes, bytes]]) -> bytes:
    """A block in which every field is a literal that goes into the table, as nginx writes it."""
    return b"".join(
        b"\x40" + bytes((len(name),)) + name + bytes((len(value),)) + value
        for name, value in fields
        if len(value) < 127
    )


BLOCKS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([b"monday", b"tuesday", b"x" * 100])), min_size=30, max_size=200
)


@settings(max_examples=60, deadline=None)
@given(BLOCKS, st.integers(1, 4))
def test_a_reader_that_remembers_says_what_an_independent_decoder_says(
    blocks: list[tuple[int, bytes]], repeats: int
) -> None:
    heads, oracle = Heads(), hpack.Decoder()
    table = heads.response_table
    for kind, date in blocks:
        for _ in range(repeats):
            fields = [*FIELDS[: 2 + kind], (b"date", date)]
            block = added(fields)
            entry = table.known.get(block) or heads.read(block, table, DEFAULT_TABLE_BYTES)
            assert entry.fields == fields
            if entry.after is not None:
                table = entry.after
            assert [tuple(field) for field in oracle.decode(block, raw=True)] == fields
            # What an index into the table means is what the oracle's table says.
            assert table.entries[::-1] == list(oracle.header_table.dynamic_entries)


def test_an_encoder_that_always_adds_the_same_fields_settles_in_one_table() -> None:
    heads = Heads()
    table = heads.response_table
    block = added([*FIELDS, (b"date", b"Sun, 22 Nov 2026 22:00:00 GMT")])
    for _ in range(200):
        entry = table.known.get(block) or heads.read(block, table, DEFAULT_TABLE_BYTES)
        table = entry.after or table
    assert table.known[block].after is None


def test_tables_that_never_come_back_are_not_kept() -> None:
    heads = Heads()
    table = heads.response_table
    for number in range(5000):
        entry = heads.read(added([(b"x-id", b"%d" % number)]), table, DEFAULT_TABLE_BYTES)
        table = entry.after or table
    assert len(heads._tables) <= 64
