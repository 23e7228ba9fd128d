"""Settings, windows and the other frames of the connection as a whole, on their way through the inspector."""

from __future__ import annotations

from sidecar.http2 import Broken, Heads
from sidecar.http2 import frames as f
from sidecar.http2.heads import LIST_LIMIT_BYTES
from sidecar.http2.mediation import FRAME_LIMIT_BYTES, STREAM_LIMIT
from sidecar.http2.response_side import OWN_ROOM_BYTES
from tests.http2_ends import FORBIDDEN, GET, GRPC, OK, POST, Between, Fields, Frame


def values(frame: Frame) -> dict[int, int]:
    assert frame.kind == f.SETTINGS
    return f.parse_settings(frame.payload)


def windows(frames: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.stream_id, frame.increment) for frame in frames if frame.kind == f.WINDOW_UPDATE]


# --- settings ---


def test_the_client_s_first_settings_pass_with_push_switched_off() -> None:
    wire = Between(greet=False)
    wire.client(f.PREFACE + f.settings({f.SETTING_INITIAL_WINDOW_SIZE: 70_000, f.SETTING_ENABLE_PUSH: 1, 0xF0F0: 1}))
    assert wire.to_server.data.startswith(f.PREFACE)
    assert values(wire.to_server.frames[0]) == {
        f.SETTING_INITIAL_WINDOW_SIZE: 70_000,
        f.SETTING_ENABLE_PUSH: 0,
        f.SETTING_MAX_HEADER_LIST_SIZE: LIST_LIMIT_BYTES,
    }


def test_the_server_s_settings_pass_within_what_this_side_can_hold() -> None:
    wire = Between(greet=False)
    wire.client(f.PREFACE + f.settings({}))
    largest = {
        f.SETTING_HEADER_TABLE_SIZE: 1 << 20,
        f.SETTING_MAX_FRAME_SIZE: f.LARGEST_FRAME_BYTES,
        f.SETTING_MAX_HEADER_LIST_SIZE: 1 << 30,
        f.SETTING_MAX_CONCURRENT_STREAMS: 1 << 31,
        f.SETTING_INITIAL_WINDOW_SIZE: 1 << 30,
    }
    (frame,) = wire.server(f.settings(largest))
    assert values(frame) == {
        f.SETTING_HEADER_TABLE_SIZE: 4096,
        f.SETTING_MAX_FRAME_SIZE: FRAME_LIMIT_BYTES,
        f.SETTING_MAX_HEADER_LIST_SIZE: LIST_LIMIT_BYTES,
        f.SETTING_MAX_CONCURRENT_STREAMS: STREAM_LIMIT,
        f.SETTING_INITIAL_WINDOW_SIZE: 1 << 30,
    }


def test_smaller_settings_pass_as_they_are() -> None:
    small = {
        f.SETTING_HEADER_TABLE_SIZE: 0,
        f.SETTING_MAX_FRAME_SIZE: 16_384,
        f.SETTING_MAX_HEADER_LIST_SIZE: 100,
        f.SETTING_MAX_CONCURRENT_STREAMS: 1,
        f.SETTING_INITIAL_WINDOW_SIZE: 1,
    }
    wire = Between(greet=False)
    wire.client(f.PREFACE + f.settings({}))
    (frame,) = wire.server(f.settings(small))
    assert values(frame) == small
    (frame,) = wire.server(f.settings({f.SETTING_MAX_CONCURRENT_STREAMS: 5}))
    assert values(frame) == {f.SETTING_MAX_CONCURRENT_STREAMS: 5}  # later ones are not added to


def test_settings_and_acknowledgements_pass_one_for_one() -> None:
    wire = Between()
    assert [frame.flags for frame in wire.server(f.settings({}), f.settings({}))] == [0, 0]
    assert [frame.flags for frame in wire.client(f.SETTINGS_ACK, f.SETTINGS_ACK)] == [1, 1]
    wire.client(f.SETTINGS_ACK)
    assert wire.flaws == [Broken.PROTOCOL]


def test_both_values_of_a_setting_mean_the_same_to_both_ends() -> None:
    """Down and up again in one frame: the order stays, since the encoder must tell the smallest (RFC 7541, 4.2)."""
    wire = Between()
    twice = f.frame(f.SETTINGS, 0, 0, b"\0\1\0\0\0\0" + b"\0\1\0\0\x10\0")
    (frame,) = wire.server(twice)
    assert frame.payload == b"\0\1\0\0\0\0" + b"\0\1\0\0\x10\0"


