"""The client's end of a gRPC connection in memory, against hyper-h2 and against frames that no honest server sends."""

from __future__ import annotations

from collections.abc import Callable

import h2.errors
import h2.events
import pytest

from sidecar.http2 import frames
from sidecar.http2.frames import PeerError
from sidecar.rpc.machine import FRAME_LIMIT_BYTES, HEADER_LIST_LIMIT_BYTES, RpcMachine
from sidecar.rpc.status import RpcError, Status, StatusCode
from sidecar.rpc.stream import WINDOW_BYTES, RpcStream
from tests.rpc_ends import HEAD, OK, H2Server, headers, message

PATH = "/ringfence.issuing.v1.Joining/Join"
LIMIT = 4 << 20


class Ticks:
    """A monotonic clock that stands still, so that budgets are spent and never refilled."""

    def __call__(self) -> float:
        return 0.0


def machine() -> RpcMachine:
    made = RpcMachine(authority="controlplane.example", monotonic=Ticks())
    made.start()
    return made


def opened(limit_bytes: int = LIMIT, **settings: int) -> tuple[RpcMachine, RpcStream, H2Server]:
    made = machine()
    server = H2Server(made, **settings)
    server.turn()
    stream = made.open(PATH, timeout_seconds=None, limit_bytes=limit_bytes)
    server.turn()
    return made, stream, server


def bare() -> tuple[RpcMachine, RpcStream]:
    """A call towards a server that is told frame by frame; its settings have come."""
    made = machine()
    made.receive(frames.settings({}))
    stream = made.open(PATH, timeout_seconds=None, limit_bytes=LIMIT)
    made.take()
    return made, stream


def prefixed(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


# ------------------------------------------------------------------------------------------------------- what is sent


def test_a_call_is_asked_for_as_grpc_asks() -> None:
    made = machine()
    server = H2Server(made)
    made.open(PATH, timeout_seconds=2.5, limit_bytes=LIMIT)
    server.turn()
    (request,) = server.of(h2.events.RequestReceived)
    fields = dict(request.headers)
    assert fields[b":method"] == b"POST"
    assert fields[b":scheme"] == b"https"
    assert fields[b":path"] == PATH.encode()
    assert fields[b":authority"] == b"controlplane.example"
    assert fields[b"te"] == b"trailers"
    assert fields[b"content-type"] == b"application/grpc"
    assert fields[b"grpc-timeout"] == b"2500m"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, b"1m"), (0.0004, b"1m"), (10.0, b"10000m"), (1e9, b"99999999m"), (None, None)]
)
def test_the_deadline_is_told_in_eight_digits(seconds: float | None, text: bytes | None) -> None:
    made = machine()
    server = H2Server(made)
    made.open(PATH, timeout_seconds=seconds, limit_bytes=LIMIT)
    server.turn()
    (request,) = server.of(h2.events.RequestReceived)
    assert dict(request.headers).get(b"grpc-timeout") == text


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 65_535, 65_536, 300_000])
def test_a_message_of_any_size_goes_out_as_the_windows_allow(size: int) -> None:
    made, stream, server = opened()
    made.send(stream, prefixed(b"q" * size), end=True)
    server.turn()
    while stream.pending:
        taken = len(server.body)
        server.connection.acknowledge_received_data(server.connection.remote_flow_control_window(1) or 65_535, 1)
        server.turn()
        assert len(server.body) > taken
    assert server.body == prefixed(b"q" * size)
    assert server.of(h2.events.StreamEnded)


def test_no_more_is_sent_than_a_small_window_allows_and_it_may_shrink() -> None:
    made, stream, server = opened(initial_window_size=100)
    made.send(stream, b"x" * 250)
    server.turn()
    assert len(server.body) == 100
    server.connection.update_settings({4: 10})  # 90 less than was given: the window is negative now
    server.turn()
    server.connection.increment_flow_control_window(90, 1)
    server.turn()
    assert len(server.body) == 100
    server.connection.increment_flow_control_window(60, 1)
    server.turn()
    assert len(server.body) == 160
    assert len(stream.pending) == 90


