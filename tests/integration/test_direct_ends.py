"""Direct callers of apps that are down, and ends that are slow, cut short or asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from ringfence.policy.reasons import DenyReason
from tests.data_path import (
    HTTP_PORT,
    TCP_PORT,
    WEB,
    Connection,
    HttpClient,
    Mesh,
    echo_app,
    http_app,
    plaintext_rule,
    rule,
    until,
)
from tests.direct_callers import PERMISSIVE, PLAIN, direct, direct_http, ended, lives, nothing_left, refused
from tests.redirected import DirectClient

pytestmark = pytest.mark.usefixtures("patient_arrivals")


@pytest.mark.parametrize("tls", [True, False])
async def test_a_request_to_an_app_that_is_down_is_answered(tls: bool) -> None:
    async with Mesh(intercept=True, mode=PERMISSIVE, rules=(*PLAIN, rule("web", ports=[HTTP_PORT]))) as mesh:
        client = await direct_http(mesh) if tls else HttpClient(*await mesh.arrive(HTTP_PORT))
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, "app_unreachable")
        assert reply.headers["connection"] == "close"
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
        client.close()
        await until(nothing_left(mesh))
        [ended_line] = mesh.api.log("connection ended")
        assert ended_line["reason"] == "app_unreachable"


async def test_a_forbidden_request_to_an_app_that_is_down_is_answered_too() -> None:
    async with Mesh(intercept=True) as mesh:
        client = await direct_http(mesh)
        await until(lambda: any(getattr(relay, "_unavailable", None) for relay, _ in mesh.api.inbound.relays))
        reply = await client.ask("DELETE", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (403, "method_not_allowed")
        client.writer.write(b"GET /admin HTTP/1.1\r\nhost: api\r\n\r\nGET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n")
        assert [(await client.reply()).status for _ in range(2)] == [403, 502]
        client.close()
        await until(nothing_left(mesh))


async def test_an_upload_to_an_app_that_is_down_gets_its_answer_although_the_client_goes_on_sending() -> None:
    async with Mesh(intercept=True, mode=PERMISSIVE, rules=(plaintext_rule("all"),)) as mesh:
        client = HttpClient(*await mesh.arrive(HTTP_PORT))
        client.writer.write(b"PUT /orders/1 HTTP/1.1\r\nhost: api\r\ncontent-length: 10000000\r\n\r\n")
        for _ in range(8):
            client.writer.write(bytes(65536))
            await asyncio.sleep(0.001)
        reply = await client.reply()
        assert (reply.status, reply.json()["reason"]) == (502, "app_unreachable")
        client.close()
        await until(nothing_left(mesh))


async def test_a_client_that_asks_nothing_of_an_app_that_is_down_leaves_nothing_behind() -> None:
    async with Mesh(intercept=True) as mesh:
        client = await direct(mesh, HTTP_PORT)
        await until(lambda: len(mesh.api.inbound.relays) == 1)
        await until(lambda: any(getattr(relay, "_unavailable", None) for relay, _ in mesh.api.inbound.relays))
        client.half_close()
        await ended(client.reader)
        client.close()
        await until(nothing_left(mesh))


@pytest.mark.parametrize("tls", [True, False])
async def test_opaque_bytes_to_an_app_that_is_down_are_reset(tls: bool) -> None:
    async with Mesh(intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        reader, writer = pair = await mesh.arrive(TCP_PORT)
        if tls:
            reader = (await DirectClient.over(pair, mesh.ca.svid(WEB))).reader
        else:
            writer.write(b"x")
        await refused(reader)
        writer.close()
        await until(nothing_left(mesh))


@pytest.mark.parametrize("tls", [True, False])
async def test_a_malformed_request_gets_its_answer_although_more_follows(tls: bool) -> None:
    async with http_app() as app, Mesh(http_app=app, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        client = await direct_http(mesh) if tls else HttpClient(*await mesh.arrive(HTTP_PORT))
        client.writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\nhost: b\r\n\r\n" + bytes(200_000))
        reply = await client.reply()
        assert reply.status == 400
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
        client.close()
        await until(nothing_left(mesh))


async def test_a_truncated_tls_stream_is_never_taken_for_a_whole_one() -> None:
    heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.set_result(await reader.read())
        except ConnectionError as error:
            heard.set_result(error)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Mesh(tcp_app=server.sockets[0].getsockname()[1], intercept=True) as mesh:
        pair = await mesh.arrive(TCP_PORT)
        client = await DirectClient.over(pair, mesh.ca.svid(WEB))
        client.write(b"half of it")
        pair[1].write_eof()  # without close_notify
        assert isinstance(await asyncio.wait_for(heard, 10), ConnectionResetError)
        client.close()
        await until(nothing_left(mesh))
    server.close()


async def _still(read: Callable[[], int]) -> int:
    """The value once it has stood still for a while."""
    before, same = read(), 0
    while same < 40:
        await asyncio.sleep(0.005)
        before, same = (before, same + 1) if read() == before else (read(), 0)
    return before


@pytest.mark.parametrize("tls", [True, False])
async def test_a_slow_caller_holds_back_the_app_and_a_slow_app_the_caller(tls: bool) -> None:
    total = 48 * 1024 * 1024
    sent = taken = 0
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent, taken
        with contextlib.suppress(ConnectionError):
            while sent < total:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
            await gate.wait()
            while data := await reader.read(65536):
                taken += len(data)
            writer.write(b"!")
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Mesh(tcp_app=port, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        pair: Connection = await mesh.arrive(TCP_PORT)
        reader: asyncio.StreamReader
        writer: Any
        reader, writer = pair
        if tls:
            client = await DirectClient.over(pair, mesh.ca.svid(WEB), reading=False)
            reader, writer = client.reader, client
        assert await _still(lambda: sent) < total // 2
        if tls:
            client.pump()
        assert len(await asyncio.wait_for(reader.readexactly(total), 60)) == total
        written = 0

        async def upload() -> None:
            nonlocal written
            while written < total:
                writer.write(bytes(65536))
                await writer.drain()
                written += 65536

        task = asyncio.ensure_future(upload())
        assert await _still(lambda: written) < total // 2
        gate.set()
        await asyncio.wait_for(task, 60)
        (client.half_close if tls else writer.write_eof)()
        assert await asyncio.wait_for(reader.read(), 30) == b"!"
        assert taken == total
        writer.close()
        await until(nothing_left(mesh))
    server.close()


async def test_a_caller_that_never_reads_its_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.relay.CLOSE_SECONDS", 0.2)
    blob = bytes(32 * 1024 * 1024)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(blob)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Mesh(tcp_app=port, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        reader, writer = await mesh.arrive(TCP_PORT)
        reader._limit = 1  # type: ignore[attr-defined]  # its buffer takes next to nothing
        writer.write(b"x")
        await until(lambda: any(not relay.stream.writable for relay, _ in mesh.api.inbound.relays if relay.stream))
        mesh.enforce(PLAIN[0])
        await until(nothing_left(mesh))
        writer.close()
    server.close()


@pytest.mark.parametrize("tls", [True, False])
async def test_a_drain_ends_direct_callers(tls: bool) -> None:
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        reader, writer = pair = await mesh.arrive(TCP_PORT)
        if tls:
            client = await DirectClient.over(pair, mesh.ca.svid(WEB))
            reader, writer = client.reader, client  # type: ignore[assignment]
        await lives(reader, writer)
        await mesh.api.inbound.close(0.0)
        await ended(reader)
        writer.close()
        await until(nothing_left(mesh))
        assert mesh.api.log("connection ended")[0]["reason"] == DenyReason.DRAINING
