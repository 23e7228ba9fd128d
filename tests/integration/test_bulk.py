"""Bulk bytes through opaque ports: conserved, fair to what is small, and bounded for who does not read."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random

from sidecar.tunnel.stream import EXTRA_LIMIT_BYTES, LARGEST_WINDOW_BYTES, STREAM_WINDOW_BYTES
from tests.data_path import Mesh, echo_app, serving, until

MEGABYTE = 1 << 20


def body(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def endless(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(256 * 1024))
        await writer.drain()


async def echoed(port: int, seed: int, size: int) -> bool:
    """Whether ``size`` bytes come back as they were sent, read in pieces of any size, now and then late."""
    sizes = random.Random(seed)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = body(seed, size)

    async def send() -> None:
        position = 0
        while position < size:
            step = sizes.choice((1, 700, 4095, 4096, 70_000, 400_000))
            writer.write(sent[position : position + step])
            position += step
            await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    seen = hashlib.sha256()
    while piece := await reader.read(sizes.choice((1, 5_000, 300_000))):
        seen.update(piece)
        if sizes.random() < 0.01:
            await asyncio.sleep(0)
    await sending
    writer.close()
    return seen.digest() == hashlib.sha256(sent).digest()


async def test_bulk_on_many_connections_arrives_as_it_was_sent_in_both_directions() -> None:
    async with echo_app() as app, Mesh(tcp_app=app) as mesh:
        async with asyncio.timeout(60):
            results = await asyncio.gather(*(echoed(mesh.tcp_listen, seed, 3 * MEGABYTE) for seed in range(12)))
        assert results == [True] * 12
        await until(lambda: not mesh.web.outbound.relays and not mesh.api.inbound.relays)
        for link in mesh.web.links | mesh.api.links:
            assert (link.machine.kept_bytes, link.machine.held_bytes, link.machine.extra_bytes) == (0, 0, 0)
        assert not mesh.web.log("defect")
        assert not mesh.web.log("tunnel broken")
        assert not mesh.api.log("tunnel broken")


async def test_a_small_request_is_answered_while_others_move_bulk() -> None:
    """The bulk never ends by itself: an echo that waited for its end would not come back."""

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if await reader.readexactly(1) == b"e":
                while data := await reader.read(100):
                    writer.write(data)
            else:
                await endless(writer)
        writer.close()

    async def swallow(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"p")
        try:
            while await reader.read(MEGABYTE):
                pass
        finally:
            writer.close()

    async with serving(pour) as app, Mesh(tcp_app=app) as mesh:
        pouring = [asyncio.create_task(swallow(mesh.tcp_listen)) for _ in range(6)]
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        writer.write(b"e")
        async with asyncio.timeout(60):
            for number in range(50):
                writer.write(b"%4d" % number)
                assert await reader.readexactly(4) == b"%4d" % number
        writer.close()
        for task in pouring:
            task.cancel()
        await asyncio.gather(*pouring, return_exceptions=True)


async def test_who_does_not_read_holds_one_window_and_is_granted_no_more() -> None:
    """The reader that keeps up is granted a larger window; the one that stops holds no more than its own."""

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await endless(writer)
        writer.close()

    async with serving(pour) as app, Mesh(tcp_app=app) as mesh:
        quick, quick_writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        async with asyncio.timeout(60):
            await quick.readexactly(16 * MEGABYTE)
            [link] = mesh.web.links
            grown = link.machine.extra_bytes
            assert 0 < grown <= min(LARGEST_WINDOW_BYTES - STREAM_WINDOW_BYTES, EXTRA_LIMIT_BYTES)
            await until(lambda: link.machine.held_bytes > 0, 30)  # nobody reads any more
        slow, slow_writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        await slow.readexactly(1)
        await until(lambda: link.machine.held_bytes > STREAM_WINDOW_BYTES, 30)
        assert link.machine.held_bytes <= 2 * STREAM_WINDOW_BYTES + link.machine.extra_bytes
        assert link.machine.kept_bytes == 0
        quick_writer.transport.abort()
        slow_writer.transport.abort()
        await until(lambda: link.machine.extra_bytes == 0)
