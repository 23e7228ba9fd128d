"""Denylists, observation and its end, as a sidecar process enforces what it is pushed; with workers, too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.data_path import HttpClient, echo_app, http_app
from tests.integration.test_proxy_command import ringfence
from tests.issuing_backends import ORDERS, FakeBackend
from tests.sidecar_process import HTTP_PORT, TCP_PORT, SelfCaller, SidecarProcess
from tests.waiting import until

WORKERS = pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["alone", "workers"])
SOON_SECONDS = 5.0


@pytest.fixture
async def bench(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[SelfCaller]:
    made = SelfCaller(FakeBackend(), tmp_path, free_port)
    await made.backend.start()
    async with http_app() as http, echo_app() as tcp:
        made.apps.update({HTTP_PORT: http, TCP_PORT: tcp})
        made.push(HTTP_PORT, TCP_PORT)
        yield made
        await made.stop()


async def ready(bench: SelfCaller, *flags: str) -> SidecarProcess:
    process = await bench.start(*flags)
    await process.ready()
    return process


async def acknowledged(bench: SelfCaller, revision: int) -> None:
    await until(lambda: any(ack.revision == revision for ack in bench.control.acks))
    assert bench.control.acks[-1].accepted, bench.control.acks[-1]


async def lives(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"ping")
    return await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"


async def over(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), 30) == b""
    return True


@WORKERS
async def test_a_denylist_ends_living_connections_that_an_allowlist_permits(
    bench: SelfCaller, flags: tuple[str, ...]
) -> None:
    process = await ready(bench, *flags)
    ends = [await asyncio.open_connection("127.0.0.1", bench.tcp_listen) for _ in range(8)]
    assert all([await lives(*end) for end in ends])
    client = await HttpClient.to(bench.http_listen)
    assert (await client.ask("GET", "/a")).status == 200
    message = bench.snapshot(HTTP_PORT, TCP_PORT)
    rule = message.denylists.add(namespace="shop", name="never").rules.add(name="ledger", ports=[TCP_PORT])
    getattr(rule, "from").add(spiffe_id=str(ORDERS))
    bench.control.push(message)
    assert all(await asyncio.gather(*(over(reader) for reader, _ in ends)))
    assert (await client.ask("GET", "/a")).status == 200
    await until(lambda: len(process.said("connection denied")) == len(ends))
    denied = process.said("connection denied")
    assert {(line["reason"], line["nearest"]) for line in denied} == {("denylisted", "shop/never/ledger")}
    for _, writer in ends:
        writer.close()
    client.close()


@WORKERS
async def test_what_is_observed_passes_and_ends_when_the_posture_does(
    bench: SelfCaller, flags: tuple[str, ...]
) -> None:
    process = await ready(bench, *flags)
    message = bench.snapshot()
    message.observe_until = time.time() + 10_000.0
    bench.control.push(message)
    await acknowledged(bench, message.revision)
    assert (await process.ask("/config"))["observe_until"] == message.observe_until
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.tcp_listen)
    assert await lives(reader, writer)
    client = await HttpClient.to(bench.http_listen)
    assert (await client.ask("GET", "/a?key=secret")).status == 200
    await until(lambda: len(process.said("would deny")) == 2)
    assert {line["would_deny"] for line in process.said("would deny")} == {"caller_not_allowed"}
    assert {line["peer"] for line in process.said("would deny")} == {str(ORDERS)}
    living = (await process.ask("/connections"))["connections"]
    assert {(one["protocol"], one["would_deny"]) for one in living if one["direction"] == "inbound"} == {
        ("http", 1),
        ("tcp", 1),
    }
    message = bench.snapshot()
    message.observe_until = time.time() + SOON_SECONDS
    bench.control.push(message)
    await acknowledged(bench, message.revision)
    assert await lives(reader, writer)
    # Nobody says anything from here on: time alone ends it.
    assert await over(reader)
    refused = await client.ask("GET", "/a")
    assert (refused.status, refused.json()["reason"]) == (403, "caller_not_allowed")
    await until(lambda: process.said("connection denied"))
    assert process.said("connection denied")[0]["detail"] == "its time is over"
    assert "secret" not in str(process.lines)
    writer.close()
    client.close()


@WORKERS
async def test_a_tap_tells_what_is_observed_and_nothing_else(bench: SelfCaller, flags: tuple[str, ...]) -> None:
    process = await ready(bench, *flags)
    message = bench.snapshot(TCP_PORT)
    message.observe_until = time.time() + 10_000.0
    bench.control.push(message)
    await acknowledged(bench, message.revision)
    watching = asyncio.ensure_future(
        ringfence("tap", "--socket", str(process.admin_socket), "--would-deny", "--limit", "2", "--json")
    )
    client = await HttpClient.to(bench.http_listen)
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.tcp_listen)
    while not watching.done():  # until the tap is open, nobody sees them
        assert await lives(reader, writer)
        assert (await client.ask("GET", "/a?key=secret")).status == 200
        await asyncio.sleep(0.05)
    status, out, err = await watching
    assert (status, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert (line["event"], line["would_deny"], line["from"]) == ("would_deny", "port_not_allowed", str(ORDERS))
        assert (line["method"], line["target"]) == ("GET", "/a")
    writer.close()
    client.close()
