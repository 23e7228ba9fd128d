"""What a port takes of its callers: refused or slowed at the callee, told with the time to wait, in each protocol."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest

from ringfence.kit.clock import SystemClock
from ringfence.routing.model import Per, Rate, RateLimit
from ringfence.snapshot import PortMode, Protocol
from tests.data_path import (
    HTTP_PORT,
    OPEN,
    HttpClient,
    Mesh,
    echo_app,
    http_app,
    plaintext_rule,
    serving,
    until,
)
from tests.integration.test_grpc_calls import ECHO, Echo, grpc_app

HOURLY = Rate(amount=1, seconds=3600)


class TurningClock(SystemClock):
    """The machine's clocks, of which the monotonic one can be put forward."""

    __slots__ = ("_ahead_seconds",)

    def __init__(self) -> None:
        self._ahead_seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_seconds

    def turn(self, seconds: float) -> None:
        self._ahead_seconds += seconds


def limit(mesh: Mesh, *limits: RateLimit) -> None:
    """Have both ports of api take no more than that."""
    ports = tuple(replace(port, limits=limits) for port in mesh.workload.ports)
    mesh.workload = replace(mesh.workload, ports=ports)
    mesh.enforce(*mesh.rules)


def limited(mesh: Mesh) -> dict[tuple[str, ...], int]:
    return {labels: count.value for labels, count in mesh.api.metrics.limited.table.items() if count.value}


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    async with http_app() as http, echo_app() as tcp, Mesh(http_app=http, tcp_app=tcp, clock=TurningClock()) as made:
        yield made


def turn(mesh: Mesh, seconds: float) -> None:
    clock = mesh.api.clock
    assert isinstance(clock, TurningClock)
    clock.turn(seconds)


async def test_a_request_above_the_limit_is_refused_and_passes_after_the_time_it_was_told(mesh: Mesh) -> None:
    limit(mesh, RateLimit(name="hourly", per=Per.CALLER, requests=HOURLY, burst=2))
    client = await HttpClient.to(mesh.http_listen)
    assert [(await client.ask("GET", "/orders/1")).status for _ in range(2)] == [200, 200]
    refused = await client.ask("GET", "/orders/1")
    assert (refused.status, refused.json()["reason"]) == (429, "rate_limited")
    seconds = int(refused.headers["retry-after"])
    assert 3590 <= seconds <= 3600
    turn(mesh, seconds - 30)
    again = await client.ask("GET", "/orders/1")
    assert again.status == 429
    turn(mesh, int(again.headers["retry-after"]))
    assert (await client.ask("GET", "/orders/1")).status == 200  # on the same connection
    assert limited(mesh) == {("shop/api", "hourly", "caller"): 2}
    [series] = [labels for labels in mesh.api.metrics.requests.table if "429" in labels]
    assert "rate_limited" in series
    client.close()


async def test_what_policy_denies_uses_nothing_up(mesh: Mesh) -> None:
    limit(mesh, RateLimit(name="hourly", per=Per.ROUTE, requests=HOURLY))
    client = await HttpClient.to(mesh.http_listen)
    for _ in range(5):
        assert (await client.ask("GET", "/secret")).status == 403
    assert (await client.ask("GET", "/orders/1")).status == 200
    assert (await client.ask("GET", "/secret")).status == 403
    client.close()


async def test_a_limit_on_some_requests_leaves_the_others_alone_and_gives_back_what_another_refuses(mesh: Mesh) -> None:
    limit(
        mesh,
        RateLimit(name="all", per=Per.ROUTE, requests=HOURLY, burst=3),
        RateLimit(name="posts", per=Per.ROUTE, methods=("POST",), paths=("/orders/{id}",), requests=HOURLY),
    )
    client = await HttpClient.to(mesh.http_listen)
    assert (await client.ask("POST", "/orders/1", b"x")).status == 200
    for _ in range(5):
        assert (await client.ask("POST", "/orders/2", b"x")).status == 429
    assert [(await client.ask("GET", "/orders/1")).status for _ in range(3)] == [200, 200, 429]
    assert limited(mesh) == {("shop/api", "posts", "route"): 5, ("shop/api", "all", "route"): 1}
    client.close()


async def test_a_limit_that_changes_holds_for_connections_that_live(mesh: Mesh) -> None:
    client = await HttpClient.to(mesh.http_listen)
    assert (await client.ask("GET", "/orders/1")).status == 200
    limit(mesh, RateLimit(name="hourly", per=Per.ROUTE, requests=HOURLY))
    assert [(await client.ask("GET", "/orders/1")).status for _ in range(2)] == [200, 429]
    limit(mesh)
    assert (await client.ask("GET", "/orders/1")).status == 200
    client.close()


