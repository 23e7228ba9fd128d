"""Many open connections through a chain, each proved by an echo: held, counted, and timed when they end. Adapter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

from benchmarks.works import BenchmarkError

_AT_A_TIME = 50
_ECHO_SECONDS = 10.0


class Held(asyncio.Protocol):
    """One connection; ``ended_at`` is when it was seen to end (Unix seconds), None while it lives."""

    def __init__(self) -> None:
        self.ended_at: float | None = None
        self.transport: asyncio.Transport | None = None
        self._echo: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._echo is not None and not self._echo.done():
            self._echo.set_result(None)

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if self.ended_at is None:
            self.ended_at = time.time()
        if self._echo is not None and not self._echo.done():
            self._echo.set_exception(ConnectionResetError("ended instead of an echo"))

    async def echo(self) -> None:
        """Send a byte and wait for it to come back; OSError when it does not."""
        if self.transport is None or self.ended_at is not None:
            raise ConnectionResetError("ended")
        self._echo = asyncio.get_running_loop().create_future()
        self.transport.write(b"e")
        async with asyncio.timeout(_ECHO_SECONDS):
            await self._echo

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


async def opened(port: int, count: int) -> list[Held]:
    """So many connections to ``port``, each of which has echoed a byte; BenchmarkError when one does not."""

    async def one() -> Held:
        _, held = await asyncio.get_running_loop().create_connection(Held, "127.0.0.1", port)
        await held.echo()
        return held

    found: list[Held] = []
    try:
        while len(found) < count:
            found += await asyncio.gather(*(one() for _ in range(min(_AT_A_TIME, count - len(found)))))
    except (OSError, TimeoutError) as error:
        raise BenchmarkError(f"connection {len(found)} of {count} to port {port} did not echo: {error}") from error
    return found


async def echo_all(held: list[Held]) -> None:
    """BenchmarkError unless every connection lives and echoes."""
    try:
        for start in range(0, len(held), _AT_A_TIME):
            await asyncio.gather(*(each.echo() for each in held[start : start + _AT_A_TIME]))
    except (OSError, TimeoutError) as error:
        raise BenchmarkError(f"a connection that was to live on did not echo: {error}") from error


async def until(ready: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait for ``ready()``, looking now and again; BenchmarkError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{what} did not happen within {seconds:.0f} s")
        await asyncio.sleep(0.01)
