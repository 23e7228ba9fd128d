"""Bulk of many connections, over links that share one set of buffers, arrives where it belongs and nowhere else."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from sidecar.tls import RecordBuffers
from tests.data_path import HttpClient, Mesh, echo_app, http_app

_BYTES = 640_000
_CONNECTIONS = 8


async def echoed(port: int, number: int, chance: random.Random) -> None:
    """Send numbered words of this connection's own, at an uneven pace, and have exactly these come back."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # so that what writes to it is left with parts
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock)
    sent = b"".join(bytes((number,)) + word.to_bytes(7, "big") for word in range(_BYTES // 8))

    async def send() -> None:
        position = 0
        while position < len(sent):
            size = chance.choice((1, 900, 40_000, 300_000))
            writer.write(sent[position : position + size])
            position += size
            await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    received = bytearray()
    while piece := await reader.read(chance.choice((1000, 100_000, 1_000_000))):
        received += piece
    await sending
    assert bytes(received) == sent
    writer.close()
    await writer.wait_closed()


async def broken_off(port: int) -> None:
    """Go away in the midst of bulk that nobody reads."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\xff" * _BYTES)
    await asyncio.sleep(0)
    writer.transport.abort()


@pytest.mark.parametrize("seed", [1, 2])
async def test_each_byte_arrives_at_its_own_peer_alone(seed: int) -> None:
    chance = random.Random(seed)
    buffers = RecordBuffers()
    async with echo_app() as echo, http_app() as http:
        one, other = Mesh(http_app=http, tcp_app=echo), Mesh(http_app=http, tcp_app=echo)
        for side in (one.web, one.api, other.web, other.api):
            side.context.buffers = buffers
        async with one, other, asyncio.TaskGroup() as group:
            for number in range(1, _CONNECTIONS + 1):
                mesh = one if number % 2 else other
                group.create_task(echoed(mesh.tcp_listen, number, random.Random(chance.random())))
                group.create_task(broken_off(mesh.tcp_listen))
            for mesh in (one, other):
                client = await HttpClient.to(mesh.http_listen)
                for number in range(20):
                    reply = await client.ask("POST", f"/orders/{number}", bytes((0x40 + number,)) * 30_000)
                    assert reply.status == 200, reply.body
                client.close()
