"""The relay of a split connection, between an app and openers that are told what to answer; no sockets."""

from __future__ import annotations

import asyncio

import hpack
import pytest

from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from ringfence.policy.reasons import DenyReason
from ringfence.routing.model import CircuitBreaker, Route
from ringfence.snapshot import Endpoint, Protocol, Upstream
from sidecar.http2 import Heads
from sidecar.http2 import frames as f
from sidecar.metrics import SidecarMetrics
from sidecar.openers import Openers, StreamWaiter
from sidecar.outbound_split import OutboundSplitRelay
from sidecar.recording import Recorder
from sidecar.refusal import HEADER, Refusal
from sidecar.relay import Relay, RelayFacts
from sidecar.routed_relay import accept_limit
from sidecar.target import Target
from sidecar.tunnel.stream import Headers, StreamEndpoint
from tests.fake_transports import FakeStream, FakeTransport
from tests.http2_ends import GET, Seen
from tests.split_ends import API, endpoint


class MeshStream(FakeStream):
    endpoint: StreamEndpoint


class Opener:
    """Has a stream for each endpoint of ``has``; the others are refused at once, or wait."""

    def __init__(self) -> None:
        self.has: set[Endpoint] = set()
        self.refuses = True
        self.streams: list[MeshStream] = []
        self.asked: list[Endpoint] = []
        self.waiters: list[StreamWaiter] = []

    def open(self, wanted: Endpoint, headers: Headers) -> tuple[object, MeshStream] | None:
        if wanted not in self.has:
            return None
        stream = MeshStream()
        self.streams.append(stream)
        return object(), stream

    def wait(self, wanted: Endpoint, waiter: StreamWaiter) -> None:
        self.asked.append(wanted)
        if self.refuses:
            waiter.link_failed(DenyReason.UPSTREAM_UNREACHABLE, "refused")
        else:
            self.waiters.append(waiter)


class Split:
    """One connection of the app to a service of ``count`` endpoints."""

    def __init__(self, count: int, breaker: CircuitBreaker | None = None) -> None:
        self.endpoints = [endpoint(number) for number in range(count)]
        metrics = self.metrics = SidecarMetrics()
        clock = FakeClock()
        recorder = Recorder(log=Logger("test", level="error"), metrics=metrics, clock=clock, every_request=False)
        route = Route(name="shop/api", circuit_breaker=breaker) if breaker is not None else None
        upstream = Upstream(
            service="api",
            namespace="shop",
            port=8080,
            protocol=Protocol.GRPC,
            listen_host="",
            listen_port=0,
            endpoints=tuple(self.endpoints),
            route=route,
        )
        self.target = Target(upstream, metrics, clock.monotonic())
        self.opener = Opener()
        self.openers = Openers(pool=self.opener, direct=self.opener, monotonic=clock.monotonic)  # type: ignore[arg-type]
        self.recorder = recorder
        self.failed: list[Exception] = []

    def connect(self) -> App:
        return App(self)

    def relay_connected(self, relay: Relay) -> None: ...

    def relay_ended(self, relay: Relay, reason: str, detail: str) -> None: ...

    def relay_failed(self, relay: Relay, error: Exception) -> None:
        self.failed.append(error)


class App:
    """The app's end of a connection."""

    def __init__(self, split: Split) -> None:
        facts = RelayFacts(
            direction="outbound", peer=str(API), service="shop/api", port=8080, protocol="grpc", started=0.0
        )
        accepted = accept_limit(split.target)
        self.relay = OutboundSplitRelay(
            split,
            facts,
            split.openers,
            split.target,
            Heads(refusal_name=HEADER),
            split.recorder,
            "spiffe://shop.example/ns/shop/sa/web",
        )
        self.relay.shut_out = not accepted
        self.transport = FakeTransport(self.relay)
        self.relay.connection_made(self.transport)
        self.seen = Seen()
        self.encoder = hpack.Encoder()
        self.relay.data_received(f.PREFACE + f.settings({}) + f.SETTINGS_ACK)

    def ask(self, stream_id: int) -> None:
        block = self.encoder.encode(GET)
        self.relay.data_received(f.header_frames(stream_id, block, end=True, limit_bytes=1 << 14))

    async def status(self, stream_id: int) -> bytes:
        """Of the response so far; empty for none."""
        await asyncio.sleep(0)  # what there is for the app leaves at the end of the turn
        self.seen.take(self.transport.drain())
        headers = self.seen.headers(stream_id)
        return dict(headers[0])[b":status"] if headers else b""