def test_messages_wait_while_the_transport_is_full() -> None:
    made, stream, server = opened()
    made.set_room(False)
    made.send(stream, prefixed(b"x"), end=True)
    server.turn()
    assert server.body == b""
    made.set_room(True)
    server.turn()
    assert server.body == prefixed(b"x")


def test_the_last_of_nothing_is_an_end_without_data() -> None:
    made, stream, server = opened()
    made.send(stream, b"", end=True)
    server.turn()
    assert server.of(h2.events.StreamEnded)


def test_a_call_that_is_cancelled_is_reset_and_the_next_can_be_made() -> None:
    made, stream, server = opened()
    stream.cancel()
    server.turn()
    (reset,) = server.of(h2.events.StreamReset)
    assert reset.error_code == h2.errors.ErrorCodes.CANCEL
    assert stream.status == Status(code=StatusCode.CANCELLED, details="cancelled")
    second = made.open(PATH, timeout_seconds=None, limit_bytes=LIMIT)
    server.turn()
    assert (second.stream_id, len(server.of(h2.events.RequestReceived))) == (3, 2)


def test_two_calls_at_once_are_a_fault_of_ours() -> None:
    made, _, _ = opened()
    with pytest.raises(RuntimeError):
        made.open(PATH, timeout_seconds=None, limit_bytes=LIMIT)


def test_a_server_that_takes_no_calls_is_not_asked() -> None:
    made = machine()
    server = H2Server(made, max_concurrent_streams=0)
    server.turn()
    with pytest.raises(RpcError) as error:
        made.open(PATH, timeout_seconds=None, limit_bytes=LIMIT)
    assert error.value.code is StatusCode.UNAVAILABLE


# --------------------------------------------------------------------------------------------------- what is received


def test_an_answer_is_its_messages_and_then_its_status() -> None:
    made, stream, server = opened()
    server.connection.send_headers(1, HEAD)
    server.say(b"one")
    server.say(b"two")
    server.turn()
    assert (stream.take(), stream.take(), stream.take(), stream.status) == (b"one", b"two", None, None)
    server.connection.send_headers(1, [*OK, (b"grpc-message", b"all%20well")], end_stream=True)
    server.turn()
    assert stream.status is not None
    assert (stream.status.code, stream.status.details) == (StatusCode.OK, "all well")
    # This side had not ended: its half is let go of, and the connection serves on.
    (reset,) = server.of(h2.events.StreamReset)
    assert reset.error_code == h2.errors.ErrorCodes.NO_ERROR
    assert made.stream is None


def test_messages_that_came_before_the_end_can_be_taken_after_it() -> None:
    _, stream, server = opened()
    server.connection.send_headers(1, HEAD)
    server.say(b"last words")
    server.connection.send_headers(1, [(b"grpc-status", b"14")], end_stream=True)
    server.turn()
    assert stream.status is not None
    assert stream.take() == b"last words"
    assert stream.take() is None
    assert stream.status.code is StatusCode.UNAVAILABLE


def test_an_error_without_a_message_is_headers_alone() -> None:
    _, stream, server = opened()
    server.connection.send_headers(1, [*HEAD, (b"grpc-status", b"7"), (b"grpc-message", b"no")], end_stream=True)
    server.turn()
    assert stream.status is not None
    assert (stream.status.code, stream.status.details) == (StatusCode.PERMISSION_DENIED, "no")


def test_interim_answers_are_passed_over() -> None:
    _, stream, server = opened()
    server.connection.send_headers(1, [(b":status", b"103")])
    server.connection.send_headers(1, HEAD)
    server.connection.send_headers(1, OK, end_stream=True)
    server.turn()
    assert stream.status is not None
    assert stream.status.code is StatusCode.OK


@pytest.mark.parametrize("content_type", [b"application/grpc", b"application/grpc+proto", b"application/grpc;x=1"])
def test_every_spelling_of_grpc_is_grpc(content_type: bytes) -> None:
    _, stream, server = opened()
    server.connection.send_headers(1, [(b":status", b"200"), (b"content-type", content_type), *OK], end_stream=True)
    server.turn()
    assert stream.status is not None
    assert stream.status.code is StatusCode.OK


