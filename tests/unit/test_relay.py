"""One app connection joined to one stream: who waits for whom, what is held, how each kind of end travels."""

from __future__ import annotations

import asyncio

import pytest

from sidecar import relay as relays
from sidecar.http2 import frames as h2
from sidecar.relay import Relay, RelayFacts
from sidecar.tunnel.stream import STREAM_WINDOW_BYTES
from tests.fake_transports import FakeStream, FakeTransport
from tests.tunnel_ends import exchange, pair
from tests.turning_loop import TurningLoop, run_turning


class Owner:
    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []

    def relay_connected(self, relay: Relay) -> None:
        assert relay.transport is not None

    def relay_ended(self, relay: Relay, reason: str, detail: str) -> None:
        self.ends.append((reason, detail))

    def relay_failed(self, relay: Relay, error: Exception) -> None:
        raise AssertionError(error)


def facts() -> RelayFacts:
    return RelayFacts(direction="inbound", peer="", service="shop/api", port=9000, protocol="tcp", started=0.0)


class Joined:
    """A relay between a fake app and a fake stream."""

    def __init__(self, *, connected: bool = True) -> None:
        self.owner = Owner()
        self.relay = Relay(self.owner, facts())
        self.stream = FakeStream()
        self.relay.stream = self.stream
        self.app = FakeTransport(self.relay)
        if connected:
            self.relay.connection_made(self.app)


# -- backpressure -----------------------------------------------------------------------------------------------------


def test_a_stalled_app_holds_one_window_and_others_on_the_link_go_on() -> None:
    client, server = pair()
    apps: list[FakeTransport] = []
    streams = []
    for _ in range(2):
        stream, _ = client.open()
        exchange(client, server)
        relay = Relay(Owner(), facts())
        relay.stream = server.connects[-1][0]
        server.connects[-1][0].endpoint = relay
        apps.append(FakeTransport(relay))
        relay.connection_made(apps[-1])
        streams.append(stream)
    blob = bytes(range(256)) * 16 * 1024  # 4 MiB
    for stream in streams:
        stream.send(blob)
    for _ in range(200):
        exchange(client, server)
        apps[1].drain()
    assert len(apps[1].taken) == len(blob)
    held = apps[0].get_write_buffer_size()
    assert 0 < held <= 2 * STREAM_WINDOW_BYTES
    while apps[0].drain():
        exchange(client, server)
    assert bytes(apps[0].taken) == blob
    assert server.machine.held_bytes == 0


def test_an_app_is_not_read_while_its_stream_keeps_bytes() -> None:
    joined = Joined()
    joined.stream.room = False
    joined.relay.data_received(b"a")
    assert not joined.app.reading
    joined.stream.room = True
    joined.relay.on_writable()
    assert joined.app.reading
    assert joined.stream.sent == b"a"


def test_credit_is_given_for_exactly_what_the_app_took() -> None:
    joined = Joined()
    taken = [joined.relay.on_data(bytes(100 * 1024)) for _ in range(5)]
    assert taken == [True, True, False, False, False]  # the app's transport is full from 256 KiB on
    assert joined.stream.credited == 0
    joined.app.drain()
    assert joined.stream.credited == 300 * 1024
    assert joined.relay.on_data(b"x")


# -- the app comes later ----------------------------------------------------------------------------------------------


def test_what_comes_before_the_app_is_connected_waits_in_order_and_is_counted_and_credited() -> None:
    joined = Joined(connected=False)
    assert [joined.relay.on_data(piece) for piece in (b"one ", b"two ")] == [False, False]
    assert joined.stream.credited == 0
    joined.relay.on_end()
    joined.relay.connection_made(joined.app)
    assert joined.app.drain() == b"one two "
    assert joined.app.eof
    assert joined.stream.credited == 8
    assert joined.relay.facts.bytes_to_app == 8


def test_an_app_that_is_connected_too_late_is_let_go() -> None:
    joined = Joined(connected=False)
    joined.relay.on_data(b"early")
    joined.relay.on_reset(h2.CANCEL)
    joined.relay.connection_made(joined.app)
    assert joined.app.aborted
    assert not joined.app.taken
    assert [reason for reason, _ in joined.owner.ends] == ["reset"]


