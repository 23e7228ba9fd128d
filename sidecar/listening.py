"""TCP listeners. uvloop looks up the address of a listener in its thread pool even when it is a number, and the four
threads and half a megabyte stay for the life of the process; so for numbers the socket is bound here."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Protocol


class ListenFailedError(Exception):
    """A local listening port could not be had; the text names the setting."""


def listen_failed(what: str, error: OSError) -> ListenFailedError:
    """``what``: the setting."""
    return ListenFailedError(f"{what}: {'already in use' if error.errno == errno.EADDRINUSE else error.strerror}")


class Listen(Protocol):
    """How a part of the data path comes by a listener: ``listen``, or ``listen_beside``."""

    async def __call__(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, *, backlog: int
    ) -> asyncio.Server: ...


async def listen(
    factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, *, backlog: int = 100
) -> asyncio.Server:
    """A server on ``host`` (an address, or a name) and ``port`` (0: any). OSError when that cannot be had."""
    return await _listen(factory, host, port, backlog, shared=False)


async def listen_beside(
    factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, *, backlog: int = 100
) -> asyncio.Server:
    """As ``listen``, on a port that other processes of this user listen on, too: the kernel deals connections out."""
    return await _listen(factory, host, port, backlog, shared=True)


async def listen_on_all(
    listen: Listen, factory: Callable[[], asyncio.BaseProtocol], hosts: Iterable[str], port: int
) -> list[asyncio.Server]:
    """A server on each of ``hosts``, or OSError and none."""
    servers: list[asyncio.Server] = []
    try:
        for host in hosts:
            servers.append(await listen(factory, host, port, backlog=1024))
    except OSError:
        for server in servers:
            server.close()
        raise
    return servers


async def _listen(
    factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, backlog: int, *, shared: bool
) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    family = _family(host)
    if family is None:
        return await loop.create_server(factory, host, port, backlog=backlog, reuse_port=shared or None)
    listener = _socket(family)
    try:
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        return await loop.create_server(factory, sock=listener, backlog=backlog)
    except BaseException:
        listener.close()
        raise


def hold(host: str, port: int) -> socket.socket | None:
    """Keep a port for processes that ``listen_beside`` on it, whether or not one of them lives; None for a ``host``
    that is no plain address. OSError when it is taken.

    The socket never listens, so the kernel deals it nothing. Bound alone, it finds out who else is there; opened for
    sharing after that, it lets in this user's listeners; and without SO_REUSEADDR nobody else can share the port, which
    another user could while no listener lives, if the option stayed.
    """
    family = _family(host)
    if family is None:
        return None
    held = _socket(family)
    try:
        held.bind((host, port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        held.close()
        raise
    return held


def _socket(family: socket.AddressFamily) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _family(host: str) -> socket.AddressFamily | None:
    """The family of an address that is a number; None for a name, and for an address with a zone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if "%" in host:
        return None
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
