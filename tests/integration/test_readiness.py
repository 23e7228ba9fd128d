"""Endpoints that become ready, stop to be, or are taken away: what lives at them goes on."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.policy.compile import compile_policy
from ringfence.policy.model import Allowlist
from ringfence.snapshot import Endpoint, Port, Protocol, Snapshot, Upstream, Workload
from sidecar.data_path import DataPath
from sidecar.metrics import SidecarMetrics
from sidecar.recording import Recorder
from tests.data_path import API, TCP_PORT, WEB, echo_app, free_port, rule, until
from tests.fleet import Fleet
from tests.pki import TestCa


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """Two endpoints before one app that echoes."""
    async with echo_app() as app, Fleet([1, 2], tcp_apps=[app, app]) as made:
        yield made


async def test_a_change_of_readiness_disturbs_nothing_that_lives(fleet: Fleet) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
    writer.write(b"one")
    assert await asyncio.wait_for(reader.readexactly(3), 10) == b"one"
    links = fleet.web.outbound.pool.links
    for ready in ((False, False), (True, False), (False, True), (True, True)):
        fleet.enforce(*ready)
        writer.write(b"two")
        assert await asyncio.wait_for(reader.readexactly(3), 10) == b"two"
    assert fleet.web.outbound.pool.links == links
    assert not any(link.machine.going_away for link in links)
    writer.close()


async def test_an_opaque_connection_lives_on_at_an_endpoint_that_is_taken_away_and_no_new_one_goes_there(
    fleet: Fleet,
) -> None:
    fleet.enforce(True, False)
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
    writer.write(b"one")
    assert await asyncio.wait_for(reader.readexactly(3), 10) == b"one"
    fleet.upstreams = tuple(replace(up, endpoints=up.endpoints[1:]) for up in fleet.upstreams)
    fleet.enforce()
    for _ in range(10):
        other_reader, other = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
        other.write(b"new")
        assert await asyncio.wait_for(other_reader.readexactly(3), 10) == b"new"
        other.close()
    writer.write(b"two")
    assert await asyncio.wait_for(reader.readexactly(3), 10) == b"two"
    assert len(fleet.replicas[0].side.inbound.relays) == 1
    writer.close()
    await until(lambda: not fleet.replicas[0].side.inbound.links)  # the link goes with its last stream


async def test_a_link_that_is_made_while_its_endpoint_is_taken_away_does_not_stay(fleet: Fleet) -> None:
    fleet.enforce(True, False)
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
    writer.write(b"one")
    await until(lambda: fleet.web.outbound.pool.waiting == 1)
    fleet.upstreams = tuple(replace(up, endpoints=up.endpoints[1:]) for up in fleet.upstreams)
    fleet.enforce()
    assert await asyncio.wait_for(reader.readexactly(3), 10) == b"one"
    writer.close()
    await until(lambda: not fleet.replicas[0].side.inbound.links)


@pytest.fixture
async def path() -> AsyncIterator[DataPath]:
    """A data path with an identity, and nothing in force yet."""
    ca, clock, metrics = TestCa("shop.example"), SystemClock(), SidecarMetrics()
    log = Logger("sidecar", level="debug", stream=io.StringIO(), clock=clock)
    recorder = Recorder(log=log, metrics=metrics, clock=clock, every_request=False)
    made = DataPath(own_id=API, clock=clock, log=log, metrics=metrics, recorder=recorder)
    made.renewed(ca.svid(API), (ca.bundle(),))
    yield made
    await made.drain(0.0, asyncio.Event())


async def test_a_change_of_readiness_alone_reads_no_rules_again(
    path: DataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[object] = []

    def counting(*lists: object, **options: object) -> object:
        compiled.append(lists)
        return compile_policy(*lists, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("sidecar.data_path.compile_policy", counting)
    end = Endpoint(mesh_host="127.0.0.1", mesh_port=1, address="127.0.0.1", spiffe_id=WEB)
    upstream = Upstream(
        service="web", namespace="shop", port=1, protocol=Protocol.TCP, listen_host="", listen_port=0, endpoints=(end,)
    )
    lists = (Allowlist(namespace="shop", name="api", rules=(rule("ledger", ports=[TCP_PORT]),)),)
    workload = Workload(
        service="api", namespace="shop", spiffe_id=API, mesh_host="127.0.0.1", mesh_port=free_port(), ports=()
    )
    first = Snapshot(revision=1, workload=workload, upstreams=(upstream,), allowlists=lists, bundles=path.bundles)
    await path.apply(first)
    not_ready = replace(upstream, endpoints=(replace(end, ready=False),))
    await path.apply(replace(first, revision=2, upstreams=(not_ready,)))
    assert len(compiled) == 1
    await path.apply(replace(first, revision=3, allowlists=()))
    assert len(compiled) == 2
    port = Port(port=TCP_PORT, protocol=Protocol.TCP, address="127.0.0.1", app_host="127.0.0.1", app_port=1)
    await path.apply(replace(first, revision=4, allowlists=(), workload=replace(workload, ports=(port,))))
    assert len(compiled) == 3