# -- ends -------------------------------------------------------------------------------------------------------------


def test_a_half_close_travels_and_the_second_one_ends_the_relay() -> None:
    joined = Joined()
    joined.relay.on_end()
    assert joined.app.eof
    assert not joined.owner.ends
    joined.relay.data_received(b"answer")
    assert joined.relay.eof_received()
    assert joined.stream.sent == b"answer"
    assert joined.stream.local_ended
    assert joined.stream.code is None
    assert joined.owner.ends == [("closed", "")]


async def test_the_half_close_of_the_app_travels_too() -> None:
    joined = Joined()
    joined.relay.eof_received()
    assert joined.stream.local_ended
    assert joined.relay.on_data(b"answer")
    joined.relay.on_end()
    assert joined.app.drain() == b"answer"
    assert joined.app.closing
    assert not joined.app.aborted
    assert joined.owner.ends == [("closed", "")]


def test_a_reset_of_the_stream_is_a_reset_for_the_app() -> None:
    joined = Joined()
    joined.relay.on_data(b"half of it")
    joined.relay.on_reset(h2.CANCEL)
    assert joined.app.reset
    assert joined.owner.ends == [("reset", f"stream reset, code {h2.CANCEL}")]


@pytest.mark.parametrize("ended", [True, False])
async def test_only_what_was_ended_before_may_look_whole_after_a_reset_without_error(ended: bool) -> None:
    joined = Joined()
    joined.relay.on_data(b"all or half of it")
    if ended:
        joined.relay.on_end()
    joined.relay.on_reset(h2.NO_ERROR)
    assert joined.app.reset is not ended
    assert joined.app.closing
    assert joined.owner.ends[0][0] == ("closed" if ended else "reset")


def test_a_stream_given_up_for_want_of_window_is_told_as_overload() -> None:
    joined = Joined()
    joined.relay.on_reset(h2.ENHANCE_YOUR_CALM)
    assert joined.app.reset
    assert joined.owner.ends[0][0] == "overloaded"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [(ConnectionResetError("reset"), h2.CONNECT_ERROR, "reset"), (None, h2.CANCEL, "closed")],
)
def test_an_app_that_is_lost_resets_its_stream(error: Exception | None, code: int, reason: str) -> None:
    joined = Joined()
    joined.relay.connection_lost(error)
    assert joined.stream.code == code
    assert joined.owner.ends[0][0] == reason


def test_an_app_that_is_lost_after_its_half_close_leaves_what_it_said_on_its_way() -> None:
    joined = Joined()
    joined.relay.eof_received()
    joined.relay.connection_lost(ConnectionResetError("reset"))
    assert joined.stream.closed
    assert joined.stream.code is None


def test_a_relay_ends_once_whatever_comes_after() -> None:
    joined = Joined()
    joined.relay.end("closed")
    joined.relay.end("reset", "again")
    joined.relay.on_reset(h2.CANCEL)
    joined.relay.resume_writing()
    joined.relay.on_writable()
    joined.relay.connection_lost(None)
    assert joined.owner.ends == [("closed", "")]
    assert joined.stream.code == h2.CANCEL
    assert joined.stream.credited == 0


def test_an_app_that_takes_nothing_of_what_is_left_is_reset_in_the_end() -> None:
    async def test(loop: TurningLoop) -> None:
        joined = Joined()
        joined.relay.on_data(b"the last words")
        joined.relay.end("closed")
        assert joined.app.closing
        await asyncio.sleep(0)
        assert not joined.app.aborted
        loop.turn(relays.CLOSE_SECONDS)
        await asyncio.sleep(0.01)
        assert joined.app.aborted

    run_turning(test)


def test_an_app_that_still_takes_what_is_left_is_given_time() -> None:
    async def test(loop: TurningLoop) -> None:
        joined = Joined()
        joined.relay.on_data(b"the last ")
        joined.relay.on_data(b"words")
        joined.relay.end("closed")
        for _ in range(2):
            joined.app.written.pop()
            loop.turn(relays.CLOSE_SECONDS)
            await asyncio.sleep(0.01)
            assert not joined.app.aborted

    run_turning(test)
