"""A mesh peer that keeps no rules: real TLS with any SVID, and then whatever bytes its test says, over loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import hpack
from OpenSSL import SSL

from ringfence.spiffe import X509Svid
from sidecar.http2 import frames as h2
from tests.tls_ends import RawEnd, raw_context

HELLO = h2.PREFACE + h2.settings({})
DEADLINE_SECONDS = 20.0


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[-4:] if self.kind == h2.RST_STREAM else self.payload[4:8], "big")


class RawPeer:
    """One connection, of either role. ``seen`` holds every frame that came; ``over`` is set when no more will."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: RawEnd) -> None:
        self.reader = reader
        self.writer = writer
        self.seen: list[Frame] = []
        self.over = False
        self._end = end
        self._plain = bytearray()
        self._given: set[int] = set()
        self._skip_bytes = 0  # of the client's preface, where this is the server
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()

    @classmethod
    async def dial(
        cls,
        port: int,
        svid: X509Svid | None,
        *,
        hello: bytes = HELLO,
        watch: Callable[[object, bytes], None] | None = None,
    ) -> RawPeer:
        """Connect, shake hands, and send ``hello`` (b"": nothing). ``watch`` is told the lines of the key log."""
        return await cls.over(*await asyncio.open_connection("127.0.0.1", port), svid, hello=hello, watch=watch)

    @classmethod
    async def over(
        cls,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        svid: X509Svid | None,
        *,
        hello: bytes = HELLO,
        watch: Callable[[object, bytes], None] | None = None,
    ) -> RawPeer:
        """As ``dial``, on a connection that is there already."""
        context = raw_context(svid)
        if watch is not None:
            context.set_keylog_callback(watch)
        peer = cls(reader, writer, RawEnd(context, is_client=True))
        writer.write(peer._end.start())
        await peer._shake()
        if hello and not peer.over:
            peer.send(hello)
        return peer

    async def _shake(self) -> None:
        while not self._end.established and not self.over:
            await self._read()

    async def _read(self) -> None:
        """Take what comes next; sets ``over`` at the end of the connection, however it ends."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                data = await self.reader.read(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            self.over = True
            return
        self._decrypt(data)
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.writer.write(self._end.outgoing())
        skipped = min(self._skip_bytes, len(self._plain))
        del self._plain[:skipped]
        self._skip_bytes -= skipped
        while len(self._plain) >= 9:
            size = int.from_bytes(self._plain[:3], "big")
            if len(self._plain) < 9 + size:
                return
            self.seen.append(
                Frame(
                    self._plain[3],
                    self._plain[4],
                    int.from_bytes(self._plain[5:9], "big"),
                    bytes(self._plain[9 : 9 + size]),
                )
            )
            del self._plain[: 9 + size]

    def _decrypt(self, data: bytes) -> None:
        """Record by record, so that what came before an alert or the end still counts."""
        connection = self._end.connection
        connection.bio_write(data)
        try:
            if not self._end.established:
                connection.do_handshake()
                self._end.established = True
            while True:
                self._plain += connection.recv(16_384)
        except SSL.WantReadError:
            return
        except SSL.Error:
            self.over = True

    def send(self, *frames: bytes) -> None:
        """Send bytes inside TLS, whatever they are; nothing once the connection is over."""
        data = b"".join(frames)
        with contextlib.suppress(ConnectionError, SSL.Error):
            for at in range(0, len(data), 16_384):  # one record each
                self._end.send(data[at : at + 16_384])
                self.writer.write(self._end.outgoing())

    def headers(self, stream_id: int, *fields: tuple[bytes, bytes], end: bool = False) -> bytes:
        """A HEADERS frame; in the order in which it is made it must be sent (HPACK)."""
        flags = h2.FLAG_END_HEADERS | (h2.FLAG_END_STREAM if end else 0)
        return h2.frame(h2.HEADERS, flags, stream_id, self._encoder.encode(list(fields)))

    def connect(self, stream_id: int, authority: bytes, *more: tuple[bytes, bytes], end: bool = False) -> bytes:
        """A CONNECT as it should be."""
        return self.headers(stream_id, (b":method", b"CONNECT"), (b":authority", authority), *more, end=end)

    def fields(self, frame: Frame) -> dict[bytes, bytes]:
        """What a HEADERS frame says; each must be decoded once and in order (``next`` does not)."""
        return {bytes(k): bytes(v) for k, v in self._decoder.decode(frame.payload, raw=True)}

    async def next(self, kind: int, stream_id: int | None = None) -> Frame:
        """The first frame of this kind that was not given yet; EOFError when the connection ends without one."""
        while True:
            for at in range(len(self.seen)):
                frame = self.seen[at]
                if frame.kind == kind and stream_id in (None, frame.stream_id) and at not in self._given:
                    self._given.add(at)
                    return frame
            if self.over:
                raise EOFError(f"no frame {kind} on stream {stream_id}; seen: {self.seen[-5:]}")
            await self._read()

    async def ended(self) -> list[Frame]:
        """Every frame until the connection is over; TimeoutError if it goes on."""
        while not self.over:
            await self._read()
        return self.seen

    async def alive(self) -> bool:
        """Whether the other end still answers a PING."""
        self.send(h2.ping(b"you here"))
        try:
            while (await self.next(h2.PING)).payload != b"you here":
                pass
        except EOFError:
            return False
        return True

    def close(self) -> None:
        self.writer.close()


@contextlib.asynccontextmanager
async def raw_server(
    svid: X509Svid, serve: Callable[[RawPeer], Awaitable[None]], *, hello: bytes = h2.settings({})
) -> AsyncIterator[int]:
    """A hostile inbound side: shakes hands as ``svid``, sends ``hello``, then does as it is told; yields its port."""
    living: set[asyncio.Task[None]] = set()
    context = raw_context(svid, is_client=False)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        living.add(task)
        peer = RawPeer(reader, writer, RawEnd(context, is_client=False))
        peer._skip_bytes = len(h2.PREFACE)
        try:
            await peer._shake()
            if hello:
                peer.send(hello)
            await serve(peer)
        except (asyncio.CancelledError, EOFError):
            pass
        finally:
            living.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(living):
            task.cancel()
        while living:  # noqa: ASYNC110 - a handful of turns
            await asyncio.sleep(0)
