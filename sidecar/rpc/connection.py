"""A connection to a gRPC server: TCP transport, TLS engine, machine; deadlines and keepalive. Adapter.

One connection carries one call at a time and is made for it: there is no pool, no retry, no waiting for a server that
is not there, and no thread. Nothing is sent before the engine has verified the server inside the TLS handshake.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

from sidecar.http2.frames import PeerError
from sidecar.rpc.call import Call
from sidecar.rpc.machine import RpcMachine
from sidecar.rpc.methods import Answer, Method, Request
from sidecar.rpc.plain import PlainEngine
from sidecar.rpc.status import RpcError, Status, StatusCode, unavailable
from sidecar.rpc.stream import RpcStream
from sidecar.tls import TlsEndedError, TlsEngine, TlsFailed

_WRITE_HIGH_BYTES: Final = 256 * 1024
_LINGER_SECONDS: Final = 1.0  # what a peer that does not read may hold a closed socket for


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one connection."""

    answer_bytes: int
    """Of one message of an answer."""
    connect_seconds: float = 10.0
    """From the first packet to the end of the TLS handshake."""
    keepalive_seconds: float = 30.0
    """After so long without a byte the other side is asked whether it is there."""
    keepalive_timeout_seconds: float = 10.0
    """And the connection is given up when nothing comes for so long."""


@asynccontextmanager
async def connected(
    host: str, port: int, engine: TlsEngine | PlainEngine, *, authority: str, limits: Limits
) -> AsyncIterator[Connection]:
    """A connection whose server was verified by ``engine``, closed at the end of the block. RpcError UNAVAILABLE."""
    connection = Connection(engine, authority=authority, limits=limits)
    try:
        await connection.open(host, port)
        yield connection
    finally:
        connection.close()


