"""The apps of a pod, none of which knows of a mesh: HTTP with a WebSocket, gRPC, and one that speaks first.

    python serving.py

HTTP on 8080 and 8088, gRPC on 50051, a greeting on 2525 and 2526, all on loopback. Says ``ready`` when all accept; ends
when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import grpc
from aiohttp import WSMsgType, web


async def told(request: web.Request) -> web.Response:
    """What the app was asked, and who it was told asks."""
    return web.json_response({"path": request.path, "caller": request.headers.get("x-forwarded-client-cert", "")})


async def echo(request: web.Request) -> web.WebSocketResponse:
    pair = web.WebSocketResponse()
    await pair.prepare(request)
    async for message in pair:
        if message.type is WSMsgType.TEXT:
            await pair.send_str(message.data[::-1])
        elif message.type is WSMsgType.BINARY:
            await pair.send_bytes(message.data)
    return pair


class Echo(grpc.GenericRpcHandler):
    """/test.Echo/One turns its message about; /test.Echo/Chat says each in capitals."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        async def one(message: bytes, context: object) -> bytes:
            return message[::-1]

        async def chat(messages: object, context: object) -> object:
            async for message in messages:
                yield message.upper()

        return {
            "One": grpc.unary_unary_rpc_method_handler(one),
            "Chat": grpc.stream_stream_rpc_method_handler(chat),
        }.get(details.method.rpartition("/")[2])


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(b"220 mail.shop.example ready\r\n")
        while line := await reader.readline():
            writer.write(b"221 bye\r\n" if line.upper() == b"QUIT\r\n" else b"250 " + line)
            await writer.drain()
    writer.close()


async def main() -> None:
    site = web.Application()
    site.add_routes([web.get("/ws", echo), web.route("*", "/{path:.*}", told)])
    runner = web.AppRunner(site)
    await runner.setup()
    for port in (8080, 8088):
        await web.TCPSite(runner, "127.0.0.1", port).start()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port("127.0.0.1:50051")
    await server.start()
    greeters = [await asyncio.start_server(greet, "127.0.0.1", port) for port in (2525, 2526)]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for greeter in greeters:
        greeter.close()
    await server.stop(None)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
