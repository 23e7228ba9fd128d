"""The app of the soak: ``python -m benchmarks.soak.site HTTP GRPC ECHO GREETING``, its ports on loopback.

HTTP answers with the number of bytes that it was sent, and WebSockets with what they are told; gRPC turns messages
about; one opaque port gives back what it gets, the other speaks first.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import grpc
from aiohttp import WSMsgType, web

from benchmarks.echo import Echo

GREETING = b"220 soak ready\r\n"


async def told(request: web.Request) -> web.Response:
    body = await request.read()
    return web.Response(text=f"{request.method} {request.path} {len(body)}")


async def pair(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data[::-1])
    return socket


class Calls(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """``One`` turns its message about, ``Many`` answers with ten, ``Chat`` echoes each."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        async def one(message: bytes, _: object) -> bytes:
            return message[::-1]

        async def many(message: bytes, _: object) -> AsyncIterator[bytes]:
            for _number in range(10):
                yield message

        async def chat(messages: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
            async for message in messages:
                yield message

        handlers = {
            "One": grpc.unary_unary_rpc_method_handler(one),
            "Many": grpc.unary_stream_rpc_method_handler(many),
            "Chat": grpc.stream_stream_rpc_method_handler(chat),
        }
        return handlers.get(details.method.rpartition("/")[2])


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(GREETING)
        while line := await reader.readline():
            writer.write(b"250 " + line)
            await writer.drain()
    writer.close()


async def serve(http: int, calls: int, echo: int, greeting: int) -> None:
    """Serve until cancelled."""
    site = web.Application(client_max_size=8 * 1024 * 1024)
    site.add_routes([web.get("/ws", pair), web.route("*", "/{path:.*}", told)])
    runner = web.AppRunner(site, access_log=None, keepalive_timeout=3600)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", http, backlog=1024).start()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Calls(),))
    server.add_insecure_port(f"127.0.0.1:{calls}")
    await server.start()
    opaque = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", echo, backlog=1024)
    greeter = await asyncio.start_server(greet, "127.0.0.1", greeting, backlog=1024)
    async with opaque, greeter:
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:])))
