"""What HTTP/1.x promises at its edges, end to end, on a declared port and on one whose protocol is found out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ringfence.snapshot import Protocol
from tests.data_path import WEB, HttpClient, Mesh, rule, serving, until

ALL = (rule("all", ports=[8080], paths=["/**"]),)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[Protocol.HTTP, Protocol.AUTO])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return request.param  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def calling(protocol: Protocol, serve: Serve) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of web's app to an app that serves like that."""

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    async with serving(quietly) as app, Mesh(http=protocol, http_app=app, rules=ALL) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.http_listen)
        yield reader, writer
        writer.close()
        await until(lambda: not len(mesh.web.outbound.relays) and not len(mesh.api.inbound.relays))
        await until(lambda: not any(link.machine.streams for link in mesh.web.links | mesh.api.links))


async def to_end(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), 10)


async def part(reader: asyncio.StreamReader, end: bytes = b"\r\n\r\n") -> bytes:
    return await asyncio.wait_for(reader.readuntil(end), 10)


async def test_http10_without_keep_alive_ends_with_its_response(protocol: Protocol) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nas long as it lasts")

    async with calling(protocol, serve) as (reader, writer):
        writer.write(b"GET /x HTTP/1.0\r\n\r\n")
        told = await to_end(reader)
        assert told.startswith(b"HTTP/1.0 200 OK\r\n")
        assert told.endswith(b"\r\n\r\nas long as it lasts")
    assert f"URI={WEB}".encode() in heads[0]


async def test_http10_with_keep_alive_goes_on(protocol: Protocol) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(2):
            await reader.readuntil(b"\r\n\r\n")
            keep = b"connection: keep-alive\r\n" if number == 0 else b""
            writer.write(b"HTTP/1.0 200 OK\r\n" + keep + b"content-length: 1\r\n\r\n%d" % number)

    async with calling(protocol, serve) as (reader, writer):
        client = HttpClient(reader, writer)
        for number in range(2):
            writer.write(b"GET /x HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
            reply = await client.reply()
            assert reply.body == b"%d" % number
        assert await to_end(reader) == b""


async def test_pipelined_requests_are_answered_in_their_order(protocol: Protocol) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1]
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(path) + path)

    async with calling(protocol, serve) as (reader, writer):
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(20)))
        client = HttpClient(reader, writer)
        assert [(await client.reply()).body for _ in range(20)] == [b"/%d" % number for number in range(20)]


async def test_chunks_and_trailers_pass_both_ways(protocol: Protocol) -> None:
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        bodies.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: sum\r\n\r\n2\r\nok\r\n0\r\nsum: 2\r\n\r\n"
        )
        await reader.read()

    async with calling(protocol, serve) as (reader, writer):
        writer.write(b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: sum\r\n\r\n")
        writer.write(b"5\r\nhello\r\n0\r\nsum: 5\r\n\r\n")
        await part(reader)
        assert await part(reader) == b"2\r\nok\r\n0\r\nsum: 2\r\n\r\n"
    assert bodies == [b"5\r\nhello\r\n0\r\nsum: 5\r\n\r\n"]


async def test_a_client_waits_for_100_before_it_sends_its_body(protocol: Protocol) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + body)
        await reader.read()

    async with calling(protocol, serve) as (reader, writer):
        writer.write(b"PUT /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert (await part(reader)).startswith(b"HTTP/1.1 100 ")
        writer.write(b"hello")
        reply = await HttpClient(reader, writer).reply()
        assert (reply.status, reply.body) == (200, b"hello")


async def test_a_final_answer_instead_of_100_is_one(protocol: Protocol) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    async with calling(protocol, serve) as (reader, writer):
        writer.write(b"PUT /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        told = await to_end(reader)
        assert told.startswith(b"HTTP/1.1 413 ")
        assert told.count(b"HTTP/1.1") == 1


async def test_a_response_to_head_has_the_length_and_not_the_content(protocol: Protocol) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            content = b"" if head.startswith(b"HEAD") else b"hello"
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + content)

    async with calling(protocol, serve) as (reader, writer):
        writer.write(b"HEAD /x HTTP/1.1\r\nhost: a\r\n\r\nGET /x HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"content-length: 5\r\n" in await part(reader)
        assert (await HttpClient(reader, writer).reply()).body == b"hello"


async def test_a_websocket_passes_both_ways_with_what_stands_right_behind_the_101(protocol: Protocol) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"upgrade: websocket" in head
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x05first"
        )
        while data := await reader.read(65536):
            writer.write(data)

    async with calling(protocol, serve) as (reader, writer):
        writer.write(
            b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        )
        assert (await part(reader)).startswith(b"HTTP/1.1 101 ")
        assert await asyncio.wait_for(reader.readexactly(7), 10) == b"\x81\x05first"
        blob = bytes(range(256)) * 512
        writer.write(blob)
        assert await asyncio.wait_for(reader.readexactly(len(blob)), 10) == blob
        writer.write_eof()
        assert await to_end(reader) == b""


async def test_a_declined_websocket_leaves_http(protocol: Protocol) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")

    async with calling(protocol, serve) as (reader, writer):
        client = HttpClient(reader, writer)
        offer = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        assert (await client.ask("GET", "/ws", headers=offer)).body == b"no"
        assert (await client.ask("GET", "/x")).body == b"no"
