"""Hostile HTTP/2 on an application connection: each attack has its defined end, and its harmless neighbour passes.

A refused request reaches neither the judge nor the app; not one byte of it. Each is tried whole and byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http1.lines import METHODS, REQUEST_LINE_LIMIT_BYTES
from sidecar.http2 import Broken, Malformed, literal
from sidecar.http2 import frames as f
from sidecar.http2.direction import CREDIT_LIMIT, UNREAD_LIMIT_BYTES
from sidecar.http2.guard import APP_BUDGETS
from sidecar.http2.literal import encode
from sidecar.http2.mediation import STREAM_LIMIT
from sidecar.http2.reading import BLOCK_LIMIT_BYTES, CONTINUATIONS_LIMIT, LATE_LIMIT
from sidecar.http2.reasons import ANSWERED
from tests.http2_ends import FORBIDDEN, GET, GRPC, OK, POST, Between, Fields, bytewise, cut

PREFACE = f.PREFACE + f.settings({})
METHOD, SCHEME, PATH, AUTHORITY = GET


def path(value: bytes) -> Fields:
    return [METHOD, SCHEME, (b":path", value), AUTHORITY]


REFUSED: list[tuple[Fields, Malformed]] = [
    # pseudo-header fields
    ([SCHEME, PATH, AUTHORITY], Malformed.BAD_PSEUDO_FIELDS),
    ([METHOD, PATH, AUTHORITY], Malformed.BAD_PSEUDO_FIELDS),
    ([METHOD, SCHEME, AUTHORITY], Malformed.BAD_PSEUDO_FIELDS),
    *(([*GET, again], Malformed.BAD_PSEUDO_FIELDS) for again in GET),
    ([METHOD, METHOD, SCHEME, PATH, AUTHORITY], Malformed.BAD_PSEUDO_FIELDS),
    ([*GET, (b":status", b"200")], Malformed.BAD_PSEUDO_FIELDS),
    ([*GET, (b":colour", b"red")], Malformed.BAD_PSEUDO_FIELDS),
    ([*GET, (b":", b"")], Malformed.BAD_PSEUDO_FIELDS),
    ([METHOD, SCHEME, (b"accept", b"*/*"), PATH, AUTHORITY], Malformed.BAD_PSEUDO_FIELDS),
    ([], Malformed.BAD_PSEUDO_FIELDS),
    # :method and :scheme
    *(
        ([(b":method", method), SCHEME, PATH, AUTHORITY], Malformed.BAD_METHOD)
        for method in (b"", b"get", b"GET ", b"G T", b"GET / HTTP/1.1\r\n", b"CONNECT", b"PRI", b"FOO", b"GET\0")
    ),
    ([(b":method", b"CONNECT"), AUTHORITY], Malformed.BAD_METHOD),
    ([(b":method", b"CONNECT"), (b":protocol", b"websocket"), SCHEME, PATH, AUTHORITY], Malformed.BAD_METHOD),
    ([*GET[:1], (b":protocol", b"websocket"), *GET[1:]], Malformed.BAD_METHOD),
    *(([METHOD, (b":scheme", s), PATH, AUTHORITY], Malformed.BAD_SCHEME) for s in (b"", b"ftp", b"HTTP", b"http ")),
    # :path
    *(
        (path(value), Malformed.BAD_TARGET)
        for value in (
            b"",
            b"*",
            b"orders",
            b"http://orders:8080/",
            b"orders:8080",
            b" /",
            b"/ ",
            b"/a b",
            b"/\r\nx: y",
            b"/\0",
            b"/\x7f",
            b"/\xc3\xa9",
            b"/\t",
        )
    ),
    (path(b"/a#b"), Malformed.FRAGMENT_IN_TARGET),
    (path(b"/" + b"a" * REQUEST_LINE_LIMIT_BYTES), Malformed.HEAD_TOO_LARGE),
    # :authority and host
    ([METHOD, SCHEME, PATH], Malformed.HOST_MISSING),
    *(
        ([METHOD, SCHEME, PATH, (b":authority", value)], Malformed.HOST_INVALID)
        for value in (
            b"",
            b"user@orders",
            b"orders:",
            b"orders:99999",
            b"a b",
            b"a/b",
            b"[::1",
            b"a,b",
            b"a%41",
            b"a\0",
        )
    ),
    ([METHOD, SCHEME, PATH, (b"host", b"user@orders")], Malformed.HOST_INVALID),
    ([*GET, (b"host", b"payments:8080")], Malformed.HOST_MISMATCH),
    ([*GET, (b"host", b"orders:8081")], Malformed.HOST_MISMATCH),
    ([*GET, (b"host", b"orders:8080"), (b"host", b"orders:8080")], Malformed.HOST_DUPLICATE),
    # names
    *(
        ([*GET, (name, b"1")], Malformed.BAD_FIELD_NAME)
        for name in (b"", b"Accept", b"a b", b"a:b", b"a\0", b"a\r\nb", b"\xe9", b"a\x7f", b'"', b"a,", b"a/")
    ),
    *(
        ([*GET, (name, b"1")], Malformed.BAD_FIELD_NAME)
        for name in (b"content_length", b"transfer_encoding", b"transfer.encoding", b"keep_alive", b"proxy~connection")
    ),
    # values
    *(
        ([*GET, (b"x", value)], Malformed.BAD_FIELD_VALUE)
        for value in (b"\0", b"a\rb", b"a\nb", b"a\r\nb: c", b" a", b"a ", b"\ta", b"a\t", b"\x7f", b"\x1b", b" ")
    ),
    # fields of a connection
    *(
        ([*GET, (name, value)], Malformed.CONNECTION_FIELD)
        for name, value in (
            (b"connection", b"close"),
            (b"connection", b"keep-alive"),
            (b"proxy-connection", b"keep-alive"),
            (b"keep-alive", b"timeout=5"),
            (b"transfer-encoding", b"chunked"),
            (b"transfer-encoding", b"identity"),
            (b"upgrade", b"h2c"),
            (b"upgrade", b"websocket"),
            (b"te", b"gzip"),
            (b"te", b"trailers, gzip"),
            (b"te", b""),
        )
    ),
    ([*GET, (b"te", b"trailers"), (b"te", b"trailers")], Malformed.CONNECTION_FIELD),
    ([*GET, (b"expect", b"200-ok")], Malformed.BAD_EXPECTATION),
    # content-length
    *(
        ([*POST, (b"content-length", value)], Malformed.BAD_CONTENT_LENGTH)
        for value in (b"", b"+5", b"-5", b"05", b"5,5", b"5, 6", b"0x5", b"1e3", b"9223372036854775808", b"\xb2")
    ),
    ([*POST, (b"content-length", b"0"), (b"content-length", b"0")], Malformed.DUPLICATE_CONTENT_LENGTH),
    ([*POST, (b"content-length", b"5"), (b"content-length", b"6")], Malformed.DUPLICATE_CONTENT_LENGTH),
    ([*POST, (b"content-length", b"5")], Malformed.LENGTH_MISMATCH),
    ([(b":method", b"TRACE"), SCHEME, PATH, AUTHORITY, (b"content-length", b"1")], Malformed.BODY_ON_TRACE),
    # sizes
    ([*GET, *[(b"x", b"1")] * 300], Malformed.TOO_MANY_FIELDS),
]

PERMITTED: list[Fields] = [
    GET,
    POST,
    GRPC,
    *([(b":method", method), SCHEME, PATH, AUTHORITY] for method in sorted(METHODS)),
    [AUTHORITY, PATH, SCHEME, METHOD],
    [METHOD, (b":scheme", b"https"), PATH, AUTHORITY],
    [(b":method", b"OPTIONS"), SCHEME, (b":path", b"*"), AUTHORITY],
    path(b"/"),
    path(b"//"),
    path(b"/a?b"),
    path(b"/%2e%2e/"),
    path(b'/"<>\\^`{|}'),
    [METHOD, SCHEME, PATH, (b"host", b"orders")],
    [METHOD, SCHEME, PATH, (b":authority", b"[::1]:80")],
    [*GET, (b"host", b"Orders:8080")],
    [*GET, (b"te", b"trailers")],
    [*GET, (b"expect", b"100-continue")],
    [*GET, (b"cookie", b"a=1"), (b"cookie", b"b=2")],
    [*GET, (b"x-empty", b"")],
    [*GET, (b"x", b"a \t b")],
    [*GET, (b"x", b"\x80\xff")],
    [*GET, (b"x_y.z!#$%&'*+^`|~", b"1")],
    [*POST, (b"content-length", b"0")],
    [*GET, *[(b"x", b"1")] * 200],
    [*GET, (b"trailer", b"x-sum")],
]


def tries(data: bytes) -> list[list[bytes]]:
    return [[data], list(bytewise(data))]


@pytest.mark.parametrize(("fields", "reason"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_malformed_request_reaches_nobody(fields: Fields, reason: Malformed) -> None:
    for pieces in tries(f.header_frames(1, encode(fields), end=True, limit_bytes=16_384)):
        wire = Between()
        wire.client(*pieces)
        assert wire.flaws == [reason]
        assert wire.exchanges == []
        assert wire.to_server.frames == []
        if reason in ANSWERED:
            assert wire.to_client.headers(1)[0][0] == (b":status", b"400")
            assert wire.to_client.ended(1)
        else:
            assert wire.to_client.codes(1) == [f.PROTOCOL_ERROR]
        wire.ask(3)
        assert wire.to_server.headers(3) == [GET]


@pytest.mark.parametrize("fields", PERMITTED, ids=lambda value: str(value)[:60])
def test_its_neighbour_passes(fields: Fields) -> None:
    for pieces in tries(f.header_frames(1, encode(fields), end=True, limit_bytes=16_384)):
        wire = Between()
        wire.client(*pieces)
        assert wire.flaws == []
        assert wire.to_server.headers(1) == [fields]


@pytest.mark.parametrize(
    "trailer",
    [
        b"content-length",
        b"host",
        b"authorization",
        b"cookie",
        b"content-type",
        b"x-forwarded-client-cert",
        b"x_forwarded_client_cert",
        b"x-ringfence-refusal",
        b"te",
    ],
)
def test_trailers_that_frame_route_or_name_an_identity_are_refused(trailer: bytes) -> None:
    wire = Between()
    wire.ask(1, POST, end=False, body=b"x")
    wire.ask(1, [(trailer, b"1")])
    assert wire.flaws == [Malformed.BAD_TRAILER]
    assert len(wire.to_server.headers(1)) == 1
    assert not wire.to_server.ended(1)
    assert wire.to_client.codes(1) == [f.PROTOCOL_ERROR]


@pytest.mark.parametrize(
    ("trailers", "reason"),
    [
        ([(b":path", b"/")], Malformed.BAD_PSEUDO_FIELDS),
        ([(b":status", b"200")], Malformed.BAD_PSEUDO_FIELDS),
        ([(b"transfer-encoding", b"chunked")], Malformed.CONNECTION_FIELD),
        ([(b"X-Sum", b"1")], Malformed.BAD_FIELD_NAME),
        ([(b"x-sum", b"1\r\n")], Malformed.BAD_FIELD_VALUE),
        ([(b"x", b"1")] * 300, Malformed.TOO_MANY_FIELDS),
    ],
)
def test_malformed_trailers_are_refused(trailers: Fields, reason: Malformed) -> None:
    wire = Between()
    wire.ask(1, POST, end=False)
    wire.ask(1, trailers)
    assert wire.flaws == [reason]
    assert not wire.to_server.ended(1)


# --- the framing ---

REQUEST = f.frame(f.HEADERS, 5, 1, encode(GET))
UPLOAD = f.frame(f.HEADERS, 4, 1, encode(POST))

BROKEN: list[tuple[bytes, int, Broken]] = [
    (f.frame(f.DATA, 0, 0, b"x"), f.PROTOCOL_ERROR, Broken.STREAM_ID),
    (f.frame(f.DATA, 0, 1, b"x"), f.PROTOCOL_ERROR, Broken.STREAM_ID),  # idle
    (f.frame(f.DATA, 0, 2, b"x"), f.PROTOCOL_ERROR, Broken.STREAM_ID),
    (UPLOAD + f.frame(f.DATA, f.FLAG_PADDED, 1), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
    (UPLOAD + f.frame(f.DATA, f.FLAG_PADDED, 1, b"\x05abcd"), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.HEADERS, 5, 0, encode(GET)), f.PROTOCOL_ERROR, Broken.STREAM_ID),
    (f.frame(f.HEADERS, 5, 2, encode(GET)), f.PROTOCOL_ERROR, Broken.STREAM_ID),
    (f.frame(f.HEADERS, 5, 3, encode(GET)) + REQUEST, f.STREAM_CLOSED, Broken.STREAM_CLOSED),
    (f.frame(f.HEADERS, 5 | f.FLAG_PADDED, 1, b"\x09abc"), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.HEADERS, 5 | f.FLAG_PRIORITY, 1, b"abc"), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.HEADERS, 5, 1, b"\xff\xff\xff"), f.COMPRESSION_ERROR, Broken.COMPRESSION),
    (f.frame(f.HEADERS, 1, 1, encode(GET)) + f.ping(bytes(8)), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.HEADERS, 1, 1, encode(GET)) + f.frame(f.DATA, 0, 1, b"x"), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.HEADERS, 1, 1, encode(GET)) + f.frame(0xEE, 0, 1, b"x"), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.HEADERS, 1, 1) + f.frame(f.CONTINUATION, 4, 3, encode(GET)), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.CONTINUATION, 4, 1, encode(GET)), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (REQUEST + f.frame(f.CONTINUATION, 4, 1), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.PRIORITY, 0, 0, bytes(5)), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.PRIORITY, 0, 1, bytes(4)), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
    (f.rst_stream(0, 8), f.PROTOCOL_ERROR, Broken.STREAM_ID),
    (f.rst_stream(1, 8), f.PROTOCOL_ERROR, Broken.STREAM_ID),
    (f.rst_stream(2, 8), f.PROTOCOL_ERROR, Broken.STREAM_ID),
    (REQUEST + f.frame(f.RST_STREAM, 0, 1, bytes(3)), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
    (f.frame(f.SETTINGS, 0, 1), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.SETTINGS, 0, 0, bytes(5)), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
    (f.frame(f.SETTINGS, f.FLAG_ACK, 0, bytes(6)), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
    (f.SETTINGS_ACK, f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.settings({f.SETTING_ENABLE_PUSH: 2}), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.settings({f.SETTING_INITIAL_WINDOW_SIZE: 1 << 31}), f.FLOW_CONTROL_ERROR, Broken.FLOW_CONTROL),
    (f.settings({f.SETTING_MAX_FRAME_SIZE: 16_383}), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.settings({f.SETTING_MAX_FRAME_SIZE: 1 << 24}), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.PUSH_PROMISE, 4, 1, bytes(4) + encode(GET)), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.PING, 0, 0, bytes(7)), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
    (f.frame(f.PING, 0, 1, bytes(8)), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.GOAWAY, 0, 1, bytes(8)), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.frame(f.GOAWAY, 0, 0, bytes(7)), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
    (f.frame(f.WINDOW_UPDATE, 0, 0, bytes(3)), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
    (REQUEST + f.frame(f.WINDOW_UPDATE, 0, 1, b"\x01" * 5), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
    (f.window_update(0, 0), f.PROTOCOL_ERROR, Broken.PROTOCOL),
    (f.window_update(1, 10), f.PROTOCOL_ERROR, Broken.STREAM_ID),
    (f.frame(f.DATA, 0, 1, bytes(16_385)), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
    (f.frame(0xEE, 0, 0, bytes(16_385)), f.FRAME_SIZE_ERROR, Broken.FRAME_SIZE),
]


@pytest.mark.parametrize(("data", "code", "reason"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_breach_of_the_framing_ends_the_connection_with_its_code(data: bytes, code: int, reason: Broken) -> None:
    states = []
    for pieces in tries(data):
        wire = Between()
        wire.client(*pieces)
        assert wire.to_client.goaways() == [code]
        assert wire.flaws == [reason]
        assert wire.inspector.close_after
        assert wire.open_count == 0
        assert wire.client(REQUEST) == []
        states.append(wire.state())
    assert states[0] == states[1]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20),
        f.PREFACE[:-1] + b"X",
        f.settings({}),
        f.PREFACE[:10] + bytes(14),
    ],
)
def test_bytes_that_are_no_http2_are_told_nothing(data: bytes) -> None:
    for pieces in tries(data + bytes(24)):
        wire = Between(greet=False)
        wire.client(*pieces)
        assert wire.flaws == [Broken.NO_PREFACE]
        assert wire.inspector.close_after
        assert (wire.to_client.data, wire.to_server.data) == (b"", b"")


def test_a_client_that_does_not_begin_with_settings_is_refused() -> None:
    for first in (REQUEST, f.ping(bytes(8)), f.window_update(0, 1)):
        wire = Between(greet=False)
        wire.client(f.PREFACE + first)
        assert wire.flaws == [Broken.PROTOCOL]
        assert wire.exchanges == []
        assert wire.inspector.close_after


def test_a_reserved_bit_changes_nothing() -> None:
    wire = Between()
    wire.client(f.frame(f.HEADERS, 5, 1 << 31 | 1, encode(GET)))
    assert [exchange.stream_id for exchange in wire.exchanges] == [1]
    assert wire.to_server.headers(1) == [GET]


# --- floods ---


def reset_flood(index: int) -> bytes:
    stream_id = 2 * index + 1
    return f.frame(f.HEADERS, 5, stream_id, encode(GET)) + f.rst_stream(stream_id, f.CANCEL)


def provoked_flood(index: int) -> bytes:
    stream_id = 2 * index + 1
    return f.frame(f.HEADERS, 5, stream_id, encode(GET)) + f.window_update(stream_id, 0)


def malformed_flood(index: int) -> bytes:
    return f.frame(f.HEADERS, 5, 2 * index + 1, encode([*GET, (b"connection", b"close")]))


FLOODS: list[tuple[Callable[[int], bytes], str, Broken]] = [
    (reset_flood, "reset", Broken.RESET_FLOOD),
    (provoked_flood, "reset", Broken.RESET_FLOOD),
    (malformed_flood, "reset", Broken.RESET_FLOOD),
    (lambda _: f.ping(b"12345678"), "ping", Broken.PING_FLOOD),
    (lambda _: f.frame(f.PRIORITY, 0, 1, bytes(5)), "priority", Broken.PRIORITY_FLOOD),
    (lambda _: f.frame(0xEE, 0, 1), "unknown", Broken.UNKNOWN_FLOOD),
    (lambda _: f.goaway(0, 0), "goaway", Broken.GOAWAY_FLOOD),
]


@pytest.mark.parametrize(
    ("make", "kind", "reason"), FLOODS, ids=lambda value: getattr(value, "__name__", str(value))[:30]
)
def test_a_flood_is_cut_off_and_less_is_not(make: Callable[[int], bytes], kind: str, reason: Broken) -> None:
    burst = int(APP_BUDGETS[kind][1])
    wire = Between()
    wire.client(b"".join(make(index) for index in range(burst)))
    assert not wire.inspector.close_after
    wire.client(make(burst))
    assert wire.to_client.goaways() == [f.ENHANCE_YOUR_CALM]
    assert wire.flaws[-1] == reason
    assert wire.inspector.close_after
    assert wire.open_count == 0


@pytest.mark.parametrize(
    ("make", "kind", "reason"), FLOODS, ids=lambda value: getattr(value, "__name__", str(value))[:30]
)
def test_the_same_frames_at_leisure_are_no_flood(make: Callable[[int], bytes], kind: str, reason: Broken) -> None:
    now = [0.0]
    rate, burst = APP_BUDGETS[kind]
    wire = Between(monotonic=lambda: now[0])
    for index in range(int(burst) * 2):
        now[0] += 1.0 / rate
        wire.client(make(index))
    assert not wire.inspector.close_after


def test_settings_without_end_are_a_flood() -> None:
    wire = Between()
    burst = int(APP_BUDGETS["settings"][1])
    for _ in range(burst - 1):
        wire.client(f.settings({}))
        wire.server(f.SETTINGS_ACK)
    assert not wire.inspector.close_after
    wire.client(f.settings({}))
    assert wire.flaws == [Broken.SETTINGS_FLOOD]


def test_settings_that_the_app_has_not_taken_are_bounded() -> None:
    now = [0.0]
    wire = Between(monotonic=lambda: now[0])
    for _ in range(100):
        now[0] += 10.0
        wire.client(f.settings({}))
    assert wire.flaws == [Broken.SETTINGS_FLOOD]


def test_empty_data_without_end_is_a_flood() -> None:
    wire = Between()
    wire.ask(1, POST, end=False)
    burst = int(APP_BUDGETS["empty_data"][1])
    wire.client(f.frame(f.DATA, 0, 1) * burst)
    assert not wire.inspector.close_after
    wire.client(f.frame(f.DATA, 0, 1))
    assert wire.flaws == [Broken.EMPTY_DATA_FLOOD]


def test_padding_without_content_is_empty_data() -> None:
    wire = Between()
    wire.ask(1, POST, end=False)
    wire.client(f.frame(f.DATA, f.FLAG_PADDED, 1, b"\x01\0") * (int(APP_BUDGETS["empty_data"][1]) + 1))
    assert wire.flaws == [Broken.EMPTY_DATA_FLOOD]


def test_a_window_opened_byte_by_byte_is_a_flood() -> None:
    wire = Between()
    wire.ask(1)
    burst = int(APP_BUDGETS["window"][1])
    wire.client(f.window_update(1, 1) * burst)
    assert not wire.inspector.close_after
    wire.client(f.window_update(1, 1))
    assert wire.flaws == [Broken.WINDOW_FLOOD]


def test_a_window_opened_by_the_short_messages_that_came_is_no_flood() -> None:
    """As grpcio does it, at any rate of calls: 5 bytes for the head of a message, twice, and what it has read."""
    wire = Between()
    for stream_id in range(1, 2 * int(APP_BUDGETS["window"][1]), 2):
        wire.ask(stream_id)
        wire.reply(stream_id, end=False)
        wire.client(f.window_update(stream_id, 5))
        wire.server(f.frame(f.DATA, 0, stream_id, b"\0\0\0\0\x04abcd"))
        wire.client(f.window_update(stream_id, 5) + f.window_update(0, 9))
        wire.reply(stream_id, [(b"grpc-status", b"0")])
    assert wire.flaws == []


def test_window_updates_must_stand_in_proportion_to_data() -> None:
    wire = Between()
    wire.ask(1)
    wire.client(f.window_update(1, 100) * CREDIT_LIMIT)
    assert not wire.inspector.close_after
    wire.client(f.window_update(1, 100))
    assert wire.flaws == [Broken.WINDOW_FLOOD]


def test_window_updates_for_data_received_are_no_flood() -> None:
    wire = Between()
    wire.client(f.window_update(0, 1 << 30))
    wire.ask(1)
    wire.reply(1, end=False)
    for _ in range(CREDIT_LIMIT // 50):
        wire.server(f.frame(f.DATA, 0, 1, b"x" * 100) * 100)
        wire.client(f.window_update(1, 100) * 200)
    assert wire.flaws == []


def test_frames_about_dead_streams_are_a_flood_in_the_end() -> None:
    wire = Between()
    wire.ask(1)
    wire.reply(1)
    wire.client(f.rst_stream(1, 8) * (CREDIT_LIMIT + 1))
    assert wire.flaws == [Broken.WINDOW_FLOOD]


def test_a_block_in_endless_continuations_is_cut_off() -> None:
    wire = Between()
    wire.client(f.frame(f.HEADERS, 1, 1, encode(GET)) + f.frame(f.CONTINUATION, 0, 1) * (CONTINUATIONS_LIMIT - 1))
    assert not wire.inspector.close_after
    wire.client(f.frame(f.CONTINUATION, 0, 1))
    assert wire.flaws == [Broken.CONTINUATION_FLOOD]
    assert wire.to_client.goaways() == [f.ENHANCE_YOUR_CALM]


def test_a_block_above_its_limit_is_cut_off_before_it_is_read() -> None:
    wire = Between()
    part = bytes(16_000)
    wire.client(f.frame(f.HEADERS, 1, 1, part) + f.frame(f.CONTINUATION, 0, 1, part) * (BLOCK_LIMIT_BYTES // 16_000))
    assert wire.flaws == [Broken.HEADER_BOMB]


def test_a_block_that_decodes_to_masses_is_a_bomb() -> None:
    wire = Between()
    big = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000
    wire.client(f.frame(f.HEADERS, 5, 1, encode(GET) + big + b"\xbe" * 100))
    assert wire.flaws == [Broken.HEADER_BOMB]
    assert wire.to_client.goaways() == [f.ENHANCE_YOUR_CALM]


def test_a_large_header_list_costs_the_stream_only() -> None:
    block = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 20
    wire = Between()
    wire.client(f.frame(f.HEADERS, 5, 1, encode(GET) + block))
    assert wire.flaws == [Malformed.HEAD_TOO_LARGE]
    wire.ask(3)
    assert wire.to_server.headers(3) == [GET]


@pytest.mark.parametrize("reads", [True, False])
def test_a_client_that_reads_no_answers_gets_no_more_of_them(reads: bool) -> None:
    wire = Between(refuses=lambda _: True)
    inspector = wire.inspector
    block = encode(POST)
    written = 0
    stream_id = 1
    while not inspector.close_after and written < UNREAD_LIMIT_BYTES * 3 // 2:
        assert inspector.from_client(f.frame(f.HEADERS, 4, stream_id, block)) == b""
        stream_id += 2
        for frame in cut(inspector.take_client()):
            written += 9 + len(frame.payload)
            if reads and frame.kind == f.PING:
                assert inspector.from_client(f.ping(frame.payload, ack=True)) == b""  # ours: the app never sees it
    assert wire.flaws == ([] if reads else [Broken.UNREAD_FLOOD])
    assert reads or written < UNREAD_LIMIT_BYTES + 1000


def test_an_app_that_reads_no_window_updates_gets_no_more_of_them() -> None:
    wire = Between()
    wire.client(f.window_update(0, 1 << 30))
    wire.ask(1)
    wire.tell(lambda: wire.inspector.revoke(wire.exchanges[0], FORBIDDEN))
    for _ in range(UNREAD_LIMIT_BYTES // 13 // 100):
        wire.server(f.frame(f.DATA, 0, 1, b"x") * 100)
    assert wire.flaws == []
    wire.server(f.frame(f.DATA, 0, 1, b"x") * 200)
    assert wire.flaws == [Broken.UNREAD_FLOOD]


def test_frames_on_streams_long_gone_are_forgotten_not_fatal() -> None:
    """What is remembered of dead streams is bounded; what was forgotten is dropped."""
    wire = Between(refuses=lambda exchange: exchange.method == b"POST")
    for index in range(LATE_LIMIT + 50):
        wire.ask(2 * index + 1, POST, end=False)
    assert wire.client(f.frame(f.DATA, 0, 1, b"late"), f.frame(f.DATA, 0, 2 * LATE_LIMIT + 1, b"late")) == []
    assert wire.flaws == []
    assert len(wire.inspector._requests.late) <= LATE_LIMIT


def test_streams_are_bounded_whatever_the_app_allows() -> None:
    wire = Between(server_settings={f.SETTING_MAX_CONCURRENT_STREAMS: 1 << 31})
    for index in range(STREAM_LIMIT + 100):
        wire.client(f.frame(f.HEADERS, 4, 2 * index + 1, encode(POST)))
    assert len(wire.inspector.outstanding()) == STREAM_LIMIT
    assert len({x.stream_id for x in wire.to_client.frames if x.kind == f.RST_STREAM}) == 100


def test_a_frame_that_drips_in_is_not_copied_over_and_over() -> None:
    """Bytes of an incomplete frame are gathered, not joined: the parts are as many as came."""
    wire = Between()
    wire.ask(1, POST, end=False)
    data = f.frame(f.DATA, 1, 1, bytes(16_384))
    for piece in bytewise(data[:-1]):
        assert wire.inspector.from_client(piece) == b""
    assert len(wire.inspector._requests._parts) > 16_000
    assert wire.inspector.from_client(data[-1:]) == data


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=60))))
def test_random_frames_end_in_order(random: list[tuple[int, int, int, bytes]]) -> None:
    """Whatever frames a client sends: no crash, whole frames out, the app's decoder reads them, every exchange ends."""
    data = b"".join(f.frame(*each) for each in random)
    states = []
    for pieces in ([data], list(bytewise(data))):
        wire = Between()
        wire.ask(1, POST, end=False)
        wire.ask(3)
        wire.client(*pieces)
        wire.server(f.frame(f.HEADERS, 5, 3, encode(OK)))
        states.append(wire.state())
        wire.inspector.cut()
        assert wire.open_count == 0
    assert states[0] == states[1]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=60))))
