"""Listeners: wherever the loop's own would listen, with the same errors, and without its threads."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from sidecar.listening import hold, listen, listen_beside, listen_on_all

ROOT = Path(__file__).parents[2]


async def reached(host: str) -> None:
    met = asyncio.get_running_loop().create_future()

    class Met(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            met.set_result(None)
            transport.close()

    server = await listen(Met, host, 0)
    try:
        _, writer = await asyncio.open_connection(host, server.sockets[0].getsockname()[1])
        await met
        writer.close()
    finally:
        server.close()
        await server.wait_closed()


needs_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", pytest.param("::1", marks=needs_ipv6)])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_whoever_connects_is_met(host: str, run: object) -> None:
    run(reached(host))  # type: ignore[operator]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_port_that_is_taken_is_told_by_its_number(run: object) -> None:
    async def twice() -> None:
        server = await listen(asyncio.Protocol, "127.0.0.1", 0)
        try:
            with pytest.raises(OSError) as error:
                await listen(asyncio.Protocol, "127.0.0.1", server.sockets[0].getsockname()[1])
            assert error.value.errno == errno.EADDRINUSE
        finally:
            server.close()
            await server.wait_closed()

    run(twice())  # type: ignore[operator]


async def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(OSError) as error:
        await listen(asyncio.Protocol, "192.0.2.1", 0)
    assert error.value.errno == errno.EADDRNOTAVAIL


@needs_ipv6
async def test_every_address_of_ipv6_leaves_those_of_ipv4_free() -> None:
    first = await listen(asyncio.Protocol, "::", 0)
    second = await listen(asyncio.Protocol, "0.0.0.0", first.sockets[0].getsockname()[1])
    assert second.sockets[0].family == socket.AF_INET
    for server in (first, second):
        server.close()
        await server.wait_closed()


COUNT_THREADS = """
import asyncio, os, uvloop
from sidecar.listening import listen

async def main():
    await listen(asyncio.Protocol, "127.0.0.1", 0)
    print(len(os.listdir("/proc/self/task")))

uvloop.run(main())
"""


def test_a_listener_on_a_number_costs_no_threads() -> None:
    # In a process of its own: once the loop's pool is there, nothing could be seen.
    out = subprocess.run([sys.executable, "-c", COUNT_THREADS], cwd=ROOT, capture_output=True, check=True, text=True)
    assert out.stdout == "1\n"


async def test_a_held_port_is_for_those_who_share_it_whether_or_not_one_listens(
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    held = hold("127.0.0.1", port)
    assert held is not None
    with held:
        for listener in (listen, hold_again):
            with pytest.raises(OSError, match="Address already in use"):
                await listener(asyncio.Protocol, "127.0.0.1", port)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)  # it does not listen itself
        servers = [await listen_beside(asyncio.Protocol, "127.0.0.1", port) for _ in range(2)]
        with pytest.raises(OSError, match="Address already in use"):
            await listen(asyncio.Protocol, "127.0.0.1", port)
        for server in servers:
            server.close()
            await server.wait_closed()
    (await listen(asyncio.Protocol, "127.0.0.1", port)).close()


async def hold_again(_: object, host: str, port: int) -> None:
    hold(host, port)


async def test_a_port_that_somebody_shares_already_cannot_be_held(free_port: Callable[[], int]) -> None:
    port = free_port()
    server = await listen_beside(asyncio.Protocol, "127.0.0.1", port)
    with pytest.raises(OSError, match="Address already in use"):
        hold("127.0.0.1", port)
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes two users")
def test_another_user_cannot_share_a_held_port(free_port: Callable[[], int]) -> None:
    port = free_port()
    held = hold("127.0.0.1", port)
    assert held is not None
    code = (
        "import os, socket; os.setuid(65534); s = socket.socket()\n"
        "for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT): s.setsockopt(socket.SOL_SOCKET, option, 1)\n"
        f"s.bind(('127.0.0.1', {port}))"
    )
    with held:
        told = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False)
    assert b"Address already in use" in told.stderr


async def test_all_addresses_are_listened_on_or_none(free_port: Callable[[], int]) -> None:
    port = free_port()
    servers = await listen_on_all(listen, asyncio.Protocol, ("127.0.0.1", "127.0.0.2"), port)
    with pytest.raises(OSError, match="in use"):
        await listen_on_all(listen, asyncio.Protocol, ("127.0.0.3", "127.0.0.2"), port)
    only = await listen(asyncio.Protocol, "127.0.0.3", port)  # it was let go of
    for server in (*servers, only):
        server.close()
        await server.wait_closed()
