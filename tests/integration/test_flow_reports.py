"""What a real sidecar, with and without workers, tells the control plane of the calls that it judged."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.data_path import HttpClient, echo_app, http_app
from tests.issuing_backends import ORDERS, FakeBackend
from tests.sidecar_process import HTTP_PORT, TCP_PORT, SelfCaller, SidecarProcess
from tests.waiting import until


@pytest.fixture
async def bench(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[SelfCaller]:
    made = SelfCaller(FakeBackend(), tmp_path, free_port)
    await made.backend.start()
    async with http_app() as http, echo_app() as tcp:
        made.apps.update({HTTP_PORT: http, TCP_PORT: tcp})
        yield made
        await made.stop()


async def started(bench: SelfCaller, *flags: str, takes_flows: bool) -> SidecarProcess:
    message = bench.snapshot(HTTP_PORT, TCP_PORT)
    message.allowlists[0].rules[0].methods.append("GET")
    message.takes_flows = takes_flows
    bench.control.push(message)
    process = await bench.start(*flags)
    await process.ready()
    await until(lambda: bench.control.acks)
    return process


def counted(bench: SelfCaller) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for report in bench.control.flows:
        assert report.unrecorded == 0
        for flow in report.flows:
            assert flow.caller == str(ORDERS)
            assert 0 < flow.first_seen <= flow.last_seen
            key = (flow.protocol, flow.method, flow.path, flow.verdict, flow.reason)
            found[key] = found.get(key, 0) + flow.count
    return found


async def calls(bench: SelfCaller) -> dict[tuple[str, ...], int]:
    """Some calls on several connections, and how they are to be counted."""
    for number in range(6):
        client = await HttpClient.to(bench.http_listen)
        assert (await client.ask("GET", f"/orders/{number}?token=secret")).status == 200
        assert (await client.ask("DELETE", "/orders/7")).status == 403
        client.close()
    for _ in range(2):
        _, writer = await asyncio.open_connection("127.0.0.1", bench.tcp_listen)
        writer.write(b"hello")
        await writer.drain()
        writer.close()
    return {
        ("http", "GET", "/orders/{id}", "permit", ""): 6,
        ("http", "DELETE", "/orders/{id}", "deny", "method_not_allowed"): 6,
        ("tcp", "", "", "permit", ""): 2,
    }


@pytest.mark.parametrize("flags", [(), ("--workers", "2")])
async def test_every_call_is_told_once_and_by_its_shape(bench: SelfCaller, flags: tuple[str, ...]) -> None:
    await started(bench, *flags, takes_flows=True)
    assert bench.control.hellos[0].reports_flows
    wanted = await calls(bench)
    await until(lambda: counted(bench) == wanted)
    assert "secret" not in str(bench.control.flows)


async def test_nothing_is_told_to_a_control_plane_that_does_not_ask_and_all_is_once_it_does(bench: SelfCaller) -> None:
    await started(bench, takes_flows=False)
    wanted = await calls(bench)
    later = bench.snapshot(HTTP_PORT, TCP_PORT)
    later.takes_flows = True
    assert bench.control.flows == []
    bench.control.push(later)
    await until(lambda: counted(bench) == wanted)


async def test_what_was_judged_while_the_control_plane_was_away_is_told_when_it_is_back(bench: SelfCaller) -> None:
    process = await started(bench, takes_flows=True)
    bench.control.current = None
    bench.control.end_streams()
    await until(lambda: process.said("control plane lost"))
    wanted = await calls(bench)
    again = bench.snapshot(HTTP_PORT, TCP_PORT)
    again.takes_flows = True
    bench.control.push(again)
    await until(lambda: counted(bench) == wanted)
    await process.end(signal.SIGTERM)
