"""Whether a workload can serve, as its sidecar reports it: draining, and apps that refuse connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from ringfence.kit.backoff import Backoff
from ringfence.snapshot import Port, Protocol
from ringfence.wire.gen import control_pb2 as pb
from sidecar.readiness import Readiness
from tests.data_path import free_port, until


def port(number: int, app_port: int) -> Port:
    return Port(port=number, protocol=Protocol.TCP, address="10.0.0.1", app_host="127.0.0.1", app_port=app_port)


class Told:
    """A Readiness, and what it would have reported."""

    def __init__(self) -> None:
        self.reports: list[pb.ReadinessReport] = []
        quick = Backoff(first_seconds=0.01, cap_seconds=0.02)
        self.readiness = Readiness(changed=self._changed, random=lambda: 0.5, backoff=quick)

    def _changed(self) -> None:
        self.reports.append(self.readiness.report())

    def refused(self) -> Iterable[int]:
        return list(self.readiness.report().refused_ports)


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    made = Told()
    yield made
    made.readiness.close()
    await asyncio.sleep(0)


async def test_a_healthy_app_is_not_tried(told: Told) -> None:
    assert told.readiness.report() == pb.ReadinessReport(ready=True)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("try app")]


async def test_an_app_that_refused_is_tried_until_it_takes_a_connection(told: Told) -> None:
    app_port = free_port()
    told.readiness.app_refused(port(8080, app_port))
    report = told.readiness.report()
    assert (report.ready, list(report.refused_ports)) == (False, [8080])
    assert report.reason == f"its app refuses connections on 127.0.0.1:{app_port}"
    connections = 0

    def taken(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(taken, "127.0.0.1", app_port):
        await until(lambda: told.readiness.report().ready)
        await until(lambda: connections == 1)
    assert [one.ready for one in told.reports] == [False, True]
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("try app")]


async def test_many_refusals_are_one_report_and_one_try_at_a_time(told: Told) -> None:
    app_port = free_port()
    for _ in range(100):
        told.readiness.app_refused(port(8080, app_port))
    assert len(told.reports) == 1
    assert len([task for task in asyncio.all_tasks() if task.get_name().startswith("try app")]) == 1


async def test_ports_are_told_apart(told: Told) -> None:
    first, second = free_port(), free_port()
    told.readiness.app_refused(port(8080, first))
    told.readiness.app_refused(port(7000, second))
    assert told.refused() == [7000, 8080]
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", first):
        await until(lambda: told.refused() == [7000])


async def test_an_app_that_is_looked_for_elsewhere_has_not_refused_there(told: Told) -> None:
    gone = port(8080, free_port())
    told.readiness.app_refused(gone)
    told.readiness.keep([gone])
    assert told.refused() == [8080]
    told.readiness.keep([port(8080, free_port())])
    assert told.readiness.report().ready
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("try app")]


async def test_a_sidecar_that_drains_says_so_and_tries_no_app_any_more(told: Told) -> None:
    told.readiness.app_refused(port(8080, free_port()))
    told.readiness.drain()
    assert told.readiness.report() == pb.ReadinessReport(ready=False, reason="draining")
    told.readiness.app_refused(port(7000, free_port()))
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("try app")]
    assert len(told.reports) == 2


async def test_a_snapshot_that_moves_an_app_which_refused_is_taken_while_the_sidecar_drains(told: Told) -> None:
    told.readiness.app_refused(port(8080, free_port()))
    told.readiness.drain()
    told.readiness.keep([port(8080, free_port())])
    assert told.readiness.report() == pb.ReadinessReport(ready=False, reason="draining")
