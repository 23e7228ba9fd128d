"""Requests without a verdict, in the machine: what ends while they wait, and what is bounded."""

from __future__ import annotations

import pytest

from sidecar.http2 import Exchange
from sidecar.http2 import frames as f
from sidecar.http2.streams import DRAIN_PING
from tests.http2_ends import FORBIDDEN, POST, Between


class Undecided(Between):
    """No request has a verdict until ``decided``."""

    def __init__(self, **kwargs: object) -> None:
        self.decided = False
        super().__init__(**kwargs)

    def request(self, exchange: Exchange) -> bytes | None:
        if not self.decided:
            self.inspector.wait()
            return None
        return super().request(exchange)

    def decide(self) -> None:
        self.decided = True
        self.tell(self.inspector.go_on)


def test_a_request_that_waits_is_opened_when_it_has_its_verdict() -> None:
    wire = Undecided()
    assert wire.ask(1, POST, body=b"abc") == []
    assert wire.ask(3) == []
    assert not wire.inspector.idle
    assert wire.inspector.outstanding() == []
    wire.decide()
    assert [frame.stream_id for frame in wire.to_server.frames] == [1, 1, 3]
    assert wire.to_server.content(1) == b"abc"
    assert wire.open_count == 2
    wire.reply(1)
    wire.reply(3)
    assert wire.inspector.idle
    assert wire.open_count == 0


def test_a_refusal_after_the_wait_costs_the_stream_alone() -> None:
    wire = Undecided(refuses=lambda exchange: exchange.stream_id == 1)
    wire.ask(1, POST, end=False, body=b"abc")
    wire.ask(3)
    wire.decide()
    assert wire.to_client.headers(1)[0][0] == (b":status", b"%d" % FORBIDDEN.status)
    assert [frame.stream_id for frame in wire.to_server.frames] == [3]
    wire.client(f.frame(f.DATA, f.FLAG_END_STREAM, 1, b"rest"))
    assert wire.flaws == []


def test_a_client_may_reset_a_request_that_waits() -> None:
    wire = Undecided()
    wire.ask(1, POST, end=False, body=b"abc")
    wire.client(f.rst_stream(1, f.CANCEL))
    wire.decide()
    assert wire.to_server.codes(1) == [f.CANCEL]
    assert wire.inspector.idle


def test_what_waits_when_a_drain_begins_is_served() -> None:
    wire = Undecided()
    wire.ask(1)
    wire.tell(wire.inspector.drain)
    wire.client(f.frame(f.PING, f.FLAG_ACK, 0, DRAIN_PING))
    assert not wire.inspector.close_after
    assert wire.ask(3) == []
    wire.decide()
    assert [frame.stream_id for frame in wire.to_server.frames if frame.kind == f.HEADERS] == [1]
    wire.reply(1)
    assert wire.inspector.close_after
    assert wire.flaws == []


def test_what_waits_when_the_server_is_lost_may_be_sent_elsewhere() -> None:
    wire = Undecided()
    wire.ask(1)
    wire.to_client.take(wire.inspector.server_eof())
    wire.attend()
    last = [int.from_bytes(frame.payload[:4], "big") for frame in wire.to_client.frames if frame.kind == f.GOAWAY]
    assert last == [0]
    assert wire.inspector.close_after
    wire.decide()
    assert wire.to_server.frames == []


def test_what_is_held_is_bounded() -> None:
    wire = Undecided(server_settings={f.SETTING_INITIAL_WINDOW_SIZE: f.LARGEST_WINDOW_BYTES})
    wire.server(f.window_update(0, 1 << 30))
    wire.ask(1, POST, end=False)
    assert not wire.inspector.paused
    wire.client(*[f.frame(f.DATA, 0, 1, b"x" * 16_000) for _ in range(5)])
    assert wire.inspector.paused
    wire.client(*[f.frame(f.DATA, 0, 1, b"x" * 16_000) for _ in range(200)])
    assert wire.to_client.goaways() == [f.ENHANCE_YOUR_CALM]
    assert wire.inspector.close_after
    assert not wire.inspector.holds


@pytest.mark.parametrize("stream_id", [5, 2])
def test_frames_on_streams_that_nobody_opened_break_the_connection_meanwhile(stream_id: int) -> None:
    wire = Undecided()
    wire.ask(1)
    wire.client(f.frame(f.DATA, 0, stream_id, b"x"))
    assert wire.to_client.goaways() == [f.PROTOCOL_ERROR]
