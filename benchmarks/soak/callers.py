"""What calls the app of the soak: one task a connection, each of its own kind, until it is told to stop. Adapter.

Every call proves its answer. A refusal counts as one only in the words of its protocol: 403 with a reason, gRPC's
PERMISSION_DENIED, an opaque connection that ends before a byte of the app.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import grpc

from benchmarks.soak import shop, site
from benchmarks.soak.tally import Expected, Seen, Tally

CALL_SECONDS: Final = 20.0
_FORBIDDEN_SHARE: Final = 0.1
_FORBIDDEN_REQUESTS: Final = (("DELETE", "/orders/1"), ("GET", "/admin"), ("GET", "/orders/%2e%2e/admin"))
_CHUNKS: Final = (1, 100, 5_000, 70_000)
_GRPC_CHANNELS: Final = 4


class UnexpectedError(Exception):
    """An answer that is neither the right one nor a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Who calls: tasks of each kind; they sum to the number of connections or streams at work."""

    kept_http: int = 44
    fresh_http: int = 12
    grpc: int = 32
    websockets: int = 8
    kept_opaque: int = 16
    fresh_opaque: int = 4
    greetings: int = 4
    changing_http: int = 4
    changing_opaque: int = 4


class Callers:
    """The tasks; ``stop`` ends them after their call at hand."""

    def __init__(self, doors: dict[int, int], tally: Tally, *, pause_seconds: float) -> None:
        self._doors = doors
        self._tally = tally
        self._pause = pause_seconds
        self._stopping = asyncio.Event()
        self.kept_alive = 0
        """Opaque connections and WebSockets that were open from the beginning to the end."""

    def stop(self) -> None:
        self._stopping.set()

    async def run(self, crowd: Crowd) -> None:
        """Call until ``stop``."""
        grpc_door = f"127.0.0.1:{self._doors[shop.GRPC]}"
        async with contextlib.AsyncExitStack() as stack:
            options = [("grpc.use_local_subchannel_pool", 1)]
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(grpc_door, options=options))
                for _ in range(_GRPC_CHANNELS)
            ]
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            kinds: tuple[tuple[int, Callable[[int], Awaitable[None]]], ...] = (
                (crowd.kept_http, lambda _: self._kept_http()),
                (crowd.fresh_http, lambda _: self._fresh_http()),
                (crowd.grpc, lambda number: self._calls(channels[number % _GRPC_CHANNELS])),
                (crowd.websockets, lambda _: self._websocket()),
                (crowd.kept_opaque, lambda _: self._kept_opaque()),
                (crowd.fresh_opaque, lambda _: self._fresh_opaque()),
                (crowd.greetings, lambda _: self._greeting()),
                (crowd.changing_http, lambda _: self._changing_http()),
                (crowd.changing_opaque, lambda _: self._changing_opaque()),
            )
            for count, call in kinds:
                for number in range(count):
                    tasks.create_task(_awaited(call(number)))

    # -- one call after the other -------------------------------------------------------------------------------------

    async def _again(self) -> bool:
        """Wait a while; False when it is time to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause * random.uniform(0.5, 1.5)):
                await self._stopping.wait()
        return not self._stopping.is_set()

    async def _count(self, kind: str, expected: Expected, call: Awaitable[Seen]) -> Seen:
        began = time.monotonic()
        detail = ""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                seen = await call
        except (OSError, TimeoutError, UnexpectedError, asyncio.IncompleteReadError, aiohttp.ClientError) as error:
            seen, detail = Seen.FAILED, f"{type(error).__name__}: {error}"
        except grpc.aio.AioRpcError as error:
            refused = error.code() is grpc.StatusCode.PERMISSION_DENIED
            seen, detail = (Seen.REFUSED if refused else Seen.FAILED), f"{error.code().name}: {error.details()}"
        self._tally.count(kind, expected, seen, detail, began=began, ended=time.monotonic())
        return seen

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    async def _kept_http(self) -> None:
        connection: Http | None = None
        while await self._again():
            if connection is None or connection.over:
                connection = await Http.open(self._doors[shop.HTTP])
            if random.random() < _FORBIDDEN_SHARE:
                method, target = random.choice(_FORBIDDEN_REQUESTS)
                call = connection.ask(method, target)
                seen = await self._count("HTTP, kept connection", Expected.FORBIDDEN, call)
            else:
                body = random.randbytes(random.choice((0, 0, 0, 300, 200_000)))
                call = connection.ask("POST" if body else "GET", f"/orders/{random.randrange(1000)}", body)
                seen = await self._count("HTTP, kept connection", Expected.PERMITTED, call)
            if seen is Seen.FAILED:
                connection.over = True
        if connection is not None:
            connection.close()

    async def _fresh_http(self) -> None:
        async def call() -> Seen:
            connection = await Http.open(self._doors[shop.HTTP])
            try:
                return await connection.ask("GET", "/orders/1")
            finally:
                connection.close()

        while await self._again():
            await self._count("HTTP, new connection", Expected.PERMITTED, call())

    async def _changing_http(self) -> None:
        connection: Http | None = None
        while await self._again():
            if connection is None or connection.over:
                connection = await Http.open(self._doors[shop.HTTP])
            seen = await self._count("HTTP, changing", Expected.CHANGING, connection.ask("GET", "/changing"))
            if seen is Seen.FAILED:
                connection.over = True
        if connection is not None:
            connection.close()

    async def _websocket(self) -> None:
        url = f"http://127.0.0.1:{self._doors[shop.HTTP]}/ws"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as pair:

            async def call() -> Seen:
                word = f"{random.random()}" * random.choice((1, 1000))
                await pair.send_str(word)
                return _right(await pair.receive_str() == word[::-1])

            if await self._until_failure("WebSocket", call):
                self.kept_alive += 1

    async def _until_failure(self, kind: str, call: Callable[[], Awaitable[Seen]]) -> bool:
        """Call by a connection that must live; True when it lived to the end."""
        while await self._again():
            if await self._count(kind, Expected.PERMITTED, call()) is Seen.FAILED:
                return False
        return True

    # -- gRPC ---------------------------------------------------------------------------------------------------------

    async def _calls(self, channel: Any) -> None:  # typed, it wants serializers, and these are bytes
        async def words(message: bytes) -> AsyncIterator[bytes]:
            for _number in range(5):
                yield message

        async def one() -> Seen:
            return _right(await channel.unary_unary("/soak.Echo/One")(b"abc") == b"cba")

        async def many() -> Seen:
            message = random.randbytes(3000)
            return _right([part async for part in channel.unary_stream("/soak.Echo/Many")(message)] == [message] * 10)

        async def chat() -> Seen:
            message = random.randbytes(3000)
            answers = channel.stream_stream("/soak.Echo/Chat")(words(message))
            return _right([part async for part in answers] == [message] * 5)

        async def forbidden() -> Seen:
            await channel.unary_unary("/soak.Admin/One")(b"abc")
            return Seen.SERVED

        while await self._again():
            if random.random() < _FORBIDDEN_SHARE:
                await self._count("gRPC", Expected.FORBIDDEN, forbidden())
            else:
                await self._count("gRPC", Expected.PERMITTED, random.choice((one, one, many, chat))())

    # -- opaque -------------------------------------------------------------------------------------------------------

    async def _kept_opaque(self) -> None:
        connection = await Opaque.open(self._doors[shop.ECHO])
        if await self._until_failure("opaque, kept connection", connection.echo):
            self.kept_alive += 1
        connection.close()

    async def _fresh_opaque(self) -> None:
        while await self._again():
            port = shop.ECHO_FORBIDDEN if random.random() < 0.5 else shop.ECHO
            expected = Expected.FORBIDDEN if port == shop.ECHO_FORBIDDEN else Expected.PERMITTED
            await self._count("opaque, new connection", expected, self._echo_once(port))

    async def _echo_once(self, port: int) -> Seen:
        connection = await Opaque.open(self._doors[port])
        try:
            return await connection.echo(refusable=port != shop.ECHO)
        finally:
            connection.close()

    async def _changing_opaque(self) -> None:
        """Kept while it is permitted; a change must end it, and nothing else."""
        connection: Opaque | None = None
        while await self._again():
            connection = connection or await Opaque.open(self._doors[shop.ECHO_CHANGING])
            call = connection.echo(refusable=True)
            if await self._count("opaque, changing", Expected.CHANGING, call) is not Seen.SERVED:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    async def _greeting(self) -> None:
        async def call() -> Seen:
            connection = await Opaque.open(self._doors[shop.GREETING])
            try:
                return _right(await connection.reader.readline() == site.GREETING)
            finally:
                connection.close()

        while await self._again():
            await self._count("server speaks first", Expected.PERMITTED, call())


