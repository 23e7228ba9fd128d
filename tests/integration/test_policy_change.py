"""A new policy reaches what is open already: exactly the newly denied ends, the rest notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from ringfence.snapshot import Protocol
from tests.data_path import API, HttpClient, Mesh, echo_app, free_port, http_app, rule, until


async def test_of_200_open_streams_a_policy_change_ends_exactly_the_half_it_denies() -> None:
    """100 opaque streams and 100 HTTP requests in flight; the new policy keeps the opaque port and denies the other."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    async with echo_app() as tcp, Mesh(http_app=server.sockets[0].getsockname()[1], tcp_app=tcp) as mesh:
        opaque = [await asyncio.open_connection("127.0.0.1", mesh.tcp_listen) for _ in range(100)]
        for number, (reader, writer) in enumerate(opaque):
            writer.write(b"%03d" % number)
            assert await asyncio.wait_for(reader.readexactly(3), 10) == b"%03d" % number
        asking = [await HttpClient.to(mesh.http_listen) for _ in range(100)]
        for client in asking:
            client.writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n")
        for client in asking:
            await asyncio.wait_for(client.reader.readuntil(b"ab"), 10)
        assert len(mesh.api.inbound.relays) == 200

        mesh.enforce(rule("ledger", ports=[9000]))

        async def cut(client: HttpClient) -> bool:
            try:
                return await asyncio.wait_for(client.reader.read(), 10) == b""
            except ConnectionError:
                return True

        assert all(await asyncio.gather(*(cut(client) for client in asking)))
        await until(lambda: len(mesh.api.inbound.relays) == 100 and len(mesh.web.outbound.relays) == 100)
        for reader, writer in opaque:
            writer.write(b"still here")
            assert await asyncio.wait_for(reader.readexactly(10), 10) == b"still here"
        denied = mesh.api.log("connection denied")
        assert len(denied) == 100
        assert {line["reason"] for line in denied} == {"port_not_allowed"}
        ended = [line for line in mesh.web.log("connection ended") if line["protocol"] == "http"]
        assert {line["request_id"] for line in ended} == {line["request_id"] for line in denied}
        for _, writer in opaque:
            writer.close()
        for client in asking:
            client.close()
    server.close()


async def test_of_200_opaque_streams_of_two_callers_the_denied_callers_end() -> None:
    rules = (rule("web", ports=[9000]), rule("api", API, ports=[9000]))
    async with echo_app() as tcp, Mesh(tcp_app=tcp, rules=rules) as mesh:
        # The same service dialled by another identity: api's own sidecar.
        own = replace(mesh.upstreams[1], listen_port=free_port())
        await mesh.api.outbound.prepare([own])
        mesh.api.outbound.enforce([own])
        pairs = [
            await asyncio.open_connection("127.0.0.1", port)
            for port in [mesh.tcp_listen] * 100 + [own.listen_port] * 100
        ]
        for reader, writer in pairs:
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
        mesh.enforce(rule("api", API, ports=[9000]))
        for reader, _ in pairs[:100]:
            assert await asyncio.wait_for(reader.read(), 10) == b""
        for reader, writer in pairs[100:]:
            writer.write(b"y")
            assert await asyncio.wait_for(reader.readexactly(1), 10) == b"y"
        assert len(mesh.api.inbound.relays) == 100
        for _, writer in pairs:
            writer.close()
        await mesh.api.outbound.close(0.0)


async def test_an_idle_http_connection_survives_and_its_next_request_is_judged_by_the_new_policy() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1")).status == 200
        mesh.enforce(rule("fewer", ports=[8080], methods=["POST"], paths=["/orders/{id}"]))
        assert (await client.ask("GET", "/orders/1")).status == 403
        assert (await client.ask("POST", "/orders/1")).status == 200
        client.close()


async def test_a_policy_that_changes_nothing_for_a_stream_leaves_it_alone() -> None:
    async with echo_app() as app, Mesh(tcp_app=app) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        writer.write(b"a")
        await asyncio.wait_for(reader.readexactly(1), 10)
        for number in range(20):
            mesh.enforce(rule(f"again-{number}", ports=[9000]))
        writer.write(b"b")
        assert await asyncio.wait_for(reader.readexactly(1), 10) == b"b"
        writer.close()
        await until(lambda: bool(mesh.api.log("connection ended")))
        assert mesh.api.log("connection ended")[0]["rule"] == "again-19"
        assert not mesh.api.log("connection denied")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"\x81\x05hello", b"\x88\x10\x03\xf0policy changed"),
        (b"\x82\x05hel", b""),  # in the midst of a frame nothing can be told
        (b"\x88\x02\x03\xe8", b""),  # nor behind a close of the app's own
    ],
)
@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.AUTO])
async def test_a_websocket_that_is_denied_is_told_so_in_its_own_words(
    sent: bytes, told: bytes, protocol: Protocol
) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n" + sent)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    app = server.sockets[0].getsockname()[1]
    async with Mesh(http_app=app, http=protocol) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        client.writer.write(
            b"GET /orders/1 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        )
        assert b" 101 " in await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 10)
        assert await asyncio.wait_for(client.reader.readexactly(len(sent)), 10) == sent
        mesh.enforce(rule("fewer", ports=[8080], methods=["POST"], paths=["/orders/{id}"]))
        assert await asyncio.wait_for(client.reader.read(), 10) == told
        client.close()
        await asyncio.wait_for(ended.wait(), 10)
        assert {line["reason"] for line in mesh.api.log("connection denied")} == {"method_not_allowed"}
        await until(lambda: not len(mesh.web.outbound.relays) and not len(mesh.api.inbound.relays))
    server.close()
