"""What a part answers that is asked whether it is ready, and what is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from controlplane.up.probes import listening, ready_over_http
from ringfence.kit.addresses import SocketAddress


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[SocketAddress]:
    """A server that gives ``answer`` to whatever it is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # of whoever only looks whether somebody listens
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield SocketAddress("127.0.0.1", server.sockets[0].getsockname()[1])


def _answer(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()


async def _ask(answer: bytes) -> str | None:
    async with answering(answer) as address, aiohttp.ClientSession() as session:
        return await ready_over_http(session, address)


async def test_200_is_ready() -> None:
    assert await _ask(_answer("200 OK", '{"ready": true, "waiting_for": []}')) is None


async def test_another_status_is_not_ready_and_tells_for_what_it_waits() -> None:
    told = await _ask(_answer("503 Service Unavailable", '{"ready": false, "waiting_for": ["an identity", "policy"]}'))
    assert told == "it waits for an identity, policy"


@pytest.mark.parametrize("body", ["", "no", "[]", '{"waiting_for": 7}'])
async def test_another_status_with_any_body_is_not_ready(body: str) -> None:
    told = await _ask(_answer("503 Service Unavailable", body))
    assert told is not None
    assert "answers 503" in told


async def test_what_is_no_http_is_not_ready() -> None:
    told = await _ask(b"SSH-2.0-OpenSSH\r\n\r\n")
    assert told is not None
    assert "does not answer" in told


async def test_nobody_there_is_not_ready(free_port: Callable[[], int]) -> None:
    address = SocketAddress("127.0.0.1", free_port())
    async with aiohttp.ClientSession() as session:
        assert await ready_over_http(session, address) == f"/readyz on {address} does not answer"
    assert await listening(address) == f"nothing listens on {address}"


async def test_an_app_that_takes_a_connection_listens() -> None:
    async with answering(b"") as address:
        assert await listening(address) is None