@pytest.mark.parametrize(
    "fields",
    [
        [(b":status", b"200"), *OK],
        [(b":status", b"200"), (b"content-type", b"text/html"), *OK],
        [(b":status", b"200"), (b"content-type", b"application/grpc-web"), *OK],
        [(b":status", b"200"), (b"content-type", b"application/grpcx"), *OK],
        [(b":status", b"302"), (b"content-type", b"application/grpc"), *OK],
        [(b"content-type", b"application/grpc"), *OK],
    ],
)
@pytest.mark.parametrize("end", [True, False])
def test_what_is_no_grpc_answer_is_never_ok(fields: list[tuple[bytes, bytes]], end: bool) -> None:
    made, stream = bare()
    made.receive(headers(1, fields, end=end))
    assert stream.status is not None
    assert stream.status.code is StatusCode.UNKNOWN


def test_a_proxys_answer_is_told_by_its_http_status() -> None:
    _, stream, server = opened()
    server.connection.send_headers(1, [(b":status", b"503"), (b"content-type", b"text/plain")])
    server.turn()
    assert stream.status is not None
    assert (stream.status.code, stream.status.details) == (StatusCode.UNAVAILABLE, "HTTP status 503")


def test_an_end_without_a_status_is_not_ok() -> None:
    _, stream, server = opened()
    server.connection.send_headers(1, HEAD)
    server.say(b"all")
    server.connection.end_stream(1)
    server.turn()
    assert stream.status is not None
    assert stream.status.code is StatusCode.UNKNOWN


def test_an_end_inside_a_message_is_not_ok() -> None:
    _, stream, server = opened()
    server.connection.send_headers(1, HEAD)
    server.connection.send_data(1, prefixed(b"cut off")[:-1])
    server.connection.send_headers(1, OK, end_stream=True)
    server.turn()
    assert stream.take() is None
    assert stream.status is not None
    assert stream.status.code is StatusCode.INTERNAL


def test_a_reset_by_the_server_is_a_status() -> None:
    made, stream, server = opened()
    server.connection.reset_stream(1, h2.errors.ErrorCodes.REFUSED_STREAM)
    server.turn()
    assert stream.status is not None
    assert stream.status.code is StatusCode.UNAVAILABLE
    assert made.stream is None


def test_a_message_over_the_limit_ends_the_call_before_it_has_come() -> None:
    _, stream, server = opened(limit_bytes=1000)
    server.connection.send_headers(1, HEAD)
    server.connection.send_data(1, b"\0" + (1001).to_bytes(4, "big"))
    server.turn()
    assert stream.status is not None
    assert stream.status.code is StatusCode.RESOURCE_EXHAUSTED
    (reset,) = server.of(h2.events.StreamReset)
    assert reset.error_code == h2.errors.ErrorCodes.CANCEL


def test_late_frames_of_a_call_that_is_over_mean_nothing() -> None:
    made, stream = bare()
    stream.cancel()
    made.receive(headers(1, HEAD) + message(1, b"late") + headers(1, OK, end=True) + frames.rst_stream(1, 8))
    assert stream.status is not None
    assert stream.status.code is StatusCode.CANCELLED
    assert stream.take() is None


def test_a_large_message_flows_and_what_nobody_reads_stops() -> None:
    made, stream, server = opened()
    server.connection.send_headers(1, HEAD)
    large = bytes(range(256)) * 4096 * 3  # twelve windows
    wire = prefixed(large)
    while wire:
        room = min(server.connection.local_flow_control_window(1), server.connection.max_outbound_frame_size)
        assert room > 0, "the message that is assembled must always get credit"
        server.connection.send_data(1, wire[:room])
        wire = wire[room:]
        server.turn()
    # It is whole and waits to be read: from now on only what the window still allows is taken.
    sent = 0
    while (room := server.connection.local_flow_control_window(1)) > 0:
        server.connection.send_data(1, bytes(min(room, 16_384)))
        sent += min(room, 16_384)
        server.turn()
    assert sent <= WINDOW_BYTES
    assert stream.take() == large
    server.turn()
    assert server.connection.local_flow_control_window(1) == 0  # the next ones, empty, wait already
    while stream.take() is not None:
        pass
    server.turn()
    assert server.connection.local_flow_control_window(1) >= WINDOW_BYTES // 2
    assert made.stream is stream