class Connection(asyncio.Protocol):
    """Made by ``connected``. ``unary`` and ``stream`` make calls; the other methods are for ``Call``."""

    def __init__(self, engine: TlsEngine | PlainEngine, *, authority: str, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._machine = RpcMachine(
            authority=authority,
            scheme="http" if isinstance(engine, PlainEngine) else "https",
            monotonic=self._loop.time,
        )
        self._transport: asyncio.Transport | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._keepalive: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._asked = False  # a ping is on its way
        self._end: Status | None = None

    # -- calls --------------------------------------------------------------------------------------------------------

    async def unary(self, method: Method[Request, Answer], request: Request, *, deadline_seconds: float) -> Answer:
        """One message for one. RpcError, DEADLINE_EXCEEDED if it takes longer than ``deadline_seconds``."""
        call = self._call(method, deadline_seconds, streams=False)
        try:
            async with asyncio.timeout(deadline_seconds):
                await call.write(request, last=True)
                answer = await call.read()
                if answer is None:
                    raise RpcError(Status(code=StatusCode.INTERNAL, details="OK without an answer"))
                if await call.read() is not None:
                    raise RpcError(Status(code=StatusCode.INTERNAL, details="more than one answer"))
                return answer
        except TimeoutError as error:
            details = f"no answer within {deadline_seconds:g} s"
            raise RpcError(Status(code=StatusCode.DEADLINE_EXCEEDED, details=details)) from error
        finally:
            call.cancel()

    def stream(self, method: Method[Request, Answer]) -> Call[Request, Answer]:
        """A call in which both sides send as they like; whoever made it sets the deadlines, and cancels it."""
        return self._call(method, None, streams=True)

    def _call(
        self, method: Method[Request, Answer], deadline_seconds: float | None, *, streams: bool
    ) -> Call[Request, Answer]:
        if method.is_stream is not streams:
            raise ValueError(f"{method.path} is called the wrong way")
        if self._end is not None:
            raise RpcError(self._end)
        stream = self._machine.open(
            method.path, timeout_seconds=deadline_seconds, limit_bytes=self._limits.answer_bytes
        )
        self._flush()
        return Call(self, stream, method)

    def send(self, stream: RpcStream, data: bytes, *, end: bool) -> None:
        self._machine.send(stream, data, end=end)
        self._moved()

    def take(self, stream: RpcStream) -> bytes | None:
        message = stream.take()
        self._moved()
        return message

    def cancel(self, stream: RpcStream) -> None:
        stream.cancel()
        self._moved()

    def break_off(self, stream: RpcStream, status: Status, code: int) -> None:
        stream.break_off(status, code)
        self._moved()

    async def progress(self) -> None:
        """Returns when something has happened that may have changed the state of the call."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def _moved(self) -> None:
        """The state of the call was changed from this side."""
        self._flush()
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def open(self, host: str, port: int) -> None:
        """Connect and do the TLS handshake, once. RpcError UNAVAILABLE; whoever called closes then."""
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                await self._loop.create_connection(lambda: self, host, port)
                while not self._engine.established:
                    if self._end is not None:
                        raise RpcError(self._end, self._engine.failure)
                    await self.progress()
        except TimeoutError as error:
            what = "connection" if self._transport is None else "TLS handshake"
            raise unavailable(f"no {what} within {self._limits.connect_seconds:g} s") from error
        except OSError as error:
            # asyncio puts words of its own into strerror; the system's are the ones that people know.
            known = error.errno is not None and error.errno > 0
            raise unavailable(
                (os.strerror(error.errno or 0) if known else error.strerror or str(error)).lower()
            ) from error

    def close(self) -> None:
        """Cancel what is open, say goodbye and let go. Harmless at any time."""
        if self._end is None:
            stream = self._machine.stream
            if stream is not None:
                stream.cancel()
            if self._engine.established:
                self._machine.say_goodbye()
                self._flush()
                self._engine.close_notify()
                self._write(self._engine.outgoing())
            self._over(Status(code=StatusCode.UNAVAILABLE, details="the connection was closed"))

    def _over(self, status: Status) -> None:
        """The connection is at its end, whoever brought it about; the first reason counts."""
        if self._end is not None:
            return
        self._end = status
        self._machine.lose(status)
        if self._keepalive is not None:
            self._keepalive.cancel()
        if self._transport is not None:
            self._transport.close()
            # close() waits until all is written; a peer that does not read must not hold the socket for ever.
            self._loop.call_later(_LINGER_SECONDS, self._transport.abort)
        self._wake()

    # -- transport ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is no instance of it
        self._transport = transport
        if self._end is not None:  # given up meanwhile
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._write(self._engine.start())
        if self._engine.established:  # there is no TLS
            self._begin()
            self._flush()

    def _begin(self) -> None:
        self._heard_at = self._loop.time()
        self._machine.start()
        self._look()

    def data_received(self, data: bytes) -> None:
        if self._end is not None:
            return
        self._heard_at = self._loop.time()
        self._asked = False
        was_established = self._engine.established
        try:
            plaintext = self._engine.receive(data)
            if not was_established:
                self._write(self._engine.outgoing())
                if self._engine.established:
                    self._begin()
            if plaintext:
                self._machine.receive(plaintext)
            self._flush()
        except TlsEndedError as end:
            self._tls_ended(end, was_established=was_established)
        except PeerError as error:
            self._peer_broke(error)
        self._wake()

    def eof_received(self) -> bool:
        self._lost("")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(f": {exc}" if exc is not None else "")

    def pause_writing(self) -> None:
        # Whoever does not take our answers is not read either, so that no answers pile up.
        self._machine.set_room(False)
        if self._transport is not None and self._end is None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and self._end is None:
            self._transport.resume_reading()
            self._machine.set_room(True)
            self._flush()
            self._wake()

    def _lost(self, reason: str) -> None:
        if not self._engine.established:
            self._over(Status(code=StatusCode.UNAVAILABLE, details=f"closed in the TLS handshake{reason}"))
        else:
            goaway = self._machine.goaway
            words = "the connection was lost" if goaway is None else f"the connection was lost, {goaway}"
            self._over(Status(code=StatusCode.UNAVAILABLE, details=words + reason))

    def _tls_ended(self, end: TlsEndedError, *, was_established: bool) -> None:
        if end.plaintext:
            try:
                self._machine.receive(end.plaintext)
            except PeerError as error:
                self._peer_broke(error)
                return
        self._write(self._engine.outgoing())  # the alert
        if not isinstance(end, TlsFailed):
            self._lost("")
            return
        # In TLS 1.3 a server refuses a client's certificate after the client's handshake is over.
        words = "the connection was refused" if was_established else "does not complete a TLS 1.3 handshake"
        self._over(Status(code=StatusCode.UNAVAILABLE, details=f"{words}: {end}"))

    def _peer_broke(self, error: PeerError) -> None:
        status = Status(code=StatusCode.INTERNAL, details=f"the other side breaks HTTP/2: {error}")
        self._machine.lose(status)
        self._machine.say_goodbye(error.code, error.detail)
        self._flush()
        self._over(status)

    # -- sending ------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Encrypt and write what the machine has put out."""
        if self._end is not None or not self._engine.established:
            self._machine.take()
            return
        try:
            self._engine.send(self._machine.take())
        except TlsEndedError as end:
            self._over(Status(code=StatusCode.UNAVAILABLE, details=f"TLS failed: {end}"))
            return
        self._write(self._engine.outgoing())

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _look(self) -> None:
        """Ask for a sign of life when there was none for a while, and give up when none comes."""
        limits, silent_seconds = self._limits, self._loop.time() - self._heard_at
        delay = limits.keepalive_seconds - silent_seconds
        if delay <= 0.0 and not self._asked:
            self._asked = True
            self._machine.ping()
            self._flush()
        if delay <= 0.0:
            delay += limits.keepalive_timeout_seconds
        if delay <= 0.0:
            self._over(Status(code=StatusCode.UNAVAILABLE, details=f"no sign of life for {silent_seconds:.0f} s"))
        if self._end is None:
            self._keepalive = self._loop.call_later(delay, self._look)
