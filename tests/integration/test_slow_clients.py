"""Clients that begin and do not go on, that still send after the last answer, and a drain between requests."""

from __future__ import annotations

import asyncio

from sidecar.http_relay import BODY_IDLE_SECONDS, HEAD_SECONDS
from tests.data_path import HttpClient, Mesh, http_app, until


async def test_a_request_head_that_never_ends_is_let_go_and_others_are_not() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        slow, lively = await HttpClient.to(mesh.http_listen), await HttpClient.to(mesh.http_listen)
        slow.writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: a")
        assert (await lively.ask("GET", "/orders/1")).status == 200
        await until(lambda: len(mesh.web.outbound.relays) == 2)
        now = mesh.web.clock.monotonic()
        mesh.web.outbound.relays.sweep(now)
        mesh.web.outbound.relays.sweep(now + HEAD_SECONDS - 1)
        assert len(mesh.web.outbound.relays) == 2
        mesh.web.outbound.relays.sweep(now + HEAD_SECONDS + 1)
        assert await asyncio.wait_for(slow.reader.read(), 10) == b""
        assert mesh.web.log("connection ended")[0]["reason"] == "caller_timeout"
        assert (await lively.ask("GET", "/orders/1")).status == 200
        slow.close()
        lively.close()


async def test_a_body_that_stands_still_is_let_go_and_one_that_moves_is_not() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        client.writer.write(b"POST /orders/1 HTTP/1.1\r\nhost: api\r\ncontent-length: 100\r\n\r\nx")
        await until(lambda: any(relay.facts.bytes_from_app for relay, _ in mesh.web.outbound.relays))
        await until(lambda: [relay.replied for relay, _ in mesh.web.outbound.relays] == [True])  # to CONNECT
        now = mesh.web.clock.monotonic()
        mesh.web.outbound.relays.sweep(now)
        facts = next(iter(mesh.web.outbound.relays))[0].facts
        size = facts.bytes_from_app
        client.writer.write(b"y")
        await until(lambda: facts.bytes_from_app == size + 1)
        mesh.web.outbound.relays.sweep(now + BODY_IDLE_SECONDS + 1)
        assert len(mesh.web.outbound.relays) == 1
        mesh.web.outbound.relays.sweep(now + 3 * BODY_IDLE_SECONDS)
        await until(lambda: not len(mesh.web.outbound.relays))
        client.close()


async def test_a_refused_upload_gets_its_answer_although_the_client_goes_on_sending() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        client.writer.write(b"PUT /orders/1 HTTP/1.1\r\nhost: api\r\ncontent-length: 10000000\r\n\r\n")
        for _ in range(8):
            client.writer.write(bytes(65536))
            await asyncio.sleep(0)
        reply = await client.reply()
        assert (reply.status, reply.json()["reason"]) == (403, "method_not_allowed")
        assert reply.headers["connection"] == "close"
        client.close()
        await until(lambda: not len(mesh.web.outbound.relays) and not len(mesh.api.inbound.relays))


async def test_a_drain_answers_what_is_in_flight_and_closes_between_requests() -> None:
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Mesh(http_app=server.sockets[0].getsockname()[1]) as mesh:
        busy, idle = await HttpClient.to(mesh.http_listen), await HttpClient.to(mesh.http_listen)
        busy.writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n")
        await until(lambda: len(mesh.api.inbound.relays) == 1 and len(mesh.web.outbound.relays) == 2)
        draining = asyncio.ensure_future(mesh.web.outbound.close(10.0))
        assert await asyncio.wait_for(idle.reader.read(), 10) == b""
        assert not draining.done()
        gate.set()
        reply = await busy.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        busy.close()
        idle.close()
        await asyncio.wait_for(draining, 10)
    server.close()
