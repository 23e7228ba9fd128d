"""Hostile frames at the splitter: a client costs itself, an endpoint its own calls, and neither costs memory."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sidecar.http2 import Broken, Malformed
from sidecar.http2 import frames as f
from sidecar.http2.direction import CREDIT_LIMIT, UNREAD_LIMIT_BYTES
from sidecar.http2.guard import APP_BUDGETS
from sidecar.http2.literal import encode
from sidecar.http2.mediation import STREAM_LIMIT
from sidecar.http2.reading import CONTINUATIONS_LIMIT
from sidecar.split.end import WINDOW_BYTES
from tests.http2_ends import GET, GRPC, OK, POST
from tests.split_ends import Fan


def burst(kind: str) -> int:
    return int(APP_BUDGETS[kind][1]) + 1


BREACHES: list[tuple[str, bytes, Broken]] = [
    ("DATA on stream 0", f.frame(f.DATA, 0, 0, b"x"), Broken.STREAM_ID),
    ("HEADERS cut by DATA", f.frame(f.HEADERS, 0, 99, encode(GET)) + f.frame(f.DATA, 0, 1, b"x"), Broken.PROTOCOL),
    ("CONTINUATION alone", f.frame(f.CONTINUATION, 4, 1, b"x"), Broken.PROTOCOL),
    ("frame too large", f.frame(f.DATA, 0, 1, bytes(16_385)), Broken.FRAME_SIZE),
    ("SETTINGS of 5 bytes", f.frame(f.SETTINGS, 0, 0, bytes(5)), Broken.FRAME_SIZE),
    ("SETTINGS on a stream", f.frame(f.SETTINGS, 0, 1), Broken.PROTOCOL),
    ("acknowledgement of nothing", f.SETTINGS_ACK * 4, Broken.PROTOCOL),
    ("PING of 7 bytes", f.frame(f.PING, 0, 0, bytes(7)), Broken.FRAME_SIZE),
    ("RST_STREAM of an idle stream", f.rst_stream(1001, 8), Broken.STREAM_ID),
    ("WINDOW_UPDATE of 0", f.window_update(0, 0), Broken.PROTOCOL),
    ("window overflow", f.window_update(0, (1 << 31) - 1), Broken.FLOW_CONTROL),
    ("PUSH_PROMISE", f.frame(f.PUSH_PROMISE, 4, 1, bytes(4)), Broken.PROTOCOL),
    ("initial window too large", f.settings({f.SETTING_INITIAL_WINDOW_SIZE: 1 << 31}), Broken.FLOW_CONTROL),
    ("padding longer than the frame", f.frame(f.DATA, f.FLAG_PADDED, 1, b"\xff"), Broken.PROTOCOL),
    ("bad compression", f.frame(f.HEADERS, 5, 101, b"\xff\xff\xff\xff\xff"), Broken.COMPRESSION),
    ("pings", f.ping(bytes(8)) * burst("ping"), Broken.PING_FLOOD),
    ("settings", f.settings({}) * burst("settings"), Broken.SETTINGS_FLOOD),
    ("priorities", f.frame(f.PRIORITY, 0, 1, bytes(5)) * burst("priority"), Broken.PRIORITY_FLOOD),
    ("unknown frames", f.frame(0x42, 0, 0) * burst("unknown"), Broken.UNKNOWN_FLOOD),
    ("goaways", f.goaway(99, 0) * burst("goaway"), Broken.GOAWAY_FLOOD),
    ("window updates", f.window_update(1, 100) * (CREDIT_LIMIT + 20), Broken.WINDOW_FLOOD),
    (
        "continuations",
        f.frame(f.HEADERS, 1, 101, encode(GET)) + f.frame(f.CONTINUATION, 0, 101) * CONTINUATIONS_LIMIT,
        Broken.CONTINUATION_FLOOD,
    ),
]


@pytest.mark.parametrize("data, reason", [(data, reason) for _, data, reason in BREACHES], ids=[b[0] for b in BREACHES])
def test_a_client_that_breaks_the_protocol_ends_its_connection(data: bytes, reason: Broken) -> None:
    fan = Fan(2)
    fan.ask(1, POST, end=False)
    fan.client(data)
    assert [event for event in fan.events if event[0] == "broken"] == [("broken", "client", reason)]
    assert fan.splitter.close_after
    assert fan.to_client.goaways()
    assert fan.open_count == fan.chooser.open_count == 0
    assert fan.closed == [1]


@pytest.mark.parametrize("data, reason", [(data, reason) for _, data, reason in BREACHES], ids=[b[0] for b in BREACHES])
def test_an_endpoint_that_breaks_the_protocol_costs_its_own_calls(data: bytes, reason: Broken) -> None:
    fan = Fan(2)
    assert [fan.ask(1, GRPC, end=False), fan.ask(3, POST, end=False)] == [1, 0]
    fan.reply(1, 1, OK, end=False)
    if reason is Broken.COMPRESSION:
        data = data.replace((101).to_bytes(4, "big"), (1).to_bytes(4, "big"))
    if reason is Broken.CONTINUATION_FLOOD:
        data = data.replace((101).to_bytes(4, "big"), (1).to_bytes(4, "big"))
    fan.server(1, data)
    broken = [event for event in fan.events if event[0] == "broken"]
    if reason is Broken.GOAWAY_FLOOD and not broken:
        pytest.fail("not cut off")
    assert broken == [("broken", "server", reason)]
    assert fan.closed == [1]
    assert dict(fan.to_client.headers(1)[-1])[b"grpc-status"] == b"14"
    assert not fan.splitter.close_after
    fan.client(f.frame(f.DATA, 1, 3, b"x"))
    fan.reply(0, 1, body=b"unharmed")
    assert fan.to_client.content(3) == b"unharmed"
    assert fan.open_count == fan.chooser.open_count == 0


def test_rapid_resets_are_cut_off() -> None:
    fan = Fan(1)
    for stream_id in range(1, 2 * burst("reset") + 2, 2):
        fan.ask(stream_id)
        fan.client(f.rst_stream(stream_id, f.CANCEL))
    assert fan.flaws == [Broken.RESET_FLOOD]
    assert fan.splitter.close_after
    assert fan.chooser.open_count == 0


def test_resets_that_a_client_provokes_count_too() -> None:
    fan = Fan(1)
    for number, stream_id in enumerate(range(1, 2 * burst("reset") + 2, 2)):
        if fan.splitter.close_after:
            break
        fan.ask(stream_id)
        fan.server(0, f.rst_stream(2 * number + 1, f.PROTOCOL_ERROR))
    assert fan.flaws == [Broken.RESET_FLOOD]


def test_more_streams_than_allowed_are_refused() -> None:
    fan = Fan(1)
    for stream_id in range(1, 2 * STREAM_LIMIT + 2, 2):
        fan.ask(stream_id)
    assert fan.to_client.codes(2 * STREAM_LIMIT + 1) == [f.REFUSED_STREAM]
    assert fan.flaws == []


def test_a_window_opened_byte_by_byte_while_it_is_shut_is_a_flood() -> None:
    fan = Fan(1, client_settings={f.SETTING_INITIAL_WINDOW_SIZE: 0})
    fan.ask(1)
    fan.reply(0, 1, body=bytes(10_000))
    fan.client(f.window_update(1, 1) * burst("window"))
    assert fan.flaws == [Broken.WINDOW_FLOOD]
    assert len(fan.to_client.content(1)) == burst("window") - 1


def test_small_updates_of_a_window_that_is_open_are_none() -> None:
    """As grpcio makes them, for every message."""
    fan = Fan(1)
    fan.ask(1)
    for _ in range(2):
        fan.client(f.window_update(1, 5) * burst("window"))
    assert fan.flaws == []


def test_a_client_that_asks_for_masses_and_reads_nothing_is_cut_off() -> None:
    clock = [0.0]

    def monotonic() -> float:
        clock[0] += 1.0
        return clock[0]

    fan = Fan(1, monotonic=monotonic)
    fan.tell(lambda: fan.splitter.client_full(True))
    for _ in range(2 * UNREAD_LIMIT_BYTES // 17 // 1000 + 2):
        fan.client(f.ping(bytes(8)) * 1000)
    assert fan.flaws == [Broken.UNREAD_FLOOD]


def test_data_beyond_the_stream_s_window_breaks_the_client() -> None:
    fan = Fan(1, silent={0})
    fan.ask(1, POST, end=False)
    for _ in range(5):
        fan.client(f.frame(f.DATA, 0, 1, bytes(16_000)))
    assert fan.flaws == [Broken.FLOW_CONTROL]


def test_data_beyond_the_connection_s_window_breaks_the_endpoint() -> None:
    fan = Fan(1)
    fan.ask(1, GRPC)
    fan.reply(0, 1, OK, end=False)
    for _ in range(WINDOW_BYTES // 16_000 + 2):
        fan.server(0, f.frame(f.DATA, 0, 1, bytes(16_000)))
    assert fan.flaws[0] == Broken.FLOW_CONTROL
    assert fan.closed == [0]
    assert not fan.splitter.close_after


@pytest.mark.parametrize(
    "act, reason",
    [
        (lambda fan: fan.server(1, f.frame(f.DATA, 0, 1, b"x")), Malformed.UNEXPECTED_RESPONSE),
        (lambda fan: fan.reply(1, 1, [(b":status", b"999")]), Malformed.BAD_STATUS),
        (lambda fan: fan.reply(1, 1, [*OK, (b"content-length", b"5")], body=b"123"), Malformed.LENGTH_MISMATCH),
        (lambda fan: fan.reply(1, 1, [*OK, (b"connection", b"close")]), Malformed.CONNECTION_FIELD),
        (lambda fan: fan.reply(1, 1, [(b":status", b"101")], end=False), Malformed.BAD_STATUS),
        (lambda fan: fan.server(1, f.window_update(1, 0)), None),
    ],
)
def test_a_response_that_is_none_costs_its_stream(act: Callable[[Fan], None], reason: Malformed | None) -> None:
    fan = Fan(2)
    assert [fan.ask(1, POST, end=False), fan.ask(3), fan.ask(5)] == [1, 0, 1]
    act(fan)
    assert fan.flaws == [reason or Malformed.BAD_WINDOW]
    assert fan.to_leg[1].codes(1) == [f.PROTOCOL_ERROR]
    assert fan.to_client.headers(1) or fan.to_client.codes(1)
    fan.reply(1, 3)
    fan.reply(0, 1)
    assert fan.to_client.headers(3) == fan.to_client.headers(5) == [OK]
    assert fan.open_count == fan.chooser.open_count == 0


@pytest.mark.parametrize("who", ["client", "endpoint"])
def test_random_frames_never_break_more_than_their_sender(who: str) -> None:
    for seed in range(150):
        chance = random.Random(seed)
        fan = Fan(2)
        fan.ask(1, GRPC, end=False)
        fan.ask(3, POST, end=False)
        for _ in range(60):
            stream_id = chance.choice([0, 1, 1, 3, 5, 7, 99])
            payload = chance.choice([b"", bytes(4), bytes(8), chance.randbytes(chance.randrange(40)), encode(OK)])
            frame = f.frame(chance.randrange(11), chance.choice([0, 1, 4, 5, 8, 0x20, 0xFF]), stream_id, payload)
            if who == "client":
                fan.client(frame)
            elif not fan.leg[1].closed:
                fan.server(1, frame)
        if who == "endpoint":
            assert not fan.splitter.close_after
            assert not fan.leg[0].closed
        fan.tell(fan.splitter.cut)
        assert fan.open_count == fan.chooser.open_count == 0
        client = fan.splitter._client
        assert (client.held_bytes, client.kept_bytes) == (0, 0)
        for leg in fan.legs:
            assert not leg.streams


def test_an_endpoint_that_heaps_up_header_blocks_for_a_client_that_does_not_read_is_cut_off_alone() -> None:
    fan = Fan(2)
    went = [fan.ask(stream_id) for stream_id in range(1, 200, 2)]
    assert went.count(0) == 50
    fan.tell(lambda: fan.splitter.client_full(True))
    interim = f.header_frames(
        1, encode([(b":status", b"103"), (b"x", bytes([97]) * 16_000)]), end=False, limit_bytes=1 << 14
    )
    heaped = 0
    for number in range(50):
        block = interim[:5] + (2 * number + 1).to_bytes(4, "big") + interim[9:]
        for _ in range(8):
            if not fan.leg[1].closed:
                fan.server(1, block)
                heaped += len(block)
    assert heaped < 2 * UNREAD_LIMIT_BYTES
    broken = [event[1:] for event in fan.events if event[0] == "broken"]
    assert broken == [("server", Broken.UNREAD_FLOOD)]
    fan.client(f.ping(bytes(8)))  # nor is the client to blame
    fan.tell(lambda: fan.splitter.client_full(False))
    fan.reply(0, 1)
    assert not fan.splitter.close_after
    assert len(fan.splitter.outstanding()) == 49