async def test_an_http_connection_above_the_limit_is_answered_with_the_time_to_wait(mesh: Mesh) -> None:
    limit(mesh, RateLimit(name="few", per=Per.CALLER, connections=HOURLY))
    first, second, third = [await HttpClient.to(mesh.http_listen) for _ in range(3)]
    assert (await first.ask("GET", "/orders/1")).status == 200
    refused = await second.ask("GET", "/orders/1")
    assert (refused.status, refused.json()["reason"]) == (429, "rate_limited")
    assert (await first.ask("GET", "/orders/1")).status == 200
    turn(mesh, int(refused.headers["retry-after"]))
    assert (await third.ask("GET", "/orders/1")).status == 200
    for client in (first, second, third):
        client.close()


async def test_an_opaque_connection_above_the_limit_is_closed_and_one_that_lives_goes_on(mesh: Mesh) -> None:
    limit(mesh, RateLimit(name="few", per=Per.CALLER, connections=HOURLY))
    reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
    writer.write(b"one")
    assert await asyncio.wait_for(reader.readexactly(3), 10) == b"one"
    refused, closing = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
    assert await asyncio.wait_for(refused.read(), 10) == b""
    writer.write(b"two")
    assert await asyncio.wait_for(reader.readexactly(3), 10) == b"two"
    [line] = mesh.api.log("connection denied")
    assert line["reason"] == "rate_limited"
    writer.close()
    closing.close()


async def test_a_direct_caller_above_the_limit_of_connections_is_answered_in_http() -> None:
    rules = (*OPEN, plaintext_rule("anyone", ports=[HTTP_PORT], methods=["GET"], paths=["/orders/{id}"]))
    async with (
        http_app() as http,
        Mesh(rules=rules, http_app=http, intercept=True, mode=PortMode.PERMISSIVE) as mesh,
    ):
        limit(mesh, RateLimit(name="few", per=Per.CALLER, connections=HOURLY))
        first, second = [HttpClient(*await mesh.arrive(HTTP_PORT)) for _ in range(2)]
        assert (await first.ask("GET", "/orders/1")).status == 200
        refused = await second.ask("GET", "/orders/1")
        assert (refused.status, refused.json()["reason"]) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) > 3000
        first.close()
        second.close()


async def test_callers_to_whom_nothing_is_permitted_use_up_no_connections_of_the_others() -> None:
    async with http_app() as http, Mesh(http_app=http, intercept=True, mode=PortMode.PERMISSIVE) as mesh:
        limit(mesh, RateLimit(name="few", per=Per.ROUTE, connections=HOURLY))
        strangers = [HttpClient(*await mesh.arrive(HTTP_PORT)) for _ in range(2)]
        assert [(await stranger.ask("GET", "/orders/1")).status for stranger in strangers] == [403, 403]
        first, second = [await HttpClient.to(mesh.http_listen) for _ in range(2)]
        assert (await first.ask("GET", "/orders/1")).status == 200
        assert (await second.ask("GET", "/orders/1")).status == 429
        for client in (*strangers, first, second):
            client.close()


@pytest.mark.parametrize("towards_app", [True, False])
async def test_bytes_above_the_limit_wait_and_none_is_lost(towards_app: bool) -> None:
    sent = bytes(range(256)) * (4 << 12)  # 4 MiB
    got = bytearray()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if not towards_app:
                writer.write(sent)
                writer.write_eof()
            while data := await reader.read(65536):
                got.extend(data)
        writer.close()

    async with serving(app) as tcp, Mesh(tcp_app=tcp, clock=TurningClock()) as mesh:
        limit(mesh, RateLimit(name="slow", per=Per.CALLER, bytes=Rate(amount=1 << 20, seconds=3600)))
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        whole = asyncio.ensure_future(reader.read(-1))
        if towards_app:
            writer.write(sent)
            writer.write_eof()
        await until(lambda: bool(limited(mesh)))
        relay = next(iter(mesh.api.inbound.relays))[0].facts

        def moved() -> int:
            return relay.bytes_to_app + relay.bytes_from_app

        # A burst, what one read and one window hold, and no more, however often the loop turns.
        stopped = -1
        while moved() != stopped:
            stopped = moved()
            for _ in range(50):
                await asyncio.sleep(0)
        assert stopped <= 1 << 20
        limit(mesh)
        if towards_app:
            await until(lambda: len(got) == len(sent))
            assert bytes(got) == sent
        else:
            writer.write_eof()
            assert await asyncio.wait_for(whole, 20) == sent
        writer.close()
        whole.cancel()
        await until(lambda: not mesh.api.inbound.relays)


