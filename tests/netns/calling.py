"""The clients of a pod, none of which knows of a mesh; each prints one line of JSON.

python calling.py websocket|grpc|greeting|postgres HOST PORT
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator

import aiohttp
import grpc
import psycopg

host, port = sys.argv[2], int(sys.argv[3])
where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def websocket() -> list[str]:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://{where}/ws") as pair:
        await pair.send_str("abc")
        first = await pair.receive_str(timeout=20)
        await pair.send_bytes(bytes(300_000))
        return [first, str(len(await pair.receive_bytes(timeout=20)))]


async def feed() -> AsyncIterator[bytes]:
    for word in (b"one", b"two", b"three"):
        yield word


async def calls() -> list[str]:
    async with grpc.aio.insecure_channel(where) as channel:
        one = await channel.unary_unary("/test.Echo/One")(b"abc", timeout=20)
        chat = [message.decode() async for message in channel.stream_stream("/test.Echo/Chat")(feed(), timeout=20)]
        try:
            await channel.unary_unary("/test.Admin/One")(b"abc", timeout=20)
            refused = "served"
        except grpc.aio.AioRpcError as error:
            refused = error.code().name
    return [one.decode(), *chat, refused]


def greeting() -> list[str]:
    with socket.create_connection((host, port), 20) as sock, sock.makefile("rwb") as stream:
        first = stream.readline().decode().strip()  # before a byte of ours
        stream.write(b"QUIT\r\n")
        stream.flush()
        return [first, stream.readline().decode().strip()]


def postgres() -> list[object]:
    """By TLS of the app's own, which the mesh carries as it is."""
    dsn = f"host={host} port={port} user=ringfence dbname=postgres sslmode=require connect_timeout=20"
    with psycopg.connect(dsn) as connection:
        tls = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        total = connection.execute("SELECT sum(n), length(repeat('x', 2000000)) FROM generate_series(1, 1000) n")
        row = total.fetchone()
    assert tls is not None
    assert row is not None
    return [tls[0], int(row[0]), row[1]]


try:
    found = {
        "websocket": lambda: asyncio.run(websocket()),
        "grpc": lambda: asyncio.run(calls()),
        "greeting": greeting,
        "postgres": postgres,
    }[sys.argv[1]]()
except (OSError, psycopg.OperationalError) as error:
    found = [type(error).__name__]
print(json.dumps(found))
