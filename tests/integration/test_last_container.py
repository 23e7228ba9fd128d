"""A native sidecar is the last container of its pod: told to stop, it finishes what is under way and then ends at once,
however long a drain might take; and what it is asked inside its container needs no flags."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.data_path import HttpClient, echo_app, serving
from tests.issuing_backends import ORDERS, FakeBackend
from tests.sidecar_process import HTTP_PORT, ROOT, RUN, TCP_PORT, SelfCaller, SidecarProcess
from tests.waiting import until

DRAIN = ("--drain", "1000s")  # longer than any test waits, so whoever ends has not waited for it


class SlowApp:
    """Answers each request when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                await self.answer.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()


@pytest.fixture
async def bench(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[SelfCaller]:
    made = SelfCaller(FakeBackend(lifetime_seconds=3600.0), tmp_path, free_port)
    await made.backend.start()
    yield made
    await made.stop()


async def started(bench: SelfCaller) -> SidecarProcess:
    bench.push(HTTP_PORT, TCP_PORT)
    process = await bench.start(*DRAIN)
    await process.ready()
    return process


async def test_with_nothing_under_way_it_ends_at_once(bench: SelfCaller) -> None:
    process = await started(bench)
    assert await process.end(signal.SIGTERM) == 0


async def test_idle_connections_of_http_do_not_hold_it(bench: SelfCaller) -> None:
    app = SlowApp()
    app.answer.set()
    async with serving(app.serve) as port:
        bench.apps[HTTP_PORT] = port
        process = await started(bench)
        client = await HttpClient.to(bench.http_listen)
        assert (await client.ask("GET", "/")).status == 200
        assert await process.end(signal.SIGTERM) == 0
        client.close()


async def test_the_apps_end_ends_what_is_opaque_and_then_nothing_holds_it(bench: SelfCaller) -> None:
    """As the kubelet does it: first the app's containers end, and with them their connections, then the sidecar."""
    async with echo_app(greeting=b"hi\n") as port:
        bench.apps[TCP_PORT] = port
        process = await started(bench)
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.tcp_listen)
        assert await asyncio.wait_for(reader.readline(), 30) == b"hi\n"
        process.child.send_signal(signal.SIGTERM)
        await until(lambda: process.said("draining"))
        writer.write(b"still here\n")
        assert await asyncio.wait_for(reader.readline(), 30) == b"still here\n"
        assert process.child.returncode is None
    writer.close()
    assert await process.end() == 0


async def test_a_request_under_way_gets_its_answer_and_the_control_plane_need_not_be_there(bench: SelfCaller) -> None:
    app = SlowApp()
    async with serving(app.serve) as port:
        bench.apps[HTTP_PORT] = port
        process = await started(bench)
        client = await HttpClient.to(bench.http_listen)
        asking = asyncio.ensure_future(client.ask("GET", "/"))
        await until(lambda: app.asked == 1)
        await bench.backend.servers.stop()
        process.child.send_signal(signal.SIGTERM)
        await until(lambda: process.said("draining"))
        app.answer.set()
        assert (await asking).status == 200
        assert await process.end() == 0
        client.close()


async def test_inside_its_container_nothing_needs_to_be_named(bench: SelfCaller, tmp_path: Path) -> None:
    """As by ``kubectl exec POD -c ringfence-sidecar --``: the environment is the sidecar's own."""
    await started(bench)
    own = {**os.environ, "RINGFENCE_SIDECAR_STATE": str(bench.folder / "state")}

    async def asked(*words: str) -> str:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, *words, stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=own
        )
        out, _ = await asyncio.wait_for(child.communicate(), 60)
        assert child.returncode == 0, words
        return out.decode()

    assert json.loads(await asked("proxy", "certs", "--json"))["svid"]["spiffe_id"] == str(ORDERS)
    await asked("proxy", "connections")
    assert json.loads(await asked("proxy", "loglevel", "--json")) == {"level": "info"}
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.http_listen)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")  # its app is down
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()
    writer.close()
    fields = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:] if line)
    said = fields["x-ringfence-refusal"].split("id=")[1].split(";")[0]
    assert said in await asked("policy", "why", said)
    watching = asyncio.ensure_future(asked("tap", "--denied", "--limit", "1", "--json"))
    while not watching.done():
        _, writer = await asyncio.open_connection("127.0.0.1", bench.http_listen)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.close()
    assert json.loads(await watching)["to"] == "shop/orders"


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_mesh_port_is_open_on_all_addresses_of_the_pod_and_on_no_other(
    bench: SelfCaller, workers: str
) -> None:
    bench.push(HTTP_PORT, TCP_PORT)
    process = await bench.start("--workers", workers, "--pod-address", "127.0.0.1,127.0.0.2")
    await process.ready()
    for address in ("127.0.0.1", "127.0.0.2"):
        _, writer = await asyncio.open_connection(address, bench.mesh_port)
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.3", bench.mesh_port)
    assert await process.end(signal.SIGTERM) == 0
