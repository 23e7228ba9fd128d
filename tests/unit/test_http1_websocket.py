"""The edges of a WebSocket's frames, however they are cut, and what a close frame is."""

from __future__ import annotations

import pytest

from sidecar.http1.websocket import POLICY_VIOLATION, FrameEdges, close_frame


def frame(payload: bytes, opcode: int = 2, *, mask: bytes = b"") -> bytes:
    size = len(payload)
    if size < 126:
        told = bytes((size,))
    else:
        told = b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
    return bytes((0x80 | opcode, told[0] | (0x80 if mask else 0))) + told[1:] + mask + payload


FRAMES = [
    frame(b""),
    frame(b"a"),
    frame(b"b" * 125),
    frame(b"\x88" * 126),
    frame(b"c", 9),
    frame(b"d", mask=b"\x88" * 4),
]


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
def test_a_frame_may_stand_exactly_where_others_end(cut: int) -> None:
    edges = FrameEdges()
    stream = b"".join(FRAMES)
    ends = {sum(map(len, FRAMES[:count])) for count in range(len(FRAMES) + 1)}
    for at in range(0, len(stream), cut):
        assert edges.between == (at in ends)
        edges.passes(stream[at : at + cut])
    assert edges.between
    assert not edges.closed


def test_lengths_of_eight_bytes_are_followed() -> None:
    edges = FrameEdges()
    long = frame(b"x" * 70_000)
    edges.passes(long[:-1])
    assert not edges.between
    edges.passes(long[-1:] + frame(b"y"))
    assert edges.between


def test_behind_a_close_of_the_servers_there_is_no_place_for_another() -> None:
    edges = FrameEdges()
    edges.passes(frame(b"\x03\xe8", 8))
    assert edges.closed
    assert not edges.between


def test_a_close_frame_tells_code_and_reason_and_keeps_to_what_a_control_frame_holds() -> None:
    assert close_frame(POLICY_VIOLATION, "policy changed") == b"\x88\x10\x03\xf0policy changed"
    assert len(close_frame(POLICY_VIOLATION, "x" * 500)) == 2 + 125
    edges = FrameEdges()
    edges.passes(close_frame(POLICY_VIOLATION, "x" * 500))
    assert edges.closed