def greet(stream: MeshStream, settings: dict[int, int] | None = None) -> None:
    stream.endpoint.on_data(f.settings(settings or {}) + f.SETTINGS_ACK)


def asked(stream: MeshStream) -> int:
    """How many requests the endpoint was sent."""
    seen = Seen()
    seen.take(bytes(stream.sent))
    return sum(frame.kind == f.HEADERS for frame in seen.frames)


async def test_any_number_of_endpoints_may_be_refused_at_once() -> None:
    """Each failure leads to the next endpoint, from within the failure."""
    split = Split(400)
    app = split.connect()
    app.ask(1)
    assert split.failed == []
    assert len(set(split.opener.asked)) == 400
    assert await app.status(1) == b"502"
    assert not app.relay.ended


async def test_a_connection_beyond_the_limit_is_let_in_once_there_is_room() -> None:
    """A gRPC channel keeps its connection: it must not be refused for ever."""
    split = Split(2, CircuitBreaker(connections=1))
    split.opener.has = set(split.endpoints)
    first, second = split.connect(), split.connect()
    second.ask(1)
    assert await second.status(1) == b"503"
    first.relay.end("closed")
    second.ask(3)
    assert asked_any(split) == 0
    for stream in split.opener.streams:
        greet(stream)
    assert asked_any(split) == 1
    second.relay.end("closed")
    assert split.target.balancer.circuit.connections == 0


def asked_any(split: Split) -> int:
    return sum(map(asked, split.opener.streams))


async def test_no_more_wait_for_mesh_connections_than_the_route_lets() -> None:
    split = Split(3, CircuitBreaker(pending=1))
    split.opener.refuses = False
    app, other = split.connect(), split.connect()
    app.ask(1)
    assert split.target.balancer.circuit.pending == 1
    other.ask(1)
    assert await other.status(1) == b"503"
    assert len(split.opener.waiters) == 1
    assert await app.status(1) == b""
    app.relay.end("closed")
    [waiter] = split.opener.waiters
    waiter.link_failed(DenyReason.UPSTREAM_UNREACHABLE, "refused")
    assert split.target.balancer.circuit.pending == 0


async def test_what_waits_for_its_turn_is_asked_although_the_app_says_no_more() -> None:
    split = Split(2)
    split.opener.has = {split.endpoints[0]}
    app = split.connect()
    app.ask(1)
    [stream] = split.opener.streams
    greet(stream, {f.SETTING_MAX_CONCURRENT_STREAMS: 1})
    app.ask(3)
    assert asked(stream) == 1
    app.relay.eof_received()
    for other in split.opener.streams[1:]:
        greet(other)
    assert asked_any(split) == 2
    assert all(asked(one) < 2 for one in split.opener.streams)


@pytest.mark.parametrize(
    "reason, status, failures",
    [
        (DenyReason.RATE_LIMITED, b"429", 1),  # says nothing: or who refuses quickly would look the best
        (DenyReason.PATH_NOT_ALLOWED, b"403", 1),
        (DenyReason.APP_UNREACHABLE, b"502", 2),
        (None, b"404", 0),
    ],
)
async def test_a_refusal_by_the_other_sidecar_speaks_for_its_endpoint_as_its_reason_does(
    reason: DenyReason | None, status: bytes, failures: int
) -> None:
    split = Split(2)
    split.opener.has = set(split.endpoints)
    app = split.connect()
    app.ask(1)
    [stream] = split.opener.streams
    greet(stream)
    [member] = [one for one in split.target.balancer if one.outstanding]
    member.failures, member.failed_at = 1, split.recorder.monotonic()
    head = [(b":status", status)]
    if reason is not None:
        told = Refusal(reason=reason, request_id="12ab", origin=str(API))
        head.append((HEADER, told.header_value()))
    stream.endpoint.on_data(f.header_frames(1, hpack.Encoder().encode(head), end=True, limit_bytes=1 << 14))
    assert await app.status(1) == status
    assert member.outstanding == 0
    assert member.failures == failures


async def test_an_endpoint_that_is_not_reached_in_time_is_counted_as_on_any_other_connection() -> None:
    split = Split(2)
    split.opener.refuses = False
    app = split.connect()
    app.ask(1)
    for _ in split.endpoints:
        split.opener.waiters.pop().link_failed(DenyReason.UPSTREAM_TIMEOUT, "no connection in 5 s")
    assert await app.status(1) == b"504"
    assert split.metrics.timeouts.at("shop/api", "connect").value == 2
