"""Remembered header blocks are those that ``hpack`` would make and read, whatever came before."""

from __future__ import annotations

import hpack
from hypothesis import given
from hypothesis import strategies as st

from sidecar.tunnel.blocks import Decoder, Encoder

# Few words, so that lists repeat and entries evict each other.
NAMES = st.sampled_from([b":method", b":authority", b":status", b"x-ringfence-refusal", b"a"])
VALUES = st.sampled_from([b"CONNECT", b"200", b"403", b"10.0.0.1:80", b"", b"v" * 900, b"w" * 1900, b"z" * 5000])
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
STEPS = st.lists(st.one_of(LISTS, st.sampled_from([0, 100, 1000, 4096, 65_536])), max_size=30)
LIMIT_BYTES = 12_000


@given(STEPS)
def test_blocks_are_those_of_hpack_and_lists_come_back(steps: list[list[tuple[bytes, bytes]] | int]) -> None:
    encoder, decoder = Encoder(), Decoder(1 << 20)
    plain = hpack.Encoder()
    for step in steps:
        if isinstance(step, int):
            encoder.limit_table(step)
            if plain.header_table_size != min(step, 4096):
                plain.header_table_size = min(step, 4096)
            continue
        block = encoder.encode(step)
        assert block == plain.encode(step, huffman=False)
        assert decoder.decode(block) == step


def read(decoder: Decoder | hpack.Decoder, block: bytes) -> list[tuple[bytes, bytes]] | type[Exception]:
    """What ``decoder`` makes of ``block``: a list, or the kind of its refusal."""
    try:
        if isinstance(decoder, Decoder):
            return decoder.decode(block)
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except hpack.HPACKError as error:
        return type(error)


# References, insertions, size updates, and noise.
BLOCKS = st.one_of(
    st.sampled_from([b"\x88", b"\x82\xbe", b"\xbe", b"\xbf", b"\xbe\xbf", b"\x3f\xe1\x1f", b"\x20", b"\x20\x88", b""]),
    LISTS.map(lambda headers: hpack.Encoder().encode(headers, huffman=False)),
    st.binary(max_size=12),
)


@given(st.lists(BLOCKS, max_size=30))
def test_any_blocks_are_read_as_hpack_reads_them(blocks: list[bytes]) -> None:
    decoder = Decoder(LIMIT_BYTES)
    plain = hpack.Decoder(max_header_list_size=LIMIT_BYTES)
    plain.max_allowed_table_size = 4096
    for block in blocks:
        found = read(decoder, block)
        assert found == read(plain, block)
        if isinstance(found, type):
            return  # the connection ends here
