"""TCP listeners. uvloop looks up the address of a listener in its thread pool even when it is a number, and the four
threads and half a megabyte stay for the life of the process; so for numbers the socket is bound here."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Protocol


class Listen(Protocol):
    """How a part of the data path comes by a listener: ``listen``, or ``listen_beside``."""

    async def __call__(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, *, backlog: int
    ) -> asyncio.Server: ...


async def listen(
    factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, *, backlog: int = 100
) -> asyncio.Server:
    """A server on ``host`` (an address, or a name) and ``port`` (0: any). OSError when that cannot be had."""
    loop = asyncio.get_running_loop()
    family = _family(host)
    if family is None:
        return await loop.create_server(factory, host, port, backlog=backlog)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        return await loop.create_server(factory, sock=listener, backlog=backlog)
    except BaseException:
        listener.close()
        raise


def _family(host: str) -> socket.AddressFamily | None:
    """The family of an address that is a number; None for a name, and for an address with a zone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if "%" in host:
        return None
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