async def test_a_paced_connection_reaches_its_end_by_itself() -> None:
    async with echo_app() as tcp, Mesh(tcp_app=tcp) as mesh:
        limit(mesh, RateLimit(name="slow", per=Per.ROUTE, bytes=Rate(amount=2 << 20, seconds=1)))
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        sent = bytes(range(256)) * (3 << 12)  # 3 MiB there and 3 MiB back
        whole = asyncio.ensure_future(reader.read(-1))
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(whole, 30) == sent
        assert limited(mesh)
        writer.close()
        await until(lambda: not mesh.api.inbound.relays)


async def test_a_grpc_call_above_the_limit_is_resource_exhausted_and_told_when_to_come_again() -> None:
    async with (
        grpc_app(Echo()) as app,
        Mesh(rules=(ECHO,), http_app=app, http=Protocol.GRPC, clock=TurningClock()) as mesh,
        grpc.aio.insecure_channel(f"127.0.0.1:{mesh.http_listen}") as channel,
    ):
        limit(mesh, RateLimit(name="hourly", per=Per.CALLER, requests=HOURLY))
        one = channel.unary_unary("/test.Echo/One")
        assert await one(b"abc") == b"cba"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await one(b"abc")
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(refused.value.details()).startswith("rate_limited; request id ")
        pushback = dict(refused.value.trailing_metadata() or ())["grpc-retry-pushback-ms"]
        turn(mesh, int(pushback) / 1000)
        assert await one(b"abc") == b"cba"


async def test_a_grpc_connection_above_the_limit_does_not_come_about_and_harms_no_other() -> None:
    """grpcio asks nothing before the server's settings, so there is no call yet that could be answered."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        grpc_app(Echo()) as app,
        Mesh(rules=(ECHO,), http_app=app, http=Protocol.GRPC) as mesh,
        grpc.aio.insecure_channel(f"127.0.0.1:{mesh.http_listen}", options=options) as first,
        grpc.aio.insecure_channel(f"127.0.0.1:{mesh.http_listen}", options=options) as second,
    ):
        limit(mesh, RateLimit(name="few", per=Per.CALLER, connections=HOURLY))
        assert await first.unary_unary("/test.Echo/One")(b"abc") == b"cba"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await second.unary_unary("/test.Echo/One")(b"abc")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert limited(mesh)[("shop/api", "few", "caller")] >= 1
        assert await first.unary_unary("/test.Echo/One")(b"abc") == b"cba"


async def test_a_port_without_limits_asks_nothing(mesh: Mesh) -> None:
    limit(mesh, RateLimit(name="hourly", per=Per.ROUTE, requests=HOURLY))
    limit(mesh)
    client = await HttpClient.to(mesh.http_listen)
    assert [(await client.ask("GET", "/orders/1")).status for _ in range(3)] == [200] * 3
    assert all(relay.limits is None for relay, _ in mesh.api.inbound.relays)  # type: ignore[attr-defined]
    client.close()


async def test_bytes_that_are_limited_hide_from_nobody_that_the_caller_has_a_sidecar(mesh: Mesh) -> None:
    """It leaves by itself when it is told to go: an end from here would cross its next request."""
    limit(mesh, RateLimit(name="slow", per=Per.CALLER, bytes=Rate(amount=1 << 30, seconds=1)))
    client = await HttpClient.to(mesh.http_listen)
    assert (await client.ask("GET", "/orders/1")).status == 200
    [(relay, _)] = mesh.api.inbound.relays
    relay.drain()
    assert not relay.ended
    assert not relay.stream.local_ended
    reply = await client.ask("GET", "/orders/1")
    assert (reply.status, "connection" in reply.headers) == (200, False)
    client.close()


async def test_bytes_that_are_limited_make_no_second_draw_for_a_trace() -> None:
    async with http_app() as app, Mesh(http_app=app, traced=1.0) as mesh:
        mesh.web.recorder.tracer = None
        limit(mesh, RateLimit(name="slow", per=Per.CALLER, bytes=Rate(amount=1 << 30, seconds=1)))
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1")).status == 200
        client.close()
        await until(lambda: not len(mesh.api.inbound.relays))
    assert mesh.api.spans == []
