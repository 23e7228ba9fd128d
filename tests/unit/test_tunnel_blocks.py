"""The tunnel's header blocks: what is remembered, and what must be forgotten."""

from __future__ import annotations

import itertools

import hpack
import pytest

from sidecar.tunnel.blocks import Decoder, Encoder

CONNECT = [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:8080")]
OTHER = [(b":method", b"CONNECT"), (b":authority", b"10.0.0.2:8080")]
ANSWER = [(b":status", b"200")]


def test_a_repeated_list_becomes_references_and_stays_the_same_block() -> None:
    encoder, decoder = Encoder(), Decoder(16_384)
    blocks = [encoder.encode(CONNECT) for _ in range(4)]

    assert blocks[1] == blocks[2] == blocks[3]
    assert len(blocks[1]) == 2
    assert [decoder.decode(block) for block in blocks] == [CONNECT] * 4


def test_a_new_entry_moves_the_references_of_what_was_remembered() -> None:
    encoder, decoder = Encoder(), Decoder(16_384)
    for headers in (CONNECT, CONNECT, CONNECT, ANSWER, OTHER, OTHER, CONNECT, OTHER, ANSWER, CONNECT):
        assert decoder.decode(encoder.encode(headers)) == headers


def test_the_same_bytes_mean_something_else_once_the_table_has_changed() -> None:
    sender, decoder = hpack.Encoder(), Decoder(16_384)
    decoder.decode(sender.encode([(b"a", b"1")]))
    reference = b"\xbe"  # the newest entry of the dynamic table
    assert decoder.decode(reference) == decoder.decode(reference) == [(b"a", b"1")]

    decoder.decode(sender.encode([(b"b", b"2")]))

    assert decoder.decode(reference) == [(b"b", b"2")]


def test_a_smaller_table_is_told_and_forgets() -> None:
    encoder, decoder = Encoder(), Decoder(16_384)
    for _ in range(3):
        decoder.decode(encoder.encode(CONNECT))
    encoder.limit_table(0)

    told = encoder.encode(CONNECT)

    assert told[0] & 0xE0 == 0x20
    assert decoder.decode(told) == CONNECT
    assert decoder.decode(encoder.encode(CONNECT)) == CONNECT


def test_a_size_that_is_set_twice_is_told_all_the_same() -> None:
    encoder, decoder = Encoder(), Decoder(16_384)
    decoder.decode(encoder.encode(CONNECT))
    encoder.limit_table(0)
    encoder.limit_table(0)

    for headers in (CONNECT, CONNECT, OTHER):
        assert decoder.decode(encoder.encode(headers)) == headers


REFUSAL = [(b":status", b"403"), (b"x-ringfence-refusal", b"reason=no_rule; id=" + b"ab" * 100)]


def test_what_is_sent_once_arrives_and_leaves_what_is_remembered() -> None:
    encoder, decoder = Encoder(), Decoder(16_384)
    for _ in range(3):
        decoder.decode(encoder.encode(CONNECT))
    before = encoder.encode(CONNECT)

    assert decoder.decode(encoder.encode_once(REFUSAL)) == REFUSAL
    assert encoder.encode(CONNECT) == before
    assert decoder.decode(before) == CONNECT


def test_a_change_of_size_is_told_by_what_is_sent_once_if_it_comes_next() -> None:
    encoder, decoder = Encoder(), Decoder(16_384)
    encoder.limit_table(0)

    told = encoder.encode_once(REFUSAL)

    assert told[0] & 0xE0 == 0x20
    assert decoder.decode(told) == REFUSAL
    assert decoder.decode(encoder.encode_once(REFUSAL)) == REFUSAL


def test_a_reference_to_nothing_is_an_error_also_after_it_meant_something() -> None:
    sender, decoder = hpack.Encoder(), Decoder(16_384)
    decoder.decode(sender.encode([(b"a", b"1")]))
    assert decoder.decode(b"\xbe") == [(b"a", b"1")]
    sender.header_table_size = 0
    decoder.decode(sender.encode(ANSWER))

    with pytest.raises(hpack.HPACKError):
        decoder.decode(b"\xbe")


def test_who_changes_what_was_decoded_changes_nothing_that_is_remembered() -> None:
    decoder = Decoder(16_384)
    block = Encoder().encode(ANSWER)
    decoder.decode(block).clear()

    assert decoder.decode(block) == ANSWER


def test_a_list_larger_than_the_limit_is_an_error() -> None:
    block = hpack.Encoder().encode([(b"a", b"x" * 100)])

    with pytest.raises(hpack.HPACKError):
        Decoder(100).decode(block)


def test_what_is_remembered_is_bounded() -> None:
    encoder, decoder = Encoder(), Decoder(16_384)
    statuses = [(b":status", status) for status in (b"200", b"204", b"206", b"304", b"400", b"404", b"500")]

    for headers in map(list, itertools.product(statuses, repeat=4)):  # each made of references alone
        assert decoder.decode(encoder.encode(headers)) == headers

    assert len(encoder._known) <= 256
    assert len(decoder._known) <= 256
