"""An app that gives back what it gets: ``python -m benchmarks.echo PORT``, on loopback, until it is ended."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.processes import free_ports, listening, running, wait_until


class Echo(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


@contextlib.contextmanager
def app(folder: Path) -> Iterator[int]:
    """Run the app in a process of its own; gives its port."""
    (port,) = free_ports(1)
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    with running([sys.executable, "-m", "benchmarks.echo", str(port)], folder, "echo", environment) as process:
        wait_until(lambda: listening(port), "the echo app", process, folder / "echo.log", 10)
        yield port


async def serve(port: int) -> None:
    """Serve until cancelled."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
