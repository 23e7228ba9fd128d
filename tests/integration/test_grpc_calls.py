"""gRPC through two sidecars, grpcio at both ends: all kinds of streaming, identity, refusals, a live policy change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest

from ringfence.policy.model import Rule
from ringfence.snapshot import Protocol
from tests.data_path import API, WEB, Mesh, rule, until

ECHO = rule("echo", ports=[8080], methods=["POST"], paths=["/test.Echo/{method}"])


class Echo(grpc.GenericRpcHandler):
    """/test.Echo/{One,Many,Gather,Chat}, and /test.Admin/One, over plain bytes; remembers whom it was told."""

    def __init__(self) -> None:
        self.callers: list[str] = []
        self.open_chats = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        metadata = dict(details.invocation_metadata)
        self.callers.append(str(metadata.get("x-forwarded-client-cert", "")))
        kinds = {
            "One": grpc.unary_unary_rpc_method_handler(self.one),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
            "Gather": grpc.stream_unary_rpc_method_handler(self.gather),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
        }
        return kinds.get(details.method.rpartition("/")[2])

    async def one(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return request[::-1]

    async def many(self, request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        for number in range(100):
            yield request + b"%d" % number

    async def gather(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
        return b"".join([piece async for piece in requests])

    async def chat(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        self.open_chats += 1
        try:
            async for piece in requests:
                yield piece.upper()
        finally:
            self.open_chats -= 1


@contextlib.asynccontextmanager
async def grpc_app(handler: Echo) -> AsyncIterator[int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def channel(mesh: Mesh) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.http_listen}") as made:
        yield made


async def feed(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b"piece %d;" % number


@pytest.mark.parametrize("protocol", [Protocol.GRPC, Protocol.AUTO])
async def test_every_kind_of_call_passes_and_tells_the_app_its_caller(protocol: Protocol) -> None:
    echo = Echo()
    async with (
        grpc_app(echo) as app,
        Mesh(http=protocol, http_app=app, rules=(ECHO,)) as mesh,
        channel(mesh) as to,
    ):
        assert await to.unary_unary("/test.Echo/One")(b"abc", timeout=10) == b"cba"
        many = [piece async for piece in to.unary_stream("/test.Echo/Many")(b"x", timeout=10)]
        assert many == [b"x%d" % number for number in range(100)]
        gathered = await to.stream_unary("/test.Echo/Gather")(feed(50), timeout=10)
        assert gathered.count(b";") == 50
        chat = [piece async for piece in to.stream_stream("/test.Echo/Chat")(feed(20), timeout=10)]
        assert chat == [b"PIECE %d;" % number for number in range(20)]
        assert await to.unary_unary("/test.Echo/One")(bytes(3_000_000), timeout=20) == bytes(3_000_000)
        assert len(echo.callers) == 5
        assert all(f"URI={WEB}" in caller and f"By={API};" in caller for caller in echo.callers)


async def test_a_spoofed_identity_is_taken_out() -> None:
    echo = Echo()
    async with (
        grpc_app(echo) as app,
        Mesh(http=Protocol.GRPC, http_app=app, rules=(ECHO,)) as mesh,
        channel(mesh) as to,
    ):
        spoofed = (("x-forwarded-client-cert", "URI=spiffe://shop.example/ns/shop/sa/admin"),)
        await to.unary_unary("/test.Echo/One")(b"abc", metadata=spoofed, timeout=10)
        # The tables of the two ends are apart now: what follows must still mean the same to judge and app.
        for number in range(20):
            await to.unary_unary("/test.Echo/One")(b"abc", metadata=(("x-number", str(number)),), timeout=10)
        assert all("admin" not in caller and f"URI={WEB}" in caller for caller in echo.callers)


@pytest.mark.parametrize("protocol", [Protocol.GRPC, Protocol.AUTO])
async def test_a_refused_call_is_permission_denied_with_an_id_that_both_logs_know(protocol: Protocol) -> None:
    echo = Echo()
    async with (
        grpc_app(echo) as app,
        Mesh(http=protocol, http_app=app, rules=(ECHO,)) as mesh,
        channel(mesh) as to,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to.unary_unary("/test.Admin/One")(b"abc", timeout=10)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        [line] = mesh.api.log("request denied")
        assert line["reason"] == "path_not_allowed"
        assert line["request_id"] in (caught.value.details() or "")
        [told] = mesh.web.log("request denied")
        assert told["request_id"] == line["request_id"]
        assert await to.unary_unary("/test.Echo/One")(b"abc", timeout=10) == b"cba"
        assert len(echo.callers) == 1


@pytest.mark.parametrize("rules", [(ECHO,), (rule("all", ports=[8080]),)], ids=["calls", "anything"])
async def test_what_a_connection_speaks_is_named_by_its_first_call(rules: tuple[Rule, ...]) -> None:
    """The server speaks first, by SETTINGS; that makes it HTTP/2, and no protocol that nobody knows."""
    async with (
        grpc_app(Echo()) as app,
        Mesh(http=Protocol.AUTO, http_app=app, rules=rules) as mesh,
        channel(mesh) as to,
    ):
        assert await to.unary_unary("/test.Echo/One")(b"abc") == b"cba"
        assert [relay.facts.protocol for relay, _ in mesh.api.inbound.relays] == ["grpc"]
        assert [relay.facts.protocol for relay, _ in mesh.web.outbound.relays] == ["grpc"]
        assert mesh.api.metrics.detected.at("inbound", "shop/api", "grpc").value == 1


async def test_an_app_that_does_not_listen_is_unavailable() -> None:
    async with Mesh(http=Protocol.GRPC, rules=(ECHO,)) as mesh, channel(mesh) as to:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to.unary_unary("/test.Echo/One")(b"abc", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_policy_change_ends_exactly_the_streams_that_it_denies() -> None:
    echo = Echo()
    chat_only = rule("chat", ports=[8080], paths=["/test.Echo/Chat"])
    admin = rule("admin", ports=[8080], paths=["/test.Admin/Chat"])
    rules = (chat_only, admin)
    async with grpc_app(echo) as app, Mesh(http=Protocol.GRPC, http_app=app, rules=rules) as mesh, channel(mesh) as to:
        kept = [to.stream_stream("/test.Echo/Chat")() for _ in range(10)]
        denied = [to.stream_stream("/test.Admin/Chat")() for _ in range(10)]
        for call in kept + denied:
            await call.write(b"hello")
            assert await asyncio.wait_for(call.read(), 10) == b"HELLO"
        mesh.enforce(chat_only)
        for call in denied:
            assert await asyncio.wait_for(call.code(), 10) is grpc.StatusCode.PERMISSION_DENIED
        for call in kept:
            await call.write(b"again")
            assert await asyncio.wait_for(call.read(), 10) == b"AGAIN"
        await until(lambda: echo.open_chats == 10)
        for call in kept:
            await call.done_writing()
            assert await asyncio.wait_for(call.code(), 10) is grpc.StatusCode.OK