def test_larger_frames_are_taken_as_soon_as_they_were_offered() -> None:
    wire = Between()
    wire.client(f.window_update(0, 1 << 20))
    wire.server(f.settings({f.SETTING_MAX_FRAME_SIZE: 40_000}))
    wire.server(f.window_update(0, 1 << 20))
    wire.ask(1, POST, end=False)
    assert len(wire.client(f.frame(f.DATA, 0, 1, bytes(40_000)))) == 1
    wire.client(f.SETTINGS_ACK, f.frame(f.DATA, 0, 1, bytes(40_001)))
    assert wire.to_client.goaways() == [f.FRAME_SIZE_ERROR]


def test_frames_stay_as_large_as_agreed_until_a_smaller_size_is_acknowledged() -> None:
    wire = Between(server_settings={f.SETTING_MAX_FRAME_SIZE: 40_000})
    wire.server(f.window_update(0, 1 << 20))
    wire.ask(1, POST, end=False)
    wire.server(f.settings({f.SETTING_MAX_FRAME_SIZE: 20_000}))
    assert len(wire.client(f.frame(f.DATA, 0, 1, bytes(40_000)))) == 1
    wire.client(f.SETTINGS_ACK)
    assert len(wire.client(f.frame(f.DATA, 0, 1, bytes(20_000)))) == 1
    wire.client(f.frame(f.DATA, 0, 1, bytes(20_001)))
    assert wire.to_client.goaways() == [f.FRAME_SIZE_ERROR]


def test_extended_connect_needs_the_server_s_offer() -> None:
    connect: Fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
    wire = Between()
    wire.ask(1, connect, end=False)
    assert wire.to_client.headers(1)[0][0] == (b":status", b"400")
    wire.server(f.settings({f.SETTING_ENABLE_CONNECT_PROTOCOL: 1}))
    wire.ask(3, connect, end=False)
    assert wire.to_server.headers(3) == [connect]
    assert wire.exchanges[-1].fields.protocol == b"websocket"
    wire.ask(5, [(b":method", b"CONNECT"), (b":protocol", b"connect-udp"), *GET[1:]], end=False)
    assert wire.to_client.headers(5)[0][0] == (b":status", b"400")


def test_extended_connect_is_not_offered_where_it_is_not_allowed() -> None:
    wire = Between(heads=Heads(protocols=()))
    (frame,) = wire.server(f.settings({f.SETTING_ENABLE_CONNECT_PROTOCOL: 1}))
    assert values(frame) == {}
    wire.ask(1, [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]], end=False)
    assert wire.to_client.headers(1)[0][0] == (b":status", b"400")


# --- windows ---


def test_window_updates_pass_end_to_end() -> None:
    wire = Between()
    wire.ask(1)
    assert windows(wire.client(f.window_update(1, 1000))) == [(1, 1000)]
    assert windows(wire.server(f.window_update(1, 500), f.window_update(0, 700))) == [(1, 500), (0, 700)]


def test_a_little_of_the_client_s_window_is_kept_for_answers_made_here() -> None:
    wire = Between(refuses=lambda exchange: exchange.method == b"GET")
    assert windows(wire.client(f.window_update(0, 10_000))) == [(0, 10_000 - OWN_ROOM_BYTES)]
    assert windows(wire.client(f.window_update(0, 100))) == [(0, 100)]
    wire.ask(1)
    used = len(FORBIDDEN.content)
    assert wire.to_client.content(1) == FORBIDDEN.content
    assert windows(wire.client(f.window_update(0, used + 50))) == [(0, 50)]  # what the client gives back is put back
    assert windows(wire.client(f.window_update(0, 80))) == [(0, 80)]


def test_answers_never_exceed_the_room_kept_for_them() -> None:
    wire = Between(refuses=lambda _: True)
    wire.client(f.window_update(0, OWN_ROOM_BYTES))
    stream_id, told = 1, 0
    while wire.to_client.content(stream_id - 2) or stream_id == 1:
        wire.ask(stream_id)
        told += len(wire.to_client.content(stream_id))
        stream_id += 2
    assert OWN_ROOM_BYTES - len(FORBIDDEN.content) < told <= OWN_ROOM_BYTES
    assert wire.to_client.ended(stream_id - 2)


