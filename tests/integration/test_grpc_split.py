"""gRPC calls of one channel spread over three instances behind three sidecars, grpcio at all ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import pytest

from ringfence.routing.model import CircuitBreaker, Route, Timeouts
from ringfence.snapshot import Protocol
from tests.data_path import API, WEB, rule, until
from tests.split_mesh import SplitMesh

ECHO = rule("echo", ports=[8080], methods=["POST"], paths=["/test.Echo/{method}"])


class Instance(grpc.GenericRpcHandler):
    """/test.Echo/{One,Many,Gather,Chat,Slow}, and /test.Admin/One, over plain bytes; remembers what it began."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.began: list[bytes] = []
        self.callers: set[str] = set()
        self.metadata: list[dict[str, str | bytes]] = []
        self.cancelled = 0
        self.gate = asyncio.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        metadata = dict(details.invocation_metadata)
        self.callers.add(str(metadata.get("x-forwarded-client-cert", "")))
        self.metadata.append(metadata)
        kinds = {
            "One": grpc.unary_unary_rpc_method_handler(self.one),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
            "Gather": grpc.stream_unary_rpc_method_handler(self.gather),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Slow": grpc.unary_unary_rpc_method_handler(self.slow),
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
        }
        return kinds.get(details.method.rpartition("/")[2])

    async def one(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.began.append(request)
        await context.send_initial_metadata((("x-instance", str(self.number)),))
        context.set_trailing_metadata((("x-trailer-bin", b"\0\1"),))
        return b"%d:%s" % (self.number, request)

    async def echo(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return request

    async def many(self, request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        for number in range(100):
            yield request + b"%d" % number

    async def gather(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
        return b"".join([piece async for piece in requests])

    async def chat(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        async for piece in requests:
            yield piece.upper()

    async def slow(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answers when the gate opens."""
        self.began.append(request)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return b"%d:%s" % (self.number, request)


@contextlib.asynccontextmanager
async def spread(
    count: int = 3, *, options: tuple[tuple[str, int], ...] = (), protocol: Protocol = Protocol.GRPC
) -> AsyncIterator[tuple[SplitMesh, list[Instance], list[grpc.aio.Server]]]:
    """A mesh with as many instances, and their servers."""
    instances = [Instance(number) for number in range(count)]
    servers, ports = [], []
    for instance in instances:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), *options])
        server.add_generic_rpc_handlers((instance,))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        servers.append(server)
        await server.start()
    try:
        async with SplitMesh(apps=ports, protocol=protocol, rules=(ECHO,)) as mesh:
            yield mesh, instances, servers
    finally:
        for server in servers:
            await server.stop(None)


@contextlib.asynccontextmanager
async def channel(mesh: SplitMesh) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.listen}", options=options) as made:
        yield made


async def feed(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b"piece %d;" % number


@pytest.mark.parametrize("protocol", [Protocol.GRPC, Protocol.AUTO])
async def test_every_kind_of_call_passes_at_every_instance(protocol: Protocol) -> None:
    async with spread(protocol=protocol) as (mesh, instances, _), channel(mesh) as to:
        for number in range(12):
            answer = await to.unary_unary("/test.Echo/One")(b"abc", timeout=10)
            assert answer.endswith(b":abc")
            many = [piece async for piece in to.unary_stream("/test.Echo/Many")(b"x", timeout=10)]
            assert many == [b"x%d" % n for n in range(100)]
            gathered = await to.stream_unary("/test.Echo/Gather")(feed(50), timeout=10)
            assert gathered == b"".join([piece async for piece in feed(50)])
            chat = [piece async for piece in to.stream_stream("/test.Echo/Chat")(feed(20), timeout=10)]
            assert chat == [b"PIECE %d;" % n for n in range(20)]
            metadata = (("x-number", str(number)), ("x-blob-bin", bytes(range(256))))
            call = to.unary_unary("/test.Echo/One")(b"abc", metadata=metadata, timeout=10)
            await call
            assert dict(await call.initial_metadata())["x-instance"] in ("0", "1", "2")
            assert dict(await call.trailing_metadata())["x-trailer-bin"] == b"\0\1"
        seen = [each for instance in instances for each in instance.metadata if "x-number" in each]
        assert sorted(int(each["x-number"]) for each in seen) == list(range(12))
        assert all(each["x-blob-bin"] == bytes(range(256)) for each in seen)
        for instance in instances:
            assert len(instance.callers) == 1
            [caller] = instance.callers
            assert f"URI={WEB}" in caller
            assert f"By={API};" in caller


@pytest.mark.parametrize(
    "protocol, at_once", [(Protocol.GRPC, 16), (Protocol.HTTP2, 1), (Protocol.AUTO, 1), (Protocol.AUTO, 16)]
)
async def test_the_calls_of_one_connection_are_spread_evenly_from_the_first(
    protocol: Protocol, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.balance.member.FLOOR_SECONDS", 60.0)  # of a busy machine, more is noise
    async with spread(protocol=protocol) as (mesh, instances, _), channel(mesh) as to:
        one = to.unary_unary("/test.Echo/One")
        total = 3000
        left = iter(range(total))

        async def worker() -> None:
            for number in left:
                assert (await one(b"%d" % number, timeout=30)).endswith(b":%d" % number)

        await asyncio.gather(*(worker() for _ in range(at_once)))
        began = [len(instance.began) for instance in instances]
        assert sum(began) == total
        assert all(0.85 * total / 3 <= each <= 1.15 * total / 3 for each in began), began
        assert len(mesh.web.outbound.relays) == 1


async def test_an_instance_that_is_killed_costs_only_the_calls_that_it_had_begun() -> None:
    async with spread() as (mesh, instances, _), channel(mesh) as to:
        slow, one = to.unary_unary("/test.Echo/Slow"), to.unary_unary("/test.Echo/One")
        calls = {b"%d" % number: slow(b"%d" % number, timeout=60) for number in range(30)}
        await until(lambda: sum(len(instance.began) for instance in instances) == 30)
        # What the others have in hand is done; so it is they who get what comes, while the killed one is busy.
        instances[0].gate.set()
        instances[2].gate.set()
        busy = set(instances[1].began)
        assert 1 <= len(busy) < 30  # chance, within what two choices leave of it
        running = asyncio.create_task(call_often(one, 600))
        await until(lambda: sum(len(instance.began) for instance in instances) > 130)
        mesh.kill(1)
        answers = await running
        # At most those under way there: begun, or sent to it and to nobody else, which no one can tell from begun.
        assert len(answers.failed) <= 4
        assert answers.failed.isdisjoint([*instances[0].began, *instances[2].began])
        assert sum(answers.by_instance.values()) + len(answers.failed) == 600
        for name, call in calls.items():
            if name in busy:
                assert await call.code() is grpc.StatusCode.UNAVAILABLE
            else:
                assert (await call).endswith(b":" + name)
        assert answers.by_instance[0] + answers.by_instance[2] > 500


class Answers:
    def __init__(self) -> None:
        self.by_instance: Counter[int] = Counter()
        self.failed: set[bytes] = set()


async def call_often(method: grpc.aio.UnaryUnaryMultiCallable, count: int) -> Answers:
    """Calls, four at a time; which instance answered, and what failed."""
    answers = Answers()
    left = iter(range(count))

    async def worker() -> None:
        for number in left:
            name = b"often %d" % number
            try:
                answer = await method(name, timeout=30)
                answers.by_instance[int(answer.split(b":")[0])] += 1
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                answers.failed.add(name)

    await asyncio.gather(*(worker() for _ in range(4)))
    return answers


async def test_an_instance_whose_sidecar_stops_in_order_costs_no_call() -> None:
    async with spread() as (mesh, instances, _), channel(mesh) as to:
        slow, one = to.unary_unary("/test.Echo/Slow"), to.unary_unary("/test.Echo/One")
        held = [slow(b"%d" % number, timeout=60) for number in range(9)]
        await until(lambda: sum(len(instance.began) for instance in instances) == 9)
        running = asyncio.create_task(call_often(one, 900))
        await until(lambda: sum(len(instance.began) for instance in instances) > 100)
        stopping = asyncio.create_task(mesh.api[2].inbound.close(20))
        answers = await running
        assert answers.failed == set()
        assert sum(answers.by_instance.values()) == 900
        for instance in instances:
            instance.gate.set()
        for call in held:
            assert await call
        await stopping


async def test_no_instance_left_is_unavailable_and_one_that_comes_back_is_used() -> None:
    async with spread() as (mesh, _, _), channel(mesh) as to:
        one = to.unary_unary("/test.Echo/One")
        await one(b"abc", timeout=10)
        for number in range(3):
            mesh.kill(number)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one(b"abc", timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "upstream_unreachable" in (caught.value.details() or "")
        assert len(mesh.web.outbound.relays) == 1
        await mesh.revive(2)

        async def back() -> bool:
            with contextlib.suppress(grpc.aio.AioRpcError):
                return (await one(b"abc", timeout=10)).startswith(b"2:")
            return False

        async with asyncio.timeout(20):
            while not await back():  # noqa: ASYNC110 - each look is a call
                await asyncio.sleep(0.05)


async def test_a_refused_call_is_permission_denied_and_costs_no_other() -> None:
    async with spread() as (mesh, _, _), channel(mesh) as to:
        chat = to.stream_stream("/test.Echo/Chat")()
        await chat.write(b"hello")
        assert await asyncio.wait_for(chat.read(), 10) == b"HELLO"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to.unary_unary("/test.Admin/One")(b"abc", timeout=10)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        [line] = [line for side in mesh.api for line in side.log("request denied")]
        assert line["reason"] == "path_not_allowed"
        assert line["request_id"] in (caught.value.details() or "")
        [told] = mesh.web.log("request denied")
        assert told["request_id"] == line["request_id"]
        await chat.write(b"again")
        assert await asyncio.wait_for(chat.read(), 10) == b"AGAIN"
        await chat.done_writing()
        assert await asyncio.wait_for(chat.code(), 10) is grpc.StatusCode.OK


async def test_deadlines_and_cancellation_reach_the_instance() -> None:
    async with spread() as (mesh, instances, _), channel(mesh) as to:
        slow = to.unary_unary("/test.Echo/Slow")
        await to.unary_unary("/test.Echo/One")(b"abc", timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await slow(b"late", timeout=4)  # in which it reaches an instance
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: sum(instance.cancelled for instance in instances) == 1)
        call = slow(b"unwanted", timeout=30)
        await until(lambda: any(b"unwanted" in instance.began for instance in instances))
        call.cancel()
        await until(lambda: sum(instance.cancelled for instance in instances) == 2)
        assert (await to.unary_unary("/test.Echo/One")(b"abc", timeout=10)).endswith(b":abc")


async def test_large_messages_pass_and_a_reader_that_is_slow_harms_no_other() -> None:
    async with spread() as (mesh, _, _), channel(mesh) as to:
        big = bytes(range(256)) * 40_000
        slow_reader = to.stream_stream("/test.Echo/Chat")()

        async def write_all() -> None:
            for _ in range(10):
                await slow_reader.write(b"x" * 1_000_000)

        writing = asyncio.create_task(write_all())
        echo = to.unary_unary("/test.Echo/Echo")
        answers = await asyncio.gather(*(echo(big, timeout=60) for _ in range(3)))
        assert all(answer == big for answer in answers)
        for _ in range(20):
            assert (await to.unary_unary("/test.Echo/One")(b"abc", timeout=10)).endswith(b":abc")
        for _ in range(10):
            assert await asyncio.wait_for(slow_reader.read(), 30) == b"X" * 1_000_000
        await writing
        await slow_reader.done_writing()
        assert await asyncio.wait_for(slow_reader.code(), 10) is grpc.StatusCode.OK


async def test_a_connection_that_ends_leaves_nothing_behind() -> None:
    async with spread() as (mesh, instances, _), channel(mesh) as to:
        calls = [to.unary_unary("/test.Echo/Slow")(b"%d" % n, timeout=30) for n in range(9)]
        await until(lambda: sum(len(instance.began) for instance in instances) == 9)
        assert sum(member.outstanding for member in mesh.members) == 9
        members = mesh.members
        for call in calls[:5]:
            call.cancel()
        await until(lambda: sum(member.outstanding for member in members) == 4)
        await until(lambda: sum(instance.cancelled for instance in instances) == 5)
        mesh.web.outbound.enforce([])
        await until(lambda: len(mesh.web.outbound.relays) == 0)
        await until(lambda: all(len(side.inbound.relays) == 0 for side in mesh.api))
        await until(lambda: all(not link.machine.streams for link in mesh.web.outbound.pool.links))
        await until(lambda: sum(instance.cancelled for instance in instances) == 9)
        assert all(member.outstanding == 0 for member in members)


async def test_an_endpoint_that_is_gone_gets_no_new_calls_and_keeps_those_that_it_has() -> None:
    async with spread() as (mesh, instances, _), channel(mesh) as to:
        slow, one = to.unary_unary("/test.Echo/Slow"), to.unary_unary("/test.Echo/One")
        calls = [slow(b"%d" % n, timeout=60) for n in range(9)]
        await until(lambda: sum(len(instance.began) for instance in instances) == 9)
        gone = max(instances, key=lambda instance: len(instance.began))
        stay = [instance for instance in instances if instance is not gone]
        mesh.lead_to(*(instances.index(instance) for instance in stay))
        before = len(gone.began)
        for _ in range(60):
            await one(b"abc", timeout=10)
        assert len(gone.began) == before
        assert sum(len(instance.began) for instance in stay) == 60 + 9 - before
        for instance in instances:
            instance.gate.set()
        for call in calls:
            assert await call


async def test_a_connection_to_one_instance_moves_when_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.balance.member.FLOOR_SECONDS", 60.0)  # of a busy machine, more is noise
    async with spread() as (mesh, instances, _):
        mesh.lead_to(0)
        async with channel(mesh) as to:
            one = to.unary_unary("/test.Echo/One")
            for _ in range(10):
                await one(b"abc", timeout=10)
            assert len(instances[0].began) == 10
            mesh.lead_to(0, 1, 2)
            for _ in range(100):
                await one(b"abc", timeout=10)
            assert all(len(instance.began) > 10 for instance in instances)


async def test_a_route_bounds_the_calls_of_one_connection_in_number_and_time() -> None:
    async with spread() as (mesh, instances, _), channel(mesh) as to:
        mesh.route = Route(name="api", circuit_breaker=CircuitBreaker(requests=3))
        mesh.lead_to(0, 1, 2)
        slow = to.unary_unary("/test.Echo/Slow")
        held = [slow(b"%d" % number, timeout=60) for number in range(3)]
        await until(lambda: sum(len(instance.began) for instance in instances) == 3)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await slow(b"too many", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "circuit_open" in (caught.value.details() or "")
        held[0].cancel()
        await until(lambda: sum(instance.cancelled for instance in instances) == 1)
        mesh.route = Route(name="api", timeouts=Timeouts(request_seconds=4.0))
        mesh.lead_to(0, 1, 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await slow(b"late", timeout=60)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: sum(instance.cancelled for instance in instances) >= 2)


async def test_a_connection_on_which_nothing_moves_ends_when_its_route_says_so() -> None:
    async with spread() as (mesh, _, _), channel(mesh) as to:
        mesh.route = Route(name="api", timeouts=Timeouts(idle_seconds=60.0))
        mesh.lead_to(0, 1, 2)
        await to.unary_unary("/test.Echo/One")(b"abc", timeout=10)
        relays, now = mesh.web.outbound.relays, asyncio.get_running_loop().time()
        relays.sweep(now)
        relays.sweep(now + 59)
        assert len(relays) == 1
        relays.sweep(now + 61)
        await until(lambda: len(relays) == 0)
        assert (await to.unary_unary("/test.Echo/One")(b"abc", timeout=10)).endswith(b":abc")
