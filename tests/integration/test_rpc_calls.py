"""The sidecar's gRPC client against real grpcio servers, over real TLS: calls, their ends, limits, life and death."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop

from ringfence.kit.clock import SystemClock
from ringfence.wire.gen import control_pb2, issuing_pb2
from ringfence.wire.gen.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server
from ringfence.wire.gen.issuing_pb2_grpc import JoiningServicer, add_JoiningServicer_to_server
from sidecar.rpc import Connection, Limits, RpcError, StatusCode, connected, method
from sidecar.tls import TlsIdentity
from tests.pki import TestCa
from tests.rpc_ends import AUTHORITY, CONTROL_PLANE, TRUST_DOMAIN
from tests.waiting import until

CHALLENGE = method(
    issuing_pb2.DESCRIPTOR, "Joining", "Challenge", issuing_pb2.ChallengeRequest, issuing_pb2.ChallengeResponse
)
RENEW = method(issuing_pb2.DESCRIPTOR, "Renewal", "Renew", issuing_pb2.RenewRequest, issuing_pb2.SvidResponse)
SUBSCRIBE = method(control_pb2.DESCRIPTOR, "Control", "Subscribe", control_pb2.SidecarReport, control_pb2.Snapshot)
Challenge = Callable[[issuing_pb2.ChallengeRequest, Any], Awaitable[issuing_pb2.ChallengeResponse]]


class Bench(JoiningServicer, ControlServicer):
    """A grpcio server whose two methods do what the test says, and connections to it."""

    def __init__(self) -> None:
        self.ca = TestCa(TRUST_DOMAIN)
        self.challenge: Challenge = self.echo
        self.subscribe: Callable[[Any, Any], AsyncIterator[control_pb2.Snapshot]] = self.nothing
        self.cancelled = asyncio.Event()
        self.in_hand = asyncio.Event()
        self.server = grpc.aio.server(
            options=[
                ("grpc.max_send_message_length", 32 << 20),
                ("grpc.max_concurrent_streams", 16),
                ("grpc.max_metadata_size", 8192),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.max_ping_strikes", 0),
            ]
        )
        add_JoiningServicer_to_server(self, self.server)  # type: ignore[no-untyped-call]
        add_ControlServicer_to_server(self, self.server)  # type: ignore[no-untyped-call]
        svid = self.ca.svid(CONTROL_PLANE, dns=[AUTHORITY])
        credentials = grpc.ssl_server_credentials(
            [(svid.private_key_pem(), svid.chain_pem())], self.ca.bundle().to_pem(), require_client_auth=True
        )
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)

    async def Challenge(self, request: issuing_pb2.ChallengeRequest, context: Any) -> issuing_pb2.ChallengeResponse:
        return await self.challenge(request, context)

    async def Subscribe(self, request_iterator: Any, context: Any) -> AsyncIterator[control_pb2.Snapshot]:  # type: ignore[override]
        try:
            async for snapshot in self.subscribe(request_iterator, context):
                yield snapshot
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def echo(self, request: issuing_pb2.ChallengeRequest, context: Any) -> issuing_pb2.ChallengeResponse:
        return issuing_pb2.ChallengeResponse(nonce=request.host_key_id.encode())

    async def nothing(self, reports: Any, context: Any) -> AsyncIterator[control_pb2.Snapshot]:
        return
        yield

    async def hang(self, request: issuing_pb2.ChallengeRequest, context: Any) -> issuing_pb2.ChallengeResponse:
        self.in_hand.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError

    def connect(self, **limits: Any) -> Any:
        clock = SystemClock()
        identity = TlsIdentity(self.ca.svid("spiffe://shop.example/ns/shop/sa/orders"), [self.ca.bundle()], clock)
        engine = identity.client(frozenset({CONTROL_PLANE}))
        bounds = Limits(**{"answer_bytes": 16 << 20, **limits})
        return connected("127.0.0.1", self.port, engine, authority=AUTHORITY, limits=bounds)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.server.start()
    yield made
    await made.server.stop(None)


async def ask(connection: Connection, text: str = "who", deadline_seconds: float = 10.0) -> bytes:
    request = issuing_pb2.ChallengeRequest(host_key_id=text)
    return (await connection.unary(CHALLENGE, request, deadline_seconds=deadline_seconds)).nonce


async def failure(awaitable: Awaitable[object]) -> RpcError:
    with pytest.raises(RpcError) as error:
        await awaitable
    return error.value


# ---------------------------------------------------------------------------------------------------------- one for one


async def test_calls_follow_each_other_on_one_connection(bench: Bench) -> None:
    async with bench.connect() as connection:
        assert [await ask(connection, str(turn)) for turn in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_000])
async def test_requests_of_any_size_arrive(bench: Bench, size: int) -> None:
    async with bench.connect() as connection:
        assert await ask(connection, "q" * size) == b"q" * size


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_every_status_arrives_with_its_words_and_metadata(bench: Bench, code: grpc.StatusCode) -> None:
    async def refuse(request: Any, context: Any) -> issuing_pb2.ChallengeResponse:
        await context.abort(code, "naïve: 100 %\nno €", (("ringfence-request-id", "abc"),))
        raise AssertionError

    bench.challenge = refuse
    async with bench.connect() as connection:
        error = await failure(ask(connection))
        assert (error.code.name, error.details) == (code.name, "naïve: 100 %\nno €")
        assert error.status.metadata[b"ringfence-request-id"] == b"abc"
        # And the connection serves on.
        bench.challenge = bench.echo
        assert await ask(connection) == b"who"


async def test_a_method_that_is_not_served_is_unimplemented(bench: Bench) -> None:
    async with bench.connect() as connection:
        error = await failure(connection.unary(RENEW, issuing_pb2.RenewRequest(), deadline_seconds=10.0))
        assert error.code is StatusCode.UNIMPLEMENTED


async def test_a_servicer_that_falls_over_is_told_as_unknown(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def fall(request: Any, context: Any) -> issuing_pb2.ChallengeResponse:
        raise RuntimeError("a fault of the server")

    bench.challenge = fall
    async with bench.connect() as connection:
        assert (await failure(ask(connection))).code is StatusCode.UNKNOWN


async def test_a_deadline_ends_the_call_on_both_sides(bench: Bench) -> None:
    bench.challenge = bench.hang
    async with bench.connect() as connection:
        error = await failure(ask(connection, deadline_seconds=5.0))
        assert error.code is StatusCode.DEADLINE_EXCEEDED
        await until(bench.cancelled.is_set)


async def test_the_server_knows_the_deadline(bench: Bench) -> None:
    left: list[float] = []

    async def look(request: Any, context: Any) -> issuing_pb2.ChallengeResponse:
        left.append(context.time_remaining())
        return issuing_pb2.ChallengeResponse()

    bench.challenge = look
    async with bench.connect() as connection:
        await ask(connection, deadline_seconds=1000.0)
    assert 900.0 < left[0] <= 1000.0


async def test_a_call_that_is_given_up_is_cancelled_at_the_server(bench: Bench) -> None:
    bench.challenge = bench.hang
    async with bench.connect() as connection:
        asking = asyncio.ensure_future(ask(connection))
        await until(bench.in_hand.is_set)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(bench.cancelled.is_set)
        bench.challenge = bench.echo
        assert await ask(connection) == b"who"


async def test_an_answer_over_the_limit_is_not_received(bench: Bench) -> None:
    async with bench.connect(answer_bytes=100) as connection:
        assert await ask(connection, "x" * 98) == b"x" * 98  # two bytes are the field's
        error = await failure(ask(connection, "x" * 99))
        assert error.code is StatusCode.RESOURCE_EXHAUSTED
        assert "101 bytes is larger than max 100" in error.details


async def test_a_request_over_the_limit_is_not_sent(bench: Bench) -> None:
    async with bench.connect() as connection:
        error = await failure(ask(connection, "x" * 65_536))
        assert error.code is StatusCode.RESOURCE_EXHAUSTED
        assert await ask(connection) == b"who"


async def test_metadata_over_the_limit_is_not_received(bench: Bench) -> None:
    async def babble(request: Any, context: Any) -> issuing_pb2.ChallengeResponse:
        context.set_trailing_metadata(tuple((f"key-{number}", "v" * 1000) for number in range(30)))
        return issuing_pb2.ChallengeResponse()

    bench.challenge = babble
    async with bench.connect() as connection:
        await failure(ask(connection))


async def test_what_is_compressed_is_refused_or_not_sent(bench: Bench) -> None:
    async def squeeze(request: Any, context: Any) -> issuing_pb2.ChallengeResponse:
        context.set_compression(grpc.Compression.Gzip)
        return issuing_pb2.ChallengeResponse(nonce=b"x" * 10_000)

    bench.challenge = squeeze
    async with bench.connect() as connection:
        # No encoding but identity was offered, so an honest server sends it as it is.
        assert await ask(connection) == b"x" * 10_000


# -------------------------------------------------------------------------------------------------------------- streams


def report(revision: int) -> control_pb2.SidecarReport:
    return control_pb2.SidecarReport(ack=control_pb2.Acknowledgement(revision=revision))


async def test_both_sides_stream_until_the_server_ends(bench: Bench) -> None:
    async def answer(reports: Any, context: Any) -> AsyncIterator[control_pb2.Snapshot]:
        async for one in reports:
            yield control_pb2.Snapshot(revision=one.ack.revision * 10)
            if one.ack.revision == 3:
                return

    bench.subscribe = answer
    async with bench.connect() as connection:
        call = connection.stream(SUBSCRIBE)
        for revision in (1, 2, 3):
            await call.write(report(revision))
            snapshot = await call.read()
            assert snapshot is not None
            assert snapshot.revision == revision * 10
        assert await call.read() is None
        assert await call.read() is None
        with pytest.raises(RpcError):
            await call.write(report(4))


async def test_a_snapshot_of_sixteen_megabytes_arrives_whole(bench: Bench) -> None:
    large = control_pb2.Snapshot(revision=7)
    for number in range(16):
        large.bundles.add(trust_domain=f"{number}.example", roots=[bytes([number]) * ((1 << 20) - 64)])

    async def answer(reports: Any, context: Any) -> AsyncIterator[control_pb2.Snapshot]:
        yield large
        yield control_pb2.Snapshot(revision=8)

    bench.subscribe = answer
    async with bench.connect() as connection:
        call = connection.stream(SUBSCRIBE)
        assert await call.read() == large
        small = await call.read()
        assert small is not None
        assert small.revision == 8


async def test_a_reader_that_stops_stops_the_server(bench: Bench) -> None:
    given: list[int] = []

    async def pour(reports: Any, context: Any) -> AsyncIterator[control_pb2.Snapshot]:
        for revision in range(1, 100):
            given.append(revision)
            yield control_pb2.Snapshot(
                revision=revision, bundles=[control_pb2.Bundle(trust_domain="a", roots=[bytes(500_000)])]
            )

    bench.subscribe = pour
    async with bench.connect() as connection:
        call = connection.stream(SUBSCRIBE)
        first = await call.read()
        assert first is not None
        stream = connection._machine.stream
        assert stream is not None
        await until(lambda: stream.recv_window == 0)  # all that may come has come
        assert len(given) < 50
        for revision in range(2, 100):
            snapshot = await call.read()
            assert snapshot is not None
            assert snapshot.revision == revision


async def test_a_stream_that_is_cancelled_is_cancelled_at_the_server(bench: Bench) -> None:
    async def quiet(reports: Any, context: Any) -> AsyncIterator[control_pb2.Snapshot]:
        bench.in_hand.set()
        await asyncio.Event().wait()
        yield control_pb2.Snapshot()

    bench.subscribe = quiet
    async with bench.connect() as connection:
        call = connection.stream(SUBSCRIBE)
        await until(bench.in_hand.is_set)
        call.cancel()
        assert (await failure(call.read())).code is StatusCode.CANCELLED
        await until(bench.cancelled.is_set)


async def test_leaving_the_connection_cancels_what_is_open(bench: Bench) -> None:
    async def quiet(reports: Any, context: Any) -> AsyncIterator[control_pb2.Snapshot]:
        bench.in_hand.set()
        await asyncio.Event().wait()
        yield control_pb2.Snapshot()

    bench.subscribe = quiet
    async with bench.connect() as connection:
        connection.stream(SUBSCRIBE)
        await until(bench.in_hand.is_set)
    await until(bench.cancelled.is_set)


async def test_a_method_is_called_as_it_is_declared(bench: Bench) -> None:
    async with bench.connect() as connection:
        with pytest.raises(ValueError, match="the wrong way"):
            connection.stream(CHALLENGE)
        with pytest.raises(ValueError, match="the wrong way"):
            await connection.unary(SUBSCRIBE, report(1), deadline_seconds=1.0)


# ------------------------------------------------------------------------------------------------------- life and death


async def test_a_server_that_stops_in_peace_still_answers_what_it_has_in_hand(bench: Bench) -> None:
    go = asyncio.Event()

    async def slow(request: Any, context: Any) -> issuing_pb2.ChallengeResponse:
        bench.in_hand.set()
        await go.wait()
        return issuing_pb2.ChallengeResponse(nonce=b"spent for this")

    bench.challenge = slow
    async with bench.connect() as connection:
        asking = asyncio.ensure_future(ask(connection))
        await until(bench.in_hand.is_set)
        stopping = asyncio.ensure_future(bench.server.stop(30.0))
        await until(lambda: connection._machine.goaway is not None)
        go.set()
        assert await asking == b"spent for this"
        assert (await failure(ask(connection))).code is StatusCode.UNAVAILABLE
    await stopping


async def test_a_server_that_stops_at_once_ends_the_call(bench: Bench) -> None:
    bench.challenge = bench.hang
    async with bench.connect() as connection:
        asking = asyncio.ensure_future(ask(connection))
        await until(bench.in_hand.is_set)
        await bench.server.stop(None)
        assert (await failure(asking)).code is StatusCode.UNAVAILABLE


async def test_nobody_at_the_address_is_told_at_once(bench: Bench, free_port: Callable[[], int]) -> None:
    bench.port = free_port()
    with pytest.raises(RpcError) as error:
        async with bench.connect():
            raise AssertionError("there is nobody")
    assert (error.value.code, error.value.details) == (StatusCode.UNAVAILABLE, "connection refused")


async def test_a_client_that_the_server_refuses_is_unavailable(bench: Bench) -> None:
    stranger = TestCa(TRUST_DOMAIN)
    identity = TlsIdentity(stranger.svid("spiffe://shop.example/ns/shop/sa/orders"), [bench.ca.bundle()], SystemClock())
    engine = identity.client(frozenset({CONTROL_PLANE}))
    bounds = Limits(answer_bytes=1000)
    with pytest.raises(RpcError) as error:
        async with connected("127.0.0.1", bench.port, engine, authority=AUTHORITY, limits=bounds) as connection:
            await ask(connection)
    assert error.value.code is StatusCode.UNAVAILABLE


async def test_a_server_of_another_identity_gets_no_byte(bench: Bench) -> None:
    identity = TlsIdentity(
        bench.ca.svid("spiffe://shop.example/ns/shop/sa/orders"), [TestCa(TRUST_DOMAIN).bundle()], SystemClock()
    )
    engine = identity.client(frozenset({CONTROL_PLANE}))
    bounds = Limits(answer_bytes=1000)
    with pytest.raises(RpcError) as error:
        async with connected("127.0.0.1", bench.port, engine, authority=AUTHORITY, limits=bounds):
            raise AssertionError("it is not the control plane")
    assert error.value.refused is not None


async def test_a_quiet_connection_is_kept_by_pings(bench: Bench) -> None:
    async with bench.connect(keepalive_seconds=0.05, keepalive_timeout_seconds=10.0) as connection:
        sent: list[int] = []
        ping = connection._machine.ping

        def counted() -> None:
            sent.append(1)
            ping()

        connection._machine.ping = counted
        await until(lambda: len(sent) >= 2)
        assert connection._end is None


def test_calls_work_on_uvloop() -> None:
    async def turn() -> bytes:
        bench = Bench()
        await bench.server.start()
        try:
            async with bench.connect() as connection:
                return await ask(connection, "uvloop")
        finally:
            await bench.server.stop(None)

    assert uvloop.run(turn()) == b"uvloop"