def test_padding_counts_and_is_thrown_away() -> None:
    _, stream, server = opened()
    server.connection.send_headers(1, HEAD)
    wire = prefixed(b"p" * 3000)
    for at in range(0, len(wire), 2):  # in all more than the windows, and mostly padding
        server.connection.send_data(1, wire[at : at + 2], pad_length=255)
        server.turn()
    assert stream.take() == b"p" * 3000


# --------------------------------------------------------------------------------------------------- the connection


def test_a_server_that_goes_in_peace_finishes_what_it_has_in_hand() -> None:
    # As gRPC servers do it: an announcement, then the last id that they took.
    made, stream = bare()
    made.receive(frames.goaway((1 << 31) - 1, frames.NO_ERROR))
    assert stream.status is None
    made.receive(frames.goaway(1, frames.NO_ERROR) + headers(1, HEAD) + message(1, b"the answer"))
    made.receive(headers(1, OK, end=True))
    assert stream.take() == b"the answer"
    assert stream.status is not None
    assert stream.status.code is StatusCode.OK
    with pytest.raises(RpcError) as error:
        made.open(PATH, timeout_seconds=None, limit_bytes=LIMIT)
    assert error.value.code is StatusCode.UNAVAILABLE


def test_a_call_that_the_goaway_leaves_out_may_be_tried_again() -> None:
    made, stream = bare()
    made.receive(frames.goaway(0, frames.ENHANCE_YOUR_CALM, b"too_many_pings"))
    assert stream.status is not None
    assert stream.status.code is StatusCode.UNAVAILABLE
    assert "enhance_your_calm (too_many_pings)" in stream.status.details


def test_a_ping_is_answered_with_its_own_bytes() -> None:
    made, _, server = opened()
    server.connection.ping(b"12345678")
    server.turn()
    (answer,) = server.of(h2.events.PingAckReceived)
    assert answer.ping_data == b"12345678"
    made.ping()
    server.turn()
    assert server.of(h2.events.PingReceived)


def test_a_lost_connection_ends_the_call_with_the_reason() -> None:
    made, stream, _ = opened()
    made.lose(Status(code=StatusCode.UNAVAILABLE, details="gone"))
    made.lose(Status(code=StatusCode.INTERNAL, details="later"))
    assert stream.status == Status(code=StatusCode.UNAVAILABLE, details="gone")