def test_more_data_than_the_connection_s_window_breaks_it() -> None:
    wire = Between()
    wire.ask(1, POST, end=False)
    for _ in range(3):
        wire.client(f.frame(f.DATA, 0, 1, bytes(16_384)))
    wire.client(f.frame(f.DATA, 0, 1, bytes(16_383)))
    assert wire.flaws == []
    wire.client(f.frame(f.DATA, 0, 1, b"x"))
    assert wire.to_client.goaways() == [f.FLOW_CONTROL_ERROR]
    assert wire.flaws == [Broken.FLOW_CONTROL]


def test_padding_counts_in_the_window() -> None:
    wire = Between()
    wire.ask(1, POST, end=False)
    padded = f.frame(f.DATA, f.FLAG_PADDED, 1, b"\xff" + b"x" + bytes(255))
    for _ in range(65_535 // 257):
        wire.client(padded)
    assert wire.flaws == []
    wire.client(padded)
    assert wire.flaws == [Broken.FLOW_CONTROL]


def test_the_server_is_held_to_the_client_s_window() -> None:
    wire = Between()
    wire.ask(1)
    wire.reply(1, end=False)
    for _ in range(4):
        wire.server(f.frame(f.DATA, 0, 1, bytes(16_383)))
    wire.server(f.frame(f.DATA, 0, 1, bytes(4)))
    assert wire.flaws[0] == Broken.FLOW_CONTROL
    assert wire.to_server.goaways() == [f.FLOW_CONTROL_ERROR]
    assert wire.to_client.codes(1) == [f.INTERNAL_ERROR]
    assert wire.inspector.close_after


def test_windows_of_an_overflowing_connection_break_it() -> None:
    wire = Between()
    wire.client(f.window_update(0, f.LARGEST_WINDOW_BYTES))
    assert wire.to_client.goaways() == [f.FLOW_CONTROL_ERROR]


def test_dropped_content_is_given_back_to_the_end_that_sent_it() -> None:
    """However much of refused bodies is dropped, the connection's window is whole again."""
    wire = Between(refuses=lambda exchange: exchange.method == b"POST")
    sent = 0
    for stream_id in range(1, 41, 2):
        wire.ask(stream_id, POST, end=False, body=bytes(16_000))
        sent += 16_000
    given = sum(increment for stream_id, increment in windows(wire.to_client.frames) if stream_id == 0)
    assert given == sent
    assert wire.flaws == []
    assert wire.to_server.frames == []


# --- a server that breaks HTTP/2 ---


def test_a_server_that_breaks_http2_is_told_so_and_the_client_gets_its_answers() -> None:
    wire = Between()
    wire.ask(1)
    wire.ask(3, GRPC, body=b"x")
    wire.reply(3, end=False)
    wire.server(f.frame(f.PUSH_PROMISE, 4, 1, b"\0\0\0\2"))
    assert wire.to_server.goaways() == [f.PROTOCOL_ERROR]
    assert wire.to_client.headers(1)[0][0] == (b":status", b"502")
    assert wire.to_client.headers(3)[1][0] == (b"grpc-status", b"14")
    assert wire.to_client.goaways() == [f.NO_ERROR]
    assert wire.inspector.close_after
    assert wire.open_count == 0


def test_a_server_that_does_not_begin_with_settings_is_none() -> None:
    wire = Between(greet=False)
    wire.client(f.PREFACE + f.settings({}))
    wire.ask(1)
    wire.server(f.ping(b"12345678"))
    assert wire.flaws == [Broken.PROTOCOL, "no_response"]
    assert wire.to_client.headers(1)[0][0] == (b":status", b"502")


def test_frames_before_the_break_still_count() -> None:
    wire = Between()
    wire.ask(1)
    whole = f.frame(f.HEADERS, 4, 1, wire.server_encoder.encode(OK)) + f.frame(f.DATA, 1, 1, b"hello")
    wire.server(whole + f.frame(f.DATA, 0, 0, b""))
    assert wire.to_client.content(1) == b"hello"
    assert wire.to_client.ended(1)
    assert wire.inspector.close_after
