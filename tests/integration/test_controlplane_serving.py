"""Signals and the admin socket under a crowd: whoever says nothing keeps nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from controlplane.operate.serving import CONNECTIONS, serve
from controlplane.operate.signals import SignalsApi

_WAIT_SECONDS = 20.0


@asynccontextmanager
async def signals() -> AsyncIterator[tuple[str, int]]:
    """A control plane's health on a port of loopback; its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = SignalsApi(waiting_for=list, metrics_text=lambda: b"")
        serving = asyncio.create_task(serve(api.application(), listener))
        try:
            yield listener.getsockname()
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def healthy(address: tuple[str, int]) -> bool:
    host, port = address
    timeout = aiohttp.ClientTimeout(_WAIT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"http://{host}:{port}/healthz") as reply:
        return reply.status == 200


async def test_the_silent_are_let_go_for_whoever_comes() -> None:
    async with signals() as address, asyncio.timeout(_WAIT_SECONDS):
        silent = [await asyncio.open_connection(*address) for _ in range(CONNECTIONS + 10)]
        assert await healthy(address)
        for reader, _ in silent[:10]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        for _, writer in silent:
            writer.close()


async def test_a_probe_that_keeps_its_connection_may_use_it_again() -> None:
    async with signals() as address, asyncio.timeout(_WAIT_SECONDS):
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(3):
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            assert (await reader.readuntil(b"ready\n")).endswith(b"ready\n")
        writer.close()


async def test_a_moment_without_descriptors_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    accept: Callable[..., object] = loop.sock_accept
    failures = [OSError(24, "Too many open files")]

    async def accepted(listener: socket.socket) -> object:
        if failures:
            raise failures.pop()
        return await accept(listener)  # type: ignore[misc]

    async with signals() as address, asyncio.timeout(_WAIT_SECONDS):
        monkeypatch.setattr(loop, "sock_accept", accepted, raising=False)
        assert await healthy(address)
        assert await healthy(address)
    assert failures == []
