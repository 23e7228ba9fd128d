"""The data path of two sidecars in one event loop, on real loopback sockets, without control plane: for tests.

``web`` calls ``orders`` (HTTP on service port 8080) and ``ledger`` (opaque TCP on 9000); both apps stand behind one
inbound. Everything below the composition root is the product's.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from ringfence.kit.clock import Clock, SystemClock
from ringfence.kit.log import Logger
from ringfence.policy.compile import compile_policy
from ringfence.policy.model import Allowlist, PolicySet, Rule, SpiffeIdPattern, UnauthenticatedCallers
from ringfence.snapshot import EgressRule, Endpoint, Port, PortMode, Protocol, Upstream, Workload
from ringfence.spiffe import ChainVerifier, SpiffeId, X509Svid
from sidecar.inbound import Inbound
from sidecar.metrics import SidecarMetrics
from sidecar.outbound import Outbound
from sidecar.recording import Recorder
from sidecar.tls import TlsIdentity
from sidecar.tokens import NO_TOKENS, TokenReader
from sidecar.tracing import EndedSpan, Tracer
from sidecar.tunnel.link import Link
from sidecar.tunnel.link_context import LinkContext
from tests.pki import TestCa
from tests.ports import free_port as free_port
from tests.redirected import Kernel

WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
API = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/api")
HTTP_PORT, TCP_PORT = 8080, 9000
API_ADDRESSES = ("10.96.0.1", "fd96::1")  # where web's app believes api to be, when its connections are redirected


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def rule(name: str, caller: SpiffeId = WEB, **parts: Any) -> Rule:
    pattern = SpiffeIdPattern(trust_domain=caller.trust_domain, segments=caller.segments)
    return Rule(name=name, callers=(pattern,), **{key: tuple(value) for key, value in parts.items()})


def plaintext_rule(name: str, **parts: Any) -> Rule:
    """A rule for callers without identity."""
    return Rule(name=name, callers=(UnauthenticatedCallers(),), **{key: tuple(value) for key, value in parts.items()})


OPEN = (
    rule("orders", ports=[HTTP_PORT], methods=["GET", "POST"], paths=["/orders/{id}"]),
    rule("ledger", ports=[TCP_PORT]),
)


class Side:
    """One sidecar's data path: identity, inbound, outbound, what it logged and counted."""

    def __init__(
        self,
        own_id: SpiffeId,
        ca: TestCa,
        clock: Clock,
        *,
        svid: X509Svid | None = None,
        every: bool = False,
        traced: float | None = None,
    ) -> None:
        self.id = own_id
        self.ca = ca
        self.clock = clock
        self.lines = io.StringIO()
        self.metrics = SidecarMetrics()
        log = Logger("sidecar", level="debug", stream=self.lines, clock=clock)
        self.spans: list[EndedSpan] = []
        self.recorder = Recorder(
            log=log,
            metrics=self.metrics,
            clock=clock,
            every_request=every,
            tracer=Tracer(sample=traced, sink=self, clock=clock) if traced is not None else None,
        )
        svid = svid or ca.svid(own_id)
        self.tls = TlsIdentity(svid, [ca.bundle()], clock)
        self.proofs: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.context = LinkContext(
            clock=clock,
            log=log,
            svid=svid,
            verifier=ChainVerifier([ca.bundle()]),
            count_failure=lambda direction, reason: self.failures.append((direction, reason)),
            count_broken=self._count_broken,
            count_proof=self.proofs.append,
            time_handshake=lambda direction, seconds: self.metrics.handshakes.at(direction).observe(seconds),
        )
        parts: dict[str, Any] = {
            "context": self.context,
            "identity": lambda: self.tls,
            "recorder": self.recorder,
            "own_id": own_id,
        }
        self.inbound = Inbound(**parts)
        self.outbound = Outbound(**parts)

    def offer(self, span: EndedSpan) -> None:
        """The sink of this side's spans."""
        self.spans.append(span)

    def _count_broken(self, direction: str, reason: str) -> None:
        self.metrics.tunnel_errors.at(direction, reason).value += 1

    def log(self, msg: str) -> list[dict[str, Any]]:
        """The lines logged with this message."""
        lines = [json.loads(line) for line in self.lines.getvalue().splitlines()]
        return [line for line in lines if line["msg"] == msg]

    def renew(self, svid: X509Svid) -> None:
        """As the composition root does it."""
        self.tls = TlsIdentity(svid, [self.ca.bundle()], self.clock)
        self.context.svid = svid
        self.outbound.pool.renew()
        for link in self.inbound.links:
            link.renew()

    @property
    def links(self) -> frozenset[Link]:
        return self.inbound.links | self.outbound.pool.links