class Http:
    """One HTTP/1.1 connection; ``over`` when no more can be asked by it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.over = False

    @classmethod
    async def open(cls, port: int) -> Http:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, method: str, target: str, body: bytes = b"") -> Seen:
        head = f"{method} {target} HTTP/1.1\r\nhost: api\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(answered[9:12])
        _, _, rest = answered.partition(b"content-length:")
        content = await self._reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
        self.over = b"connection: close" in answered
        if self.over:
            self.close()
        if status == 403 and b'"reason"' in content:
            return Seen.REFUSED
        if status != 200 or content.decode() != f"{method} {target} {len(body)}":
            raise UnexpectedError(f"{status} {content[:200]!r}")
        return Seen.SERVED

    def close(self) -> None:
        self._writer.close()


class Opaque:
    """One connection to an opaque port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Opaque:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def echo(self, *, refusable: bool = False) -> Seen:
        """``refusable``: that the connection ends without a byte is a refusal, and in the middle a cut; else it is a
        failure."""
        sent = random.randbytes(random.choice(_CHUNKS))
        try:
            self._writer.write(sent)
            return _right(await self.reader.readexactly(len(sent)) == sent)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if not refusable:
                raise
            return Seen.CUT if getattr(error, "partial", b"") else Seen.REFUSED

    def close(self) -> None:
        self._writer.close()


def _right(answer: bool) -> Seen:
    if not answer:
        raise UnexpectedError("not the right answer")
    return Seen.SERVED


async def _awaited(call: Awaitable[None]) -> None:
    await call
