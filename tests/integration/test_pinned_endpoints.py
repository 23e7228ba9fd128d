"""Calls to the address of an endpoint itself: exactly that one answers, with its identity checked, or nobody does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ringfence.routing.model import CircuitBreaker, Retries, RetryOn, Route
from ringfence.snapshot import EgressRule, Protocol, Upstream
from ringfence.spiffe import SpiffeId
from sidecar.http2.frames import GOAWAY
from tests.data_path import HTTP_PORT, TCP_PORT, Connection, HttpClient, echo_app, free_port, serving, until
from tests.fleet import API, WEB, NamedApp, Replica, Side, SystemClock, TestCa, named_apps
from tests.integration.test_call_deadlines import H2Client
from tests.integration.test_http2_retries import Trouble
from tests.redirected import Kernel

CLUSTER_IP = "10.96.0.1"
PODS = ("10.1.0.1", "10.1.0.2", "10.1.0.3")
SERVICE_PORT = 80


class Cluster:
    """``web``'s sidecar, whose app's connections are redirected, and three pods of ``api`` with addresses of their own.

    The service's port 80 is 8080 in a pod.
    """

    def __init__(self, http_apps: list[int], protocol: Protocol, tcp_app: int) -> None:
        self.kernel = Kernel()
        ca = TestCa("shop.example")
        self.web = Side(WEB, ca, SystemClock())
        self.pods = [
            Replica(ca, app, tcp_app, protocol, address=address) for app, address in zip(http_apps, PODS, strict=True)
        ]
        self.outbound_port = free_port()
        self.protocol = protocol

    def upstream(self, **changes: object) -> Upstream:
        made = Upstream(
            service="api",
            namespace="shop",
            port=SERVICE_PORT,
            protocol=self.protocol,
            listen_host="",
            listen_port=0,
            endpoints=tuple(replace(pod.endpoint, port=HTTP_PORT) for pod in self.pods),
            addresses=(CLUSTER_IP,),
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    async def dial(self, address: str, port: int) -> Connection:
        return await self.kernel.dial(self.outbound_port, (address, port))

    async def asked(self, address: str, port: int, times: int = 12) -> Counter[str]:
        """Who answered so many connections of one request each."""
        found: Counter[str] = Counter()
        for _ in range(times):
            client = HttpClient(*await self.dial(address, port))
            reply = await client.ask("GET", "/")
            found[reply.body.decode() if reply.status == 200 else str(reply.json()["reason"])] += 1
            client.close()
        return found


@contextlib.asynccontextmanager
async def cluster(protocol: Protocol = Protocol.HTTP) -> AsyncIterator[tuple[Cluster, list[NamedApp]]]:
    async with (
        named_apps(3) as (apps, ports),
        echo_app(greeting=b"hi\n") as tcp_app,
        begun(Cluster(ports, protocol, tcp_app)) as made,
    ):
        yield made, apps


@contextlib.asynccontextmanager
async def begun(made: Cluster) -> AsyncIterator[Cluster]:
    for pod in made.pods:
        await pod.start()
    await made.web.outbound.intercept(made.outbound_port, made.kernel.destination_of)
    made.web.outbound.enforce([made.upstream()])
    yield made
    await made.web.outbound.close(0.0)
    for target in made.web.outbound.targets:
        circuit = target.balancer.circuit
        assert (circuit.connections, circuit.pending, circuit.requests) == (0, 0, 0)
    for pod in made.pods:
        if pod.up:
            await pod.stop()
    await until(lambda: not made.web.links)


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.AUTO])
async def test_the_service_is_balanced_and_a_pod_is_that_pod(protocol: Protocol) -> None:
    async with cluster(protocol) as (made, _):
        assert await made.asked(PODS[1], HTTP_PORT) == {"b": 12}
        assert await made.asked(PODS[2], HTTP_PORT) == {"c": 12}
        assert set(await made.asked(CLUSTER_IP, SERVICE_PORT, times=60)) == {"a", "b", "c"}
        ended = made.web.log("connection ended")
        assert {line["service"] for line in ended} == {"shop/api"}


async def test_a_pod_is_reached_at_its_own_port_and_the_service_at_its_own() -> None:
    """Another port of a pod is outside the mesh: never plaintext by chance, never some other port."""
    async with cluster() as (made, apps):
        for where in ((PODS[0], SERVICE_PORT), (CLUSTER_IP, HTTP_PORT), ("10.1.0.9", HTTP_PORT)):
            reader, _ = await made.dial(*where)
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        assert not any(app.seen for app in apps)


async def test_a_pod_that_is_down_is_not_stood_in_for() -> None:
    route = Route(name="r", retries=Retries(attempts=3, on=tuple(RetryOn)))
    async with cluster() as (made, apps):
        made.web.outbound.enforce([made.upstream(route=route)])
        await made.pods[1].stop()
        assert await made.asked(PODS[1], HTTP_PORT, times=3) == {"upstream_unreachable": 3}
        assert not any(app.seen for app in apps)
        assert set(await made.asked(CLUSTER_IP, SERVICE_PORT, times=30)) == {"a", "c"}


async def test_who_answers_at_a_pods_address_must_be_who_is_expected_there() -> None:
    async with cluster() as (made, apps):
        other = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/other")
        first, *rest = made.upstream().endpoints
        made.web.outbound.enforce([made.upstream(endpoints=(replace(first, spiffe_id=other), *rest))])
        [reason] = await made.asked(PODS[0], HTTP_PORT, times=1)
        assert reason == "peer_refused"
        assert not any(app.seen for app in apps)
        assert other != API


async def test_an_egress_rule_for_all_addresses_never_leads_past_the_mesh() -> None:
    everywhere = EgressRule(name="everywhere", cidrs=("0.0.0.0/0",))
    async with cluster() as (made, apps):
        made.web.outbound.enforce([made.upstream(addresses=())], [everywhere])
        await made.pods[0].stop()
        assert await made.asked(PODS[0], HTTP_PORT, times=1) == {"upstream_unreachable": 1}
        assert not apps[0].seen


async def test_a_headless_service_is_reached_by_its_pods_alone() -> None:
    async with cluster() as (made, _):
        made.web.outbound.enforce([made.upstream(addresses=())])
        assert await made.asked(PODS[0], HTTP_PORT, times=2) == {"a": 2}


async def test_an_address_of_the_service_is_the_service_even_if_it_is_an_endpoints() -> None:
    """As in a mesh of plain hosts, whose instances are dialled for their service."""
    async with cluster() as (made, _):
        endpoints = tuple(replace(end, port=0) for end in made.upstream().endpoints)
        made.web.outbound.enforce([made.upstream(port=HTTP_PORT, addresses=PODS, endpoints=endpoints)])
        assert set(await made.asked(PODS[0], HTTP_PORT, times=60)) == {"a", "b", "c"}


async def test_a_connection_to_a_pod_outlives_snapshots_that_keep_it() -> None:
    async with cluster() as (made, _):
        client = HttpClient(*await made.dial(PODS[1], HTTP_PORT))
        assert (await client.ask("GET", "/")).body == b"b"
        made.web.outbound.enforce([made.upstream(endpoints=made.upstream().endpoints[1:])])
        assert (await client.ask("GET", "/")).body == b"b"
        made.web.outbound.enforce([])
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(client.reader.read(), 30) == b""
        client.close()


async def test_a_pod_that_leaves_the_service_gets_no_new_connections() -> None:
    async with cluster() as (made, apps):
        assert await made.asked(PODS[1], HTTP_PORT, times=1) == {"b": 1}
        made.web.outbound.enforce([made.upstream(endpoints=made.upstream().endpoints[:1])])
        reader, _ = await made.dial(PODS[1], HTTP_PORT)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert len(apps[1].seen) == 1


async def test_connections_to_pods_count_among_those_that_the_route_lets_in() -> None:
    route = Route(name="r", circuit_breaker=CircuitBreaker(connections=1))
    async with cluster() as (made, _):
        made.web.outbound.enforce([made.upstream(route=route)])
        client = HttpClient(*await made.dial(PODS[0], HTTP_PORT))
        assert (await client.ask("GET", "/")).body == b"a"
        other = HttpClient(*await made.dial(CLUSTER_IP, SERVICE_PORT))
        assert (await other.ask("GET", "/")).json()["reason"] == "circuit_open"
        client.close()
        other.close()


async def test_opaque_bytes_to_a_pod_go_to_it() -> None:
    async with cluster() as (made, _):
        tcp = made.upstream(protocol=Protocol.TCP, port=TCP_PORT)
        endpoints = tuple(replace(end, port=TCP_PORT) for end in tcp.endpoints)
        made.web.outbound.enforce([made.upstream(), replace(tcp, endpoints=endpoints)])
        reader, writer = await made.dial(PODS[2], TCP_PORT)
        assert await asyncio.wait_for(reader.readline(), 10) == b"hi\n"
        assert len(made.pods[2].side.inbound.relays) == 1
        assert not made.pods[0].side.inbound.relays
        writer.close()


@pytest.mark.parametrize("protocol", [Protocol.HTTP2, Protocol.AUTO])
async def test_the_requests_of_one_http2_connection_to_a_pod_are_not_spread(protocol: Protocol) -> None:
    async with contextlib.AsyncExitStack() as stack:
        apps = [Trouble() for _ in PODS]
        ports = [await stack.enter_async_context(serving(app.serve)) for app in apps]
        made = await stack.enter_async_context(begun(Cluster(ports, protocol, free_port())))

        async def asked(address: str, port: int, requests: int = 12) -> list[int]:
            """How many of so many requests of one connection each pod got."""
            before = [len(app.asked) for app in apps]
            client = H2Client(*await made.dial(address, port))
            for number in range(requests):
                stream_id = client.ask(f"/{address}/{number}", grpc=False)
                await client.ended(stream_id)
                assert client.heads[stream_id][":status"] == "200"
            client.writer.close()
            return [len(app.asked) - earlier for app, earlier in zip(apps, before, strict=True)]

        assert await asked(PODS[1], HTTP_PORT) == [0, 12, 0]
        assert min(await asked(CLUSTER_IP, SERVICE_PORT, requests=60)) > 0
        client = H2Client(*await made.dial(PODS[1], HTTP_PORT))
        await client.ended(client.ask("/before", grpc=False))
        made.web.outbound.enforce([made.upstream(endpoints=made.upstream().endpoints[:1])])
        kind = -1
        async with asyncio.timeout(60):
            while kind != GOAWAY:  # its endpoint takes nothing new, so the client is to go elsewhere
                head = await client.reader.readexactly(9)
                kind = head[3]
                await client.reader.readexactly(int.from_bytes(head[:3], "big"))
        client.writer.close()
        assert ["/before" in app.asked for app in apps] == [False, True, False]
