"""A program in a namespace: accepts on many ports, and tells each client where it landed and where it meant to go.

    python landing.py NAME PORT[@ADDRESS] ...

A port without an address is accepted on all, IPv4 as mapped addresses on an IPv6 socket, as a sidecar would. Each
client gets one line of JSON and then an echo. Says ``ready`` when it accepts; ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

from sidecar.redirect import original_destination


def listener(word: str) -> socket.socket:
    port, _, address = word.partition("@")
    family = socket.AF_INET6 if ":" in address or not address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if address else 0)
    sock.bind((address or "::", int(port)))
    sock.listen()
    return sock


async def serve(name: str, words: list[str]) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        told = {"space": name, "port": sock.getsockname()[1], "original": original_destination(sock)}
        writer.write(json.dumps(told).encode() + b"\n")
        try:
            while chunk := await reader.read(4096):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    servers = [await asyncio.start_server(greet, sock=listener(word)) for word in words]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2:]))
