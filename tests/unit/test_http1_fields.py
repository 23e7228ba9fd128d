"""Field blocks by themselves: what is read, what is taken out, what is remembered."""

from __future__ import annotations

import pytest

from sidecar.http1 import Malformed, MalformedError
from sidecar.http1.fields import FieldNames, join_block, read_block, tokens

NAMES = FieldNames(wanted=frozenset({b"host", b"secret"}), private=frozenset({b"secret"}), prefixes=(b"x-mesh-",))


def test_an_empty_block() -> None:
    assert read_block(b"\r\n", NAMES) == ({}, None)


def test_wanted_values_come_raw_and_in_order() -> None:
    named, kept = read_block(b"HOST: a \r\nB: c\r\nhost:\tb\r\n\r\n", NAMES)
    assert named == {b"host": [b" a ", b"\tb"]}
    assert kept is None


def test_private_lines_are_taken_out_each_time() -> None:
    block = b"A: 1\r\nSecret: x\r\nX-Mesh-Id: y\r\nx_mesh_id: z\r\nB: 2\r\n\r\n"
    for _ in range(2):
        named, kept = read_block(block, NAMES)
        assert named == {b"secret": [b" x"]}
        assert kept == [b"A: 1", b"B: 2"]
        assert join_block(kept) == b"A: 1\r\nB: 2\r\n\r\n"


def test_a_block_of_private_lines_only() -> None:
    _, kept = read_block(b"Secret: x\r\n\r\n", NAMES)
    assert kept == []
    assert join_block(kept) == b"\r\n"


def test_lines_seen_before_are_checked_no_less() -> None:
    names = FieldNames(wanted=frozenset({b"host"}))
    read_block(b"A: b\r\n\r\n", names)
    assert names.boring == {b"A: b"}
    with pytest.raises(MalformedError) as caught:
        read_block(b"A: b\r\nA: b\n\r\n\r\n", names)
    assert caught.value.reason is Malformed.BARE_LF
    with pytest.raises(MalformedError) as caught:
        read_block(b"A: b\r\nA: b\x00\r\n\r\n", names)
    assert caught.value.reason is Malformed.BAD_FIELD_VALUE


def test_the_memory_of_lines_is_bounded() -> None:
    names = FieldNames(wanted=frozenset())
    for at in range(3000):
        read_block(b"A: %d\r\n\r\n" % at, names)
    read_block(b"A: " + b"x" * 1000 + b"\r\n\r\n", names)
    assert len(names.boring) <= 1024
    assert max(map(len, names.boring)) < 300


def test_tokens() -> None:
    assert tokens([b" Close , , keep-alive", b"h2c/1"]) == [b"close", b"keep-alive", b"h2c/1"]
    assert tokens([b""]) == []
    for value in (b"a b", b"a;b", b'"a"', b"a\xe9"):
        with pytest.raises(MalformedError):
            tokens([value])
