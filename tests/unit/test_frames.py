"""HTTP/2 frames as bytes: hyperframe, an independent implementation, reads what is written; flaws are told."""

from __future__ import annotations

import pytest
from hyperframe.frame import Frame, GoAwayFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError


def read(data: bytes) -> Frame:
    """The one frame in ``data``, by hyperframe."""
    frame, length = Frame.parse_frame_header(memoryview(data[:9]))
    assert len(data) == 9 + length
    frame.parse_body(memoryview(data[9:]))
    return frame


def test_settings() -> None:
    frame = read(h2.settings({h2.SETTING_INITIAL_WINDOW_SIZE: 1 << 20, 0xF1CE: 1}))
    assert isinstance(frame, SettingsFrame)
    assert frame.settings == {4: 1 << 20, 0xF1CE: 1}
    assert h2.parse_settings(h2.settings({1: 0, 3: 100})[9:]) == {1: 0, 3: 100}
    assert "ACK" in read(h2.SETTINGS_ACK).flags


def test_window_update() -> None:
    frame = read(h2.window_update(7, h2.LARGEST_WINDOW_BYTES))
    assert isinstance(frame, WindowUpdateFrame)
    assert (frame.stream_id, frame.window_increment) == (7, h2.LARGEST_WINDOW_BYTES)


def test_rst_stream() -> None:
    frame = read(h2.rst_stream((1 << 31) - 1, h2.CANCEL))
    assert isinstance(frame, RstStreamFrame)
    assert (frame.stream_id, frame.error_code) == ((1 << 31) - 1, h2.CANCEL)


def test_goaway_cuts_what_it_says() -> None:
    frame = read(h2.goaway(9, h2.ENHANCE_YOUR_CALM, b"x" * 1000))
    assert isinstance(frame, GoAwayFrame)
    assert (frame.last_stream_id, frame.error_code) == (9, h2.ENHANCE_YOUR_CALM)
    assert frame.additional_data == b"x" * 256


def test_ping() -> None:
    for ack in (False, True):
        frame = read(h2.ping(b"12345678", ack=ack))
        assert isinstance(frame, PingFrame)
        assert frame.opaque_data == b"12345678"
        assert ("ACK" in frame.flags) is ack


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"12345", h2.FRAME_SIZE_ERROR),
        (b"\0\4\x80\0\0\0", h2.FLOW_CONTROL_ERROR),
        (b"\0\5\0\0\x3f\xff", h2.PROTOCOL_ERROR),
        (b"\0\5\1\0\0\0", h2.PROTOCOL_ERROR),
        (b"\0\2\0\0\0\2", h2.PROTOCOL_ERROR),
        (b"\0\x08\0\0\0\2", h2.PROTOCOL_ERROR),
    ],
)
def test_settings_out_of_bounds_are_the_peers_error(payload: bytes, code: int) -> None:
    with pytest.raises(PeerError) as caught:
        h2.parse_settings(payload)
    assert caught.value.code == code
    assert h2.ERROR_NAMES[code] in str(caught.value)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\0\4\x7f\xff\xff\xff", b"\0\5\0\0\x40\0", b"\0\5\0\xff\xff\xff", b"\0\2\0\0\0\1", b"\xff\xff\0\0\0\2"],
)
def test_settings_within_bounds_and_unknown_ones_are_taken(payload: bytes) -> None:
    assert len(h2.parse_settings(payload)) == len(payload) // 6


def test_the_last_of_two_equal_settings_counts() -> None:
    assert h2.parse_settings(b"\0\3\0\0\0\1" + b"\0\3\0\0\0\2") == {3: 2}


@pytest.mark.parametrize(
    ("payload", "flags", "priority", "content"),
    [
        (b"abc", 0, False, b"abc"),
        (b"\0abc", h2.FLAG_PADDED, False, b"abc"),
        (b"\2abc\0\0", h2.FLAG_PADDED, False, b"abc"),
        (b"\3\0\0\0", h2.FLAG_PADDED, False, b""),
        (b"pppppabc", h2.FLAG_PRIORITY, True, b"abc"),
        (b"\1pppppabc\0", h2.FLAG_PRIORITY | h2.FLAG_PADDED, True, b"abc"),
        (b"pppppabc", h2.FLAG_PRIORITY, False, b"pppppabc"),
    ],
)
def test_padding_and_priority_are_taken_off(payload: bytes, flags: int, priority: bool, content: bytes) -> None:
    assert h2.unpad(payload, flags, priority=priority) == content


@pytest.mark.parametrize(
    ("payload", "flags", "priority"),
    [
        (b"", h2.FLAG_PADDED, False),
        (b"\1", h2.FLAG_PADDED, False),
        (b"\xffabc", h2.FLAG_PADDED, False),
        (b"pppp", h2.FLAG_PRIORITY, True),
        (b"\4pppppabc", h2.FLAG_PRIORITY | h2.FLAG_PADDED, True),
    ],
)
def test_padding_longer_than_its_frame_is_the_peers_error(payload: bytes, flags: int, priority: bool) -> None:
    with pytest.raises(PeerError):
        h2.unpad(payload, flags, priority=priority)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 21])
def test_a_header_block_is_cut_into_frames_that_give_it_back(size: int) -> None:
    block = bytes(range(size))
    data = h2.header_frames(5, block, end=True, limit_bytes=10)
    kinds, joined, ended, last = [], b"", False, False
    while data:
        length = int.from_bytes(data[:3], "big")
        assert length <= 10
        assert int.from_bytes(data[5:9], "big") == 5
        assert not last
        kinds.append(data[3])
        ended = ended or (data[3] == h2.HEADERS and bool(data[4] & h2.FLAG_END_STREAM))
        last = bool(data[4] & h2.FLAG_END_HEADERS)
        joined += data[9 : 9 + length]
        data = data[9 + length :]
    assert (joined, ended, last) == (block, True, True)
    assert kinds == [h2.HEADERS] + [h2.CONTINUATION] * (len(kinds) - 1)