class Mesh:
    """``web``'s sidecar, ``api``'s sidecar, and the local ports by which web's app reaches api's two apps.

    ``intercept``: both sidecars also take what ``kernel`` pretends to have redirected, web the connections of its app
    (``dial``), api those to its workload (``arrive``).
    """

    def __init__(
        self,
        *,
        rules: tuple[Rule, ...] = OPEN,
        http_app: int | None = None,
        tcp_app: int | None = None,
        clock: Clock | None = None,
        every: bool = False,
        traced: float | None = None,
        web_svid: X509Svid | None = None,
        api_svid: X509Svid | None = None,
        ca: TestCa | None = None,
        intercept: bool = False,
        mode: PortMode = PortMode.STRICT,
        proxy_protocol: bool = False,
        egress: tuple[EgressRule, ...] = (),
        http: Protocol = Protocol.HTTP,
        tcp: Protocol = Protocol.TCP,
    ) -> None:
        self.kernel = Kernel() if intercept else None
        self.egress = egress
        self.redirected = {"outbound": free_port(), "inbound": free_port()}
        self.ca = ca or TestCa("shop.example")
        clock = clock or SystemClock()
        self.web = Side(WEB, self.ca, clock, svid=web_svid, every=every, traced=traced)
        self.api = Side(API, self.ca, clock, svid=api_svid, every=every, traced=traced)
        self.mesh_port = free_port()
        self.http_listen, self.tcp_listen = free_port(), free_port()
        self.workload = Workload(
            service="api",
            namespace="shop",
            spiffe_id=API,
            mesh_host="127.0.0.1",
            mesh_port=self.mesh_port,
            ports=(
                self._port(HTTP_PORT, http, http_app or free_port(), mode),
                self._port(TCP_PORT, tcp, tcp_app or free_port(), mode, proxy_protocol),
            ),
        )
        self.rules = rules
        end = Endpoint(mesh_host="127.0.0.1", mesh_port=self.mesh_port, address="127.0.0.1", spiffe_id=API)
        self.upstreams = tuple(
            Upstream(
                service="api",
                namespace="shop",
                port=port,
                protocol=protocol,
                listen_host="127.0.0.1",
                listen_port=listen,
                endpoints=(end,),
                addresses=API_ADDRESSES if intercept else (),
            )
            for port, protocol, listen in (
                (HTTP_PORT, http, self.http_listen),
                (TCP_PORT, tcp, self.tcp_listen),
            )
        )

    @staticmethod
    def _port(port: int, protocol: Protocol, app: int, mode: PortMode, proxy_protocol: bool = False) -> Port:
        return Port(
            port=port,
            protocol=protocol,
            address="127.0.0.1",
            app_host="127.0.0.1",
            app_port=app,
            mode=mode,
            proxy_protocol=proxy_protocol,
        )

    def enforce(self, *rules: Rule) -> None:
        """Put a policy of these rules in force at api."""
        lists = (Allowlist(namespace="shop", name="api", rules=rules),) if rules else ()
        self.put(PolicySet(allowlists=lists))

    def put(self, policy: PolicySet, shadow: PolicySet | None = None, tokens: TokenReader = NO_TOKENS) -> None:
        """Put this policy in force at api, and have another judged beside it; ``tokens`` reads those of requests."""
        http_ports = [port.port for port in self.workload.ports if port.protocol.is_http]
        maybe = [port.port for port in self.workload.ports if port.protocol is Protocol.AUTO]
        tables = [
            compile_policy(
                one,
                trust_domain=API.trust_domain,
                http_ports=http_ports,
                maybe_http_ports=maybe,
                service="shop/api",
                condition_failed=self.api.recorder.remarks.condition_failed,
            )
            for one in (policy, shadow)
            if one is not None
        ]
        beside = tables[1] if shadow is not None else None
        self.api.inbound.enforce(self.workload, tables[0], shadow=beside, tokens=tokens)

    def set_mode(self, mode: PortMode) -> None:
        """Both ports of api have this mode from the next ``enforce`` on."""
        self.workload = replace(self.workload, ports=tuple(replace(port, mode=mode) for port in self.workload.ports))

    async def dial(self, destination: tuple[str, int] | None) -> Connection:
        """A connection of web's app to ``destination``, redirected; None: somebody dials the port itself."""
        assert self.kernel is not None
        return await self.kernel.dial(self.redirected["outbound"], destination)

    async def arrive(self, port: int | None) -> Connection:
        """A connection of somebody without a sidecar to this port of api, redirected; None: to the port itself."""
        assert self.kernel is not None
        return await self.kernel.dial(self.redirected["inbound"], ("127.0.0.1", port) if port is not None else None)

    def lead_to(self, mesh_port: int) -> None:
        """Have web's upstreams end at another mesh port of this host."""
        end = replace(self.upstreams[0].endpoints[0], mesh_port=mesh_port)
        self.web.outbound.enforce([replace(upstream, endpoints=(end,)) for upstream in self.upstreams])

    async def __aenter__(self) -> Mesh:
        self.enforce(*self.rules)
        await self.api.inbound.listen("127.0.0.1", self.mesh_port)
        await self.web.outbound.prepare(self.upstreams)
        if self.kernel is not None:
            await self.api.inbound.direct.intercept(self.redirected["inbound"], self.kernel.destination_of)
            await self.web.outbound.intercept(self.redirected["outbound"], self.kernel.destination_of)
        self.web.outbound.enforce(self.upstreams, self.egress)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.web.outbound.close(0.0)
        await self.api.inbound.close(0.0)
        await until(lambda: not self.web.links and not self.api.links)


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a predicate; TimeoutError when it does not come true in time."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - any state of any object, which has no event to wait for
            await asyncio.sleep(0.005)