BROKEN: dict[str, Callable[[], bytes]] = {
    "frame too large": lambda: (FRAME_LIMIT_BYTES + 1).to_bytes(3, "big") + b"\0\0\0\0\0\1",
    "data on no stream": lambda: frames.frame(frames.DATA, 0, 0, b"x"),
    "data on a stream that was never opened": lambda: message(3, b"x"),
    "data on a stream of the server's": lambda: message(2, b"x"),
    "headers on a stream of the server's": lambda: headers(2, HEAD),
    "a pushed stream": lambda: frames.frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2"),
    "a block that is interrupted": lambda: frames.frame(frames.HEADERS, 0, 1, b"") + frames.ping(b"12345678"),
    "a block that goes on elsewhere": lambda: (
        frames.frame(frames.HEADERS, 0, 1, b"") + frames.frame(frames.CONTINUATION, 4, 3, b"")
    ),
    "a continuation of nothing": lambda: frames.frame(frames.CONTINUATION, 4, 1, b""),
    "no HPACK": lambda: frames.frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"),
    "a name in capitals": lambda: headers(1, [*HEAD, (b"Grpc-Status", b"0")]),
    "an empty name": lambda: headers(1, [*HEAD, (b"", b"0")]),
    "a pseudo-header behind": lambda: headers(1, [(b"content-type", b"application/grpc"), (b":status", b"200")]),
    "two statuses": lambda: headers(1, [(b":status", b"200"), (b":status", b"200")]),
    "a request's field": lambda: headers(1, [(b":path", b"/")]),
    "padding longer than the frame": lambda: frames.frame(frames.DATA, frames.FLAG_PADDED, 1, b"\x05abc"),
    "a padded frame without length": lambda: frames.frame(frames.DATA, frames.FLAG_PADDED, 1, b""),
    "settings on a stream": lambda: frames.frame(frames.SETTINGS, 0, 1),
    "settings of odd length": lambda: frames.frame(frames.SETTINGS, 0, 0, b"12345"),
    "an acknowledgement with content": lambda: frames.frame(frames.SETTINGS, 1, 0, b"123456"),
    "a window beyond all windows": lambda: frames.settings({4: 1 << 31}),
    "a ping of seven bytes": lambda: frames.frame(frames.PING, 0, 0, b"1234567"),
    "a ping on a stream": lambda: frames.frame(frames.PING, 0, 1, b"12345678"),
    "a goaway of seven bytes": lambda: frames.frame(frames.GOAWAY, 0, 0, b"1234567"),
    "a goaway on a stream": lambda: frames.frame(frames.GOAWAY, 0, 1, b"12345678"),
    "a reset of three bytes": lambda: frames.frame(frames.RST_STREAM, 0, 1, b"123"),
    "a reset of what was never opened": lambda: frames.rst_stream(3, 8),
    "a window of nothing": lambda: frames.window_update(1, 0),
    "a window of three bytes": lambda: frames.frame(frames.WINDOW_UPDATE, 0, 1, b"123"),
    "a window of what was never opened": lambda: frames.window_update(3, 1),
    "a stream's window overflows": lambda: frames.window_update(1, frames.LARGEST_WINDOW_BYTES),
    "the connection's window overflows": lambda: frames.window_update(0, frames.LARGEST_WINDOW_BYTES),
    "more data than the window": lambda: headers(1, HEAD) + message(1, b"unread") * (WINDOW_BYTES // 8),
    # What costs us more than the server, over and over.
    "endless headers": lambda: (
        frames.frame(frames.HEADERS, 0, 1, b"") + frames.frame(frames.CONTINUATION, 0, 1, b"") * 9
    ),
    "huge headers": lambda: (
        frames.frame(frames.HEADERS, 0, 1, bytes(16_000)) + frames.frame(frames.CONTINUATION, 0, 1, bytes(16_000))
    ),
    "a header bomb": lambda: headers(1, [(b":status", b"200"), (b"a", b"x" * 3000)] + [(b"a", b"x" * 3000)] * 9),
    "heads without end": lambda: headers(1, [(b":status", b"100")]) * 300,
    "trailers of what is over": lambda: frames.rst_stream(1, 8) + headers(1, OK, end=True) * 300,
    "a flood of pings": lambda: frames.ping(b"12345678") * 100,
    "a flood of settings": lambda: frames.settings({}) * 100,
    "a flood of nothing": lambda: headers(1, HEAD) + frames.frame(frames.DATA, 0, 1) * 500,
    "a flood of unknown frames": lambda: frames.frame(0xEE, 0, 0) * 500,
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_server_that_breaks_http2_is_left(case: str) -> None:
    made, _ = bare()
    with pytest.raises(PeerError):
        made.receive(BROKEN[case]())


def test_the_first_frame_must_be_settings() -> None:
    for first in (frames.ping(b"12345678"), frames.SETTINGS_ACK, headers(1, HEAD), b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        with pytest.raises(PeerError):
            machine().receive(first)


def test_a_second_head_and_data_before_the_first_are_breaches_of_the_call_alone() -> None:
    for wire in (headers(1, HEAD) + headers(1, HEAD), message(1, b"x"), headers(1, HEAD) + headers(1, HEAD, end=True)):
        made, stream = bare()
        made.receive(wire)
        assert stream.status is not None
        assert stream.status.code is StatusCode.INTERNAL
        assert made.stream is None


def test_header_lists_are_bounded_where_they_are_announced() -> None:
    made = machine()
    settings = made.take()[len(frames.PREFACE) + frames.HEADER_BYTES :]
    assert frames.parse_settings(settings[:30])[frames.SETTING_MAX_HEADER_LIST_SIZE] == HEADER_LIST_LIMIT_BYTES
    assert frames.parse_settings(settings[:30])[frames.SETTING_ENABLE_PUSH] == 0