def test_random_frames_of_an_app_end_in_order(random: list[tuple[int, int, int, bytes]]) -> None:
    data = b"".join(f.frame(*each) for each in random)
    states = []
    for pieces in ([data], list(bytewise(data))):
        wire = Between()
        wire.ask(1, POST, end=False)
        wire.ask(3)
        wire.server(*pieces)
        wire.client(f.frame(f.DATA, 1, 1, b"x"))
        states.append(wire.state())
        wire.inspector.cut()
        assert wire.open_count == 0
    assert states[0] == states[1]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_never_crash(data: bytes, prefaced: bool) -> None:
    wire = Between(greet=False)
    wire.inspector.from_client(PREFACE + data if prefaced else data)
    wire.inspector.from_server(data)
    wire.inspector.cut()
    assert wire.open_count == 0


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_random_header_blocks_mean_the_same_to_judge_and_app(blocks: list[bytes]) -> None:
    """What the app's own decoder reads is what was judged, whatever blocks were refused in between."""
    wire = Between(refuses=lambda exchange: len(exchange.target) % 2 == 0)
    for index, block in enumerate(blocks):
        mixed = encode(GET[:2]) + b"\x44\x02/" + b"a" + block + encode(GET[3:])
        for stream_id, sent in ((4 * index + 1, block), (4 * index + 3, mixed)):
            wire.client(f.frame(f.HEADERS, 5, stream_id, sent))
    for exchange in wire.exchanges:
        if exchange.local is None:
            (fields,) = wire.to_server.headers(exchange.stream_id)
            named = dict(fields)
            assert (named[b":method"], named[b":path"]) == (exchange.method, exchange.target)
    assert len([x for x in wire.to_server.frames if x.kind == f.HEADERS]) == sum(
        exchange.local is None for exchange in wire.exchanges
    )


def test_a_field_name_spelled_by_a_huffman_code_is_judged_decoded() -> None:
    block = encode(GET) + hpack.Encoder().encode([(b"connection", b"close")], huffman=True)
    wire = Between()
    wire.client(f.frame(f.HEADERS, 5, 1, block))
    assert wire.flaws == [Malformed.CONNECTION_FIELD]
    wire.client(f.frame(f.HEADERS, 5, 3, encode(GET) + literal(b"x-connection", b"close")))
    assert wire.to_server.headers(3) == [[*GET, (b"x-connection", b"close")]]
