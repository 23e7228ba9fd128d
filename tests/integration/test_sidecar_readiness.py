"""What `ringfence sidecar` reports of its workload: an app that refuses, one that is back, the end. Real processes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.issuing_backends import FakeBackend
from tests.sidecar_process import HTTP_PORT, TCP_PORT, SelfCaller, SidecarProcess
from tests.waiting import until


@pytest.fixture
async def bench(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[SelfCaller]:
    made = SelfCaller(FakeBackend(lifetime_seconds=3600.0), tmp_path, free_port)
    await made.backend.start()
    yield made
    await made.stop()


async def call(bench: SelfCaller) -> None:
    """A connection to the opaque port, as the app makes it; whatever becomes of it."""
    _, writer = await asyncio.open_connection("127.0.0.1", bench.tcp_listen)
    writer.close()


def last(bench: SelfCaller) -> tuple[bool, list[int]]:
    report = bench.control.readiness[-1]
    return report.ready, list(report.refused_ports)


async def started(bench: SelfCaller, workers: int) -> SidecarProcess:
    process = await bench.start("--workers", str(workers), "--drain", "1s")
    await process.ready()
    await until(lambda: bench.control.readiness)
    assert last(bench) == (True, [])
    return process


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_app_that_refuses_is_reported_and_again_when_it_takes_connections(
    bench: SelfCaller, workers: int
) -> None:
    await started(bench, workers)
    await call(bench)
    await until(lambda: last(bench) == (False, [TCP_PORT]))
    assert f"refuses connections on 127.0.0.1:{bench.apps[TCP_PORT]}" in bench.control.readiness[-1].reason
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", bench.apps[TCP_PORT]):
        await until(lambda: last(bench) == (True, []))


async def test_a_snapshot_that_moves_the_app_takes_back_what_was_said_of_the_old_place(
    bench: SelfCaller, free_port: Callable[[], int]
) -> None:
    await started(bench, 1)
    await call(bench)
    await until(lambda: last(bench) == (False, [TCP_PORT]))
    bench.apps[TCP_PORT] = free_port()
    bench.push(HTTP_PORT, TCP_PORT)
    await until(lambda: last(bench) == (True, []))


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_last_word_of_a_sidecar_is_that_it_drains(bench: SelfCaller, workers: int) -> None:
    process = await started(bench, workers)
    assert await process.end(signal.SIGTERM) == 0
    await until(lambda: bench.control.readiness[-1].reason == "draining")
    assert last(bench) == (False, [])
