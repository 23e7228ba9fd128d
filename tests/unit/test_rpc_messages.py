"""Messages in a stream of bytes: framing, limits, and nothing compressed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.rpc.messages import MessageBuffer, framed
from sidecar.rpc.status import RpcError, StatusCode

LIMIT = 1000


def taken(buffer: MessageBuffer) -> list[bytes]:
    messages = []
    while (message := buffer.take()) is not None:
        messages.append(message)
    return messages


@given(st.lists(st.binary(max_size=LIMIT), max_size=8), st.lists(st.integers(1, 300), max_size=40))
def test_what_is_framed_comes_out_however_it_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(framed(message, LIMIT) for message in messages)
    buffer = MessageBuffer(LIMIT)
    out: list[bytes] = []
    for size in cuts:
        buffer.feed(wire[:size])
        wire = wire[size:]
        out += taken(buffer)
    buffer.feed(wire)
    assert out + taken(buffer) == messages
    assert buffer.is_empty
    assert buffer.refusal is None


def test_a_message_as_large_as_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    buffer = MessageBuffer(LIMIT)
    buffer.feed(framed(b"x" * LIMIT, LIMIT))
    assert buffer.take() == b"x" * LIMIT
    buffer.feed(b"\0" + (LIMIT + 1).to_bytes(4, "big"))
    assert buffer.refusal is not None
    assert buffer.refusal.code is StatusCode.RESOURCE_EXHAUSTED
    assert f"{LIMIT + 1} bytes is larger than max {LIMIT}" in buffer.refusal.details


def test_the_other_sides_limit_is_kept_before_anything_is_sent() -> None:
    with pytest.raises(RpcError) as error:
        framed(b"x" * (LIMIT + 1), LIMIT)
    assert error.value.code is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("flags", [1, 2, 0x80, 0xFF])
def test_a_compressed_message_is_refused(flags: int) -> None:
    buffer = MessageBuffer(LIMIT)
    buffer.feed(bytes((flags,)) + b"\0\0\0\1x")
    assert buffer.refusal is not None
    assert buffer.refusal.code is StatusCode.INTERNAL
    assert buffer.take() is None


def test_a_bad_message_does_not_cost_the_good_one_before_it() -> None:
    buffer = MessageBuffer(LIMIT)
    buffer.feed(framed(b"good", LIMIT) + b"\1\0\0\0\1x")
    assert buffer.refusal is None
    assert buffer.take() == b"good"
    assert buffer.refusal is not None
    assert buffer.take() is None


def test_an_empty_message_is_a_message() -> None:
    buffer = MessageBuffer(0)
    buffer.feed(framed(b"", 0) * 3)
    assert taken(buffer) == [b"", b"", b""]


def test_part_of_a_message_is_none() -> None:
    buffer = MessageBuffer(LIMIT)
    buffer.feed(framed(b"abc", LIMIT)[:-1])
    assert not buffer.holds_message
    assert buffer.take() is None
    assert not buffer.is_empty
