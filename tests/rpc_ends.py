"""Other ends for the sidecar's gRPC client: hyper-h2 in memory as the oracle, and raw servers behind TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack

from ringfence.kit.clock import SystemClock
from ringfence.spiffe import TrustDomain, control_plane_dns_name, control_plane_id
from sidecar.http2 import frames
from sidecar.rpc import Connection, Limits, connected
from sidecar.rpc.machine import RpcMachine
from sidecar.settings import HostPort
from sidecar.tls import TlsEndedError, TlsEngine, TlsIdentity
from tests.pki import TestCa

TRUST_DOMAIN = TrustDomain("shop.example")
AUTHORITY = control_plane_dns_name(TRUST_DOMAIN)
CONTROL_PLANE = control_plane_id(TRUST_DOMAIN)
HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]
OK = [(b"grpc-status", b"0")]


class H2Server:
    """A server by hyper-h2, which judges every byte that the machine sends; it must never object."""

    def __init__(self, machine: RpcMachine, **settings: int) -> None:
        self.machine = machine
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        codes = {h2.settings.SettingCodes[name.upper()]: value for name, value in settings.items()}
        self.connection.local_settings = h2.settings.Settings(client=False, initial_values=codes or None)
        self.connection.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.body = b""

    def turn(self, cut: Callable[[bytes], list[bytes]] = lambda data: [data]) -> None:
        """Move bytes both ways until both sides are silent."""
        for _ in range(10_000):
            to_server = self.machine.take()
            if to_server:
                self._receive(to_server)
            to_client = self.connection.data_to_send()
            for piece in cut(to_client) if to_client else []:
                self.machine.receive(piece)
            if not to_server and not to_client:
                return
        raise AssertionError("the two sides never fell silent")

    def _receive(self, data: bytes) -> None:
        for event in self.connection.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                assert event.data is not None
                self.body += event.data

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def say(self, message: bytes, stream_id: int = 1) -> None:
        """One gRPC message, as far as flow control lets it go; the rest at the next ``turn`` by whoever calls."""
        self.connection.send_data(stream_id, b"\0" + len(message).to_bytes(4, "big") + message)


def headers(stream_id: int, fields: list[tuple[bytes, bytes]], *, end: bool = False) -> bytes:
    """A HEADERS frame, as a server with a new HPACK encoder would send it."""
    flags = frames.FLAG_END_HEADERS | (frames.FLAG_END_STREAM if end else 0)
    return frames.frame(frames.HEADERS, flags, stream_id, hpack.Encoder().encode(fields))


def message(stream_id: int, content: bytes) -> bytes:
    """A DATA frame with one whole gRPC message."""
    return frames.frame(frames.DATA, 0, stream_id, b"\0" + len(content).to_bytes(4, "big") + content)


class RawPeer:
    """The server's end of one TLS connection: plaintext to read and to write, whatever it may be."""

    def __init__(self, engine: TlsEngine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._engine = engine
        self._reader = reader
        self.writer = writer
        self.seen = b""

    async def shake(self) -> None:
        while not self._engine.established:
            self.seen += self._engine.receive(await self._some())
            self.writer.write(self._engine.outgoing())

    async def read(self) -> bytes:
        """Plaintext that arrived, b"" at the end of the connection."""
        while True:
            try:
                data = self._engine.receive(await self._some())
            except TlsEndedError as end:
                self.seen += end.plaintext
                return b""
            except EOFError:
                return b""
            self.seen += data
            if data:
                return data

    async def read_all(self) -> None:
        while await self.read():
            pass

    async def write(self, data: bytes) -> None:
        self._engine.send(data)
        self.writer.write(self._engine.outgoing())
        await self.writer.drain()

    async def _some(self) -> bytes:
        data = await self._reader.read(65536)
        if not data:
            raise EOFError
        return data


class RawServers:
    """Makes servers that pass for the control plane and then do as they are told; and connections to them."""

    def __init__(self) -> None:
        self.ca = TestCa(TRUST_DOMAIN)
        self.peers: list[RawPeer] = []
        clock = SystemClock()
        self._server = TlsIdentity(self.ca.svid(CONTROL_PLANE, dns=[AUTHORITY]), [self.ca.bundle()], clock)
        self._client = TlsIdentity(self.ca.svid("spiffe://shop.example/ns/shop/sa/orders"), [self.ca.bundle()], clock)

    @asynccontextmanager
    async def serving(self, script: Callable[[RawPeer], Awaitable[None]]) -> AsyncIterator[HostPort]:
        """``script`` is run for each connection after its TLS handshake, and the connection cut at its end."""

        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = RawPeer(self._server.server(), reader, writer)
            self.peers.append(peer)
            try:
                await peer.shake()
                await script(peer)
            except (ConnectionError, TlsEndedError, EOFError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(served, "127.0.0.1", 0)
        try:
            yield HostPort("127.0.0.1", server.sockets[0].getsockname()[1])
        finally:
            server.close()

    def connect(self, address: HostPort, **limits: Any) -> AbstractAsyncContextManager[Connection]:
        bounds = Limits(**{"answer_bytes": 64 * 1024, **limits})
        engine = self._client.client(frozenset({CONTROL_PLANE}))
        return connected(address.host, address.port, engine, authority=AUTHORITY, limits=bounds)
