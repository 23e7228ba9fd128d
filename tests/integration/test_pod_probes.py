"""A pod's probes, answered by its sidecar with a real app behind: as the kubelet would have seen it, and no more."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import trustme
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from ringfence.kit.log import Logger
from sidecar.probes.asking import Asker
from sidecar.probes.pages import ProbePages
from sidecar.probes.reading import read_probes
from sidecar.signals import SignalsServer
from tests.issuing_backends import FakeBackend
from tests.sidecar_process import SelfCaller
from tests.waiting import until

Scripted = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class App:
    """Answers each request with the bytes that are set; keeps what it was asked."""

    answers: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    port: int = 0
    hold: asyncio.Event | None = None
    server_names: list[str | None] = field(default_factory=list)

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self.hold is not None:
                await self.hold.wait()
            writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
            await writer.drain()
            writer.close()
        except (asyncio.IncompleteReadError, OSError):
            writer.transport.abort()

    async def stop(self) -> None:
        self.server.close()
        await self.server.wait_closed()


@dataclass
class Pod:
    """The signals listener of a pod with one app."""

    app: App
    log: io.StringIO
    servers: list[SignalsServer] = field(default_factory=list)
    pages: list[ProbePages] = field(default_factory=list)

    async def declare(self, **probes: object) -> None:
        text = json.dumps({f"app/{kind}": declared for kind, declared in probes.items()})
        log = Logger("probes", stream=self.log)
        pages = ProbePages(read_probes(text), Asker("127.0.0.1"), log)
        server = SignalsServer(lambda: b"", lambda: ["an identity"], log=log, more=pages.routes())
        await server.start("127.0.0.1", 0)
        self.servers.append(server)
        self.pages.append(pages)

    async def probed(self, kind: str = "readiness") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.servers[-1].port)
        writer.write(f"GET /app-health/app/{kind} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionResetError:
            return b""
        finally:
            writer.transport.abort()

    async def status(self, kind: str = "readiness") -> int:
        answer = await self.probed(kind)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert body == b""
        return int(head.split()[1]) if head else 0

    def logged(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-secret: s3cret\r\n\r\ns3cret"


@pytest.fixture
async def self_caller(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[SelfCaller]:
    made = SelfCaller(FakeBackend(), tmp_path, free_port)
    await made.backend.start()
    yield made
    await made.stop()


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    app = App([OK])
    await app.start()
    pod = Pod(app, io.StringIO())
    yield pod
    for pages in pod.pages:
        pages.close()
    for server in pod.servers:
        await server.close()
    await app.stop()


WORD = "a-word-that-nobody-guesses"


def get(port: int, **fields: object) -> dict[str, object]:
    return {"http": {"port": port, **fields}, "timeout": 20}


async def test_the_app_is_asked_as_the_kubelet_would_ask_it(pod: Pod) -> None:
    headers = [["X-Custom", "Awesome"], ["x-custom", "twice"]]
    await pod.declare(readiness=get(pod.app.port, path="/healthz?full=1", headers=headers))
    answer = await pod.probed()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"s3cret" not in answer  # nothing of the app's
    assert pod.app.asked == [
        f"GET /healthz?full=1 HTTP/1.1\r\nhost: 127.0.0.1:{pod.app.port}\r\nuser-agent: kube-probe/1.0\r\n"
        "accept: */*\r\nX-Custom: Awesome\r\nx-custom: twice\r\nconnection: close\r\n\r\n"
    ]


async def test_a_pod_may_say_its_own_host_and_agent_or_none(pod: Pod) -> None:
    await pod.declare(
        readiness=get(pod.app.port, headers=[["Host", "shop.example"], ["User-Agent", "me"], ["Accept", ""]])
    )
    assert await pod.status() == 200
    assert pod.app.asked == ["GET / HTTP/1.1\r\nhost: shop.example\r\nuser-agent: me\r\nconnection: close\r\n\r\n"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.0 204 No Content\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\n\r\nup to the end", 200),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
        (b"HTTP/1.1 103 Early Hints\r\nlocation: /x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 399 Odd\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 302 Found\r\nlocation: http://other.example/\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 302 Found\r\nlocation: http://[::1/\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"a" * 100_000, 200),
        (b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n", 503),
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", 503),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 503),
        (b"HTTP/1.1 199 Odd\r\ncontent-length: 0\r\n\r\n", 503),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", 503),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000, 503),
        (b"SSH-2.0-OpenSSH\r\n", 503),
        (b"", 503),
    ],
)
async def test_success_is_what_the_kubelet_takes_for_it(pod: Pod, answer: bytes, status: int) -> None:
    pod.app.answers = [answer]
    await pod.declare(readiness=get(pod.app.port))
    assert await pod.status() == status
    assert len(pod.app.asked) == 1


async def test_a_redirect_within_the_declared_port_is_followed(pod: Pod) -> None:
    pod.app.answers = [
        b"HTTP/1.1 301 Moved\r\nlocation: /login?a=b\r\ncontent-length: 0\r\n\r\n",
        f"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:{pod.app.port}/in\r\ncontent-length: 0\r\n\r\n".encode(),
        b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
    ]
    await pod.declare(readiness=get(pod.app.port, path="/start", headers=[["Host", "shop.example"]]))
    assert await pod.status() == 503
    own = f"127.0.0.1:{pod.app.port}"
    assert [asked.split("\r\n")[:2] for asked in pod.app.asked] == [
        ["GET /start HTTP/1.1", "host: shop.example"],
        ["GET /login?a=b HTTP/1.1", "host: shop.example"],
        ["GET /in HTTP/1.1", f"host: {own}"],
    ]


async def test_redirects_end(pod: Pod) -> None:
    pod.app.answers = [b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n"]
    await pod.declare(readiness=get(pod.app.port))
    assert await pod.status() == 503
    assert len(pod.app.asked) == 10


async def test_https_is_not_verified_and_names_no_server(pod: Pod) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("somebody.else").configure_cert(context)
    names: list[str | None] = []

    def seen(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        names.append(name)

    context.sni_callback = seen  # type: ignore[assignment]
    secure = App([OK])
    await secure.start(context)
    await pod.declare(readiness=get(secure.port, scheme="HTTPS"), liveness=get(pod.app.port, scheme="HTTPS"))
    assert await pod.status() == 200
    assert names == [None]
    assert await pod.status("liveness") == 503  # the other app speaks no TLS
    await secure.stop()


async def test_tcp_is_a_connection_that_somebody_takes(pod: Pod, free_port: Callable[[], int]) -> None:
    await pod.declare(readiness={"tcp": {"port": pod.app.port}}, liveness={"tcp": {"port": free_port()}})
    assert await pod.status() == 200
    assert await pod.status("liveness") == 503


async def test_grpc_health_is_asked_of_the_named_service(pod: Pod) -> None:
    serving: dict[str, int] = {"": 1, "shop.Orders": 2}
    seen: list[tuple[str, str]] = []

    async def check(request: StringValue, context: grpc.aio.ServicerContext) -> Int32Value:
        if request.value not in serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        seen.append((request.value, dict(context.invocation_metadata() or ()).get("user-agent", "")))
        return Int32Value(value=serving[request.value])

    handler = grpc.unary_unary_rpc_method_handler(
        check, request_deserializer=StringValue.FromString, response_serializer=Int32Value.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        await pod.declare(
            readiness={"grpc": {"port": port}},
            liveness={"grpc": {"port": port, "service": "shop.Orders"}},
            startup={"grpc": {"port": port, "service": "shop.Nobody"}},
            prestop={"grpc": {"port": pod.app.port}, "word": WORD},
        )
        assert await pod.status() == 200
        assert await pod.status("liveness") == 503
        assert await pod.status("startup") == 503
        assert await pod.status(f"prestop/{WORD}") == 0  # the app there speaks HTTP/1.1
        assert [service for service, _ in seen] == ["", "shop.Orders"]
    finally:
        await server.stop(None)
    assert await pod.status() == 503


async def test_an_app_that_hangs_fails_at_the_deadline_and_all_askers_share_one_connection(pod: Pod) -> None:
    pod.app.hold = asyncio.Event()
    await pod.declare(readiness={**get(pod.app.port), "timeout": 4})
    assert [await one for one in asyncio.as_completed([pod.status() for _ in range(8)])] == [503] * 8
    assert len(pod.app.asked) == 1
    pod.app.hold.set()
    assert await pod.status() == 200


async def test_whoever_asked_first_may_leave(pod: Pod) -> None:
    pod.app.hold = asyncio.Event()
    await pod.declare(readiness={**get(pod.app.port), "timeout": 30})
    first = asyncio.create_task(pod.status())
    await until(lambda: len(pod.app.asked) == 1)
    second = asyncio.create_task(pod.status())
    await until(lambda: pod.servers[-1].http.connections == 2)
    first.cancel()
    await asyncio.wait([first])
    pod.app.hold.set()
    assert await second == 200


async def test_a_hook_minds_only_whether_there_is_an_answer(pod: Pod, free_port: Callable[[], int]) -> None:
    pod.app.answers = [b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"]
    hooks = {"poststart": get(pod.app.port), "prestop": get(free_port())}
    await pod.declare(**{kind: {**one, "word": WORD} for kind, one in hooks.items()})
    assert await pod.status(f"poststart/{WORD}") == 200
    assert await pod.probed(f"prestop/{WORD}") == b""


async def test_a_hook_is_for_who_knows_its_word(pod: Pod) -> None:
    """Whoever reaches the pod may probe its app, but not have it stop."""
    await pod.declare(prestop={**get(pod.app.port, path="/shutdown"), "word": WORD})
    for target in ("prestop", "prestop/", f"prestop/{WORD[:-1]}", f"prestop/{WORD}x", f"prestop?{WORD}"):
        answer = await pod.probed(target)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert WORD.encode() not in answer
    assert not pod.app.asked
    assert await pod.status(f"prestop/{WORD}") == 200


async def test_only_what_is_declared_is_asked(pod: Pod) -> None:
    await pod.declare(readiness=get(pod.app.port))
    for target in ("liveness", "readiness/", "readiness/../liveness", "%72eadiness"):
        answer = await pod.probed(target)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"app-health" not in answer
    assert not pod.app.asked
    answer = await pod.probed("readiness?path=/admin")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert pod.app.asked[0].startswith("GET / HTTP/1.1\r\n")


async def test_the_log_tells_when_a_probe_begins_and_ceases_to_fail(pod: Pod) -> None:
    no = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"
    pod.app.answers = [no, no, OK]
    await pod.declare(readiness=get(pod.app.port))
    assert [await pod.status() for _ in range(4)] == [503, 503, 200, 200]
    assert [(line["msg"], line["probe"], line.get("detail")) for line in pod.logged()] == [
        ("probe fails", "app/readiness", "status 500"),
        ("probe succeeds again", "app/readiness", None),
    ]


async def test_idle_connections_keep_no_probe_out(pod: Pod) -> None:
    await pod.declare(readiness=get(pod.app.port))
    idle = [await asyncio.open_connection("127.0.0.1", pod.servers[-1].port) for _ in range(70)]
    await until(lambda: pod.servers[-1].http.connections == 65)
    assert await pod.status() == 200
    for _, writer in idle:
        writer.transport.abort()


async def test_probes_are_answered_before_there_is_an_identity_or_a_control_plane(
    self_caller: SelfCaller, pod: Pod
) -> None:
    await self_caller.backend.stop()
    probes = json.dumps({"app/readiness": get(pod.app.port)})
    process = await self_caller.start("--probes", probes, "--pod-address", "127.0.0.1")
    answer = b""
    async with asyncio.timeout(60):
        while not answer:
            answer = await process.page("/app-health/app/readiness")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert (await process.page("/readyz")).startswith(b"HTTP/1.1 503 ")
