"""A peer that opens mesh connections and leaves them open: ``python -m benchmarks.open_links``, a process of its own.

Orders come as lines of JSON: first whom to be and whom to reach (``chain_pem``, ``key_pem``, ``port``, ``http2``), then
how many connections are to be open from now on; each order is answered by one line once that is so. Over HTTP/2 each
connection says its preface and settings, and a PING now and then, as a living peer does.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import tempfile
from pathlib import Path

from sidecar.http2 import frames

_AT_A_TIME = 8
_PING_SECONDS = 5.0


def _context(chain_pem: str, key_pem: str, *, http2: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whom it reaches is of no matter here
    if http2:
        context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as folder:
        chain, key = Path(folder) / "chain.pem", Path(folder) / "key.pem"
        chain.write_text(chain_pem)
        key.touch(mode=0o600)
        key.write_text(key_pem)
        context.load_cert_chain(chain, key)
    return context


class _Open(asyncio.Protocol):
    """One open connection; what it is told is dropped."""

    def __init__(self, *, http2: bool) -> None:
        self._http2 = http2
        self.lost = False
        self.heard = asyncio.Event()
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self._http2:
            self.write(frames.PREFACE + frames.settings({}))
        else:
            self.heard.set()

    def write(self, data: bytes) -> None:
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.write(data)

    def ping(self) -> None:
        if self._http2 and not self.lost:
            self.write(frames.ping(b"stillup?"))

    def data_received(self, data: bytes) -> None:
        self.heard.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.heard.set()


async def serve() -> None:
    """Read orders and answer them until the input ends."""
    whom = json.loads(await asyncio.to_thread(sys.stdin.readline))
    context = _context(whom["chain_pem"], whom["key_pem"], http2=whom["http2"])
    loop = asyncio.get_running_loop()
    held: list[_Open] = []

    def ping() -> None:
        for each in held:
            each.ping()
        loop.call_later(_PING_SECONDS, ping)

    async def one() -> _Open:
        _, found = await loop.create_connection(
            lambda: _Open(http2=whom["http2"]), "127.0.0.1", whom["port"], ssl=context
        )
        await found.heard.wait()
        return found

    ping()
    while line := await asyncio.to_thread(sys.stdin.readline):
        wanted = int(json.loads(line))
        while len(held) < wanted:
            held += await asyncio.gather(*(one() for _ in range(min(_AT_A_TIME, wanted - len(held)))))
        print(json.dumps({"open": sum(not each.lost for each in held)}), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