class Reply:
    """An HTTP/1.1 response as a client sees it."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


class HttpClient:
    """A small keep-alive HTTP/1.1 client over asyncio streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: int) -> HttpClient:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, method: str, target: str, body: bytes = b"", headers: str = "") -> Reply:
        length = f"content-length: {len(body)}\r\n" if body else ""
        self.writer.write(f"{method} {target} HTTP/1.1\r\nhost: api\r\n{headers}{length}\r\n".encode() + body)
        return await self.reply()

    async def reply(self) -> Reply:
        async with asyncio.timeout(60):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Reply(int(head[0].split()[1]), headers, body)

    def close(self) -> None:
        self.writer.close()


@contextlib.asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], port: int = 0
) -> AsyncIterator[int]:
    """A server on ``port``, or on a free one; when it stops, so do the connections it took."""
    living: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        living.add(task)
        try:
            await serve(reader, writer)
        except asyncio.CancelledError:
            writer.close()
        finally:
            living.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(living):
            task.cancel()
        while living:  # noqa: ASYNC110 - a handful of turns
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def http_app(seen: list[bytes] | None = None, port: int = 0) -> AsyncIterator[int]:
    """An app that answers every request with its own head, and bodies with their length; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if seen is not None:
                    seen.append(head)
                size = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
                await reader.readexactly(size)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(head) + head)
                await writer.drain()
        writer.close()

    async with serving(serve, port) as at:
        yield at


@contextlib.asynccontextmanager
async def echo_app(greeting: bytes = b"", port: int = 0) -> AsyncIterator[int]:
    """An opaque app: greets, echoes, and ends its side when the client ends its own; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(greeting)
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write(b"" if not greeting else b"bye")
            await writer.drain()
        writer.close()

    async with serving(serve, port) as at:
        yield at
