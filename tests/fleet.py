"""``web``'s sidecar before several of ``api``'s, each with an app of its own, on real loopback sockets: for tests.

Below the composition root it is the product's. Each endpoint may be stopped, and started again on its port.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from ringfence.kit.clock import SystemClock
from ringfence.policy.compile import compile_policy
from ringfence.policy.model import Allowlist, PolicySet
from ringfence.routing.model import Route
from ringfence.snapshot import Endpoint, Port, Protocol, Upstream, Workload
from sidecar.balance import Member
from sidecar.target import Target
from tests.data_path import API, HTTP_PORT, TCP_PORT, WEB, Side, free_port, rule, serving, until
from tests.pki import TestCa

EVERYTHING = (rule("all"),)


class Replica:
    """One endpoint of ``api``: its sidecar and where its apps listen."""

    def __init__(self, ca: TestCa, http_app: int, tcp_app: int, http: Protocol, *, address: str = "127.0.0.1") -> None:
        """``address``: its own, by which CONNECT names it; it listens on loopback whatever that is."""
        self._ca = ca
        self._address = address
        self._http_app, self._tcp_app, self._http = http_app, tcp_app, http
        self.mesh_port = free_port()
        self.endpoint = Endpoint(mesh_host="127.0.0.1", mesh_port=self.mesh_port, address=address, spiffe_id=API)
        self.side = Side(API, ca, SystemClock())
        self.up = False

    async def start(self) -> None:
        """Take connections, with a fresh sidecar."""
        self.side = Side(API, self._ca, SystemClock())
        workload = Workload(
            service="api",
            namespace="shop",
            spiffe_id=API,
            mesh_host="127.0.0.1",
            mesh_port=self.mesh_port,
            ports=(
                self._port(HTTP_PORT, self._http, self._http_app),
                self._port(TCP_PORT, Protocol.TCP, self._tcp_app),
            ),
        )
        lists = (Allowlist(namespace="shop", name="api", rules=EVERYTHING),)
        table = compile_policy(PolicySet(allowlists=lists), trust_domain=API.trust_domain, http_ports=[HTTP_PORT])
        self.side.inbound.enforce(workload, table)
        await self.side.inbound.listen("127.0.0.1", self.mesh_port)
        self.up = True

    def _port(self, port: int, protocol: Protocol, app: int) -> Port:
        return Port(port=port, protocol=protocol, address=self._address, app_host="127.0.0.1", app_port=app)

    async def stop(self, drain_seconds: float = 0.0) -> None:
        """Close the sidecar, with what drain there is time for."""
        self.up = False
        await self.side.inbound.close(drain_seconds)


class Fleet:
    """``web`` and its upstream ``api`` with as many endpoints as there are apps; ``http_listen`` leads to HTTP."""

    def __init__(
        self,
        http_apps: Sequence[int],
        *,
        route: Route | None = None,
        tcp_apps: Sequence[int] = (),
        http: Protocol = Protocol.HTTP,
    ) -> None:
        self.ca = TestCa("shop.example")
        self.web = Side(WEB, self.ca, SystemClock())
        tcp_apps = tcp_apps or [free_port() for _ in http_apps]
        self.replicas = [
            Replica(self.ca, http_app, tcp_app, http) for http_app, tcp_app in zip(http_apps, tcp_apps, strict=True)
        ]
        self.http_listen, self.tcp_listen = free_port(), free_port()
        self.upstreams = tuple(
            Upstream(
                service="api",
                namespace="shop",
                port=port,
                protocol=protocol,
                listen_host="127.0.0.1",
                listen_port=listen,
                endpoints=tuple(replica.endpoint for replica in self.replicas),
                route=route,
            )
            for port, protocol, listen in (
                (HTTP_PORT, http, self.http_listen),
                (TCP_PORT, Protocol.TCP, self.tcp_listen),
            )
        )

    def enforce(self, *ready: bool, route: Route | None = None) -> None:
        """Tell web which endpoints are ready, or of another route."""
        self.web.outbound.enforce(
            [
                replace(
                    upstream,
                    endpoints=tuple(
                        replace(endpoint, ready=here)
                        for endpoint, here in zip(upstream.endpoints, ready or [True] * 9, strict=False)
                    ),
                    route=route if route is not None else upstream.route,
                )
                for upstream in self.upstreams
            ]
        )

    @property
    def target(self) -> Target:
        """That of the HTTP upstream."""
        return next(target for target in self.web.outbound.targets if target.upstream.port == HTTP_PORT)

    def member(self, number: int) -> Member:
        """What web knows of one endpoint of it."""
        port = self.replicas[number].mesh_port
        return next(member for member in self.target.balancer if member.endpoint.mesh_port == port)

    def counted(self, family: str, *labels: str) -> int:
        """A counter of web's."""
        count = getattr(self.web.metrics, family).table.get(labels)
        return int(count.value) if count is not None else 0

    async def __aenter__(self) -> Fleet:
        for replica in self.replicas:
            await replica.start()
        await self.web.outbound.prepare(self.upstreams)
        self.web.outbound.enforce(self.upstreams)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.web.outbound.close(0.0)
        for target in self.web.outbound.targets:
            circuit = target.balancer.circuit
            assert (circuit.connections, circuit.pending, circuit.requests) == (0, 0, 0)
            assert [(member.outstanding, member.connections) for member in target.balancer] == [
                (0, 0) for _ in target.balancer
            ]
        for replica in self.replicas:
            if replica.up:
                await replica.stop()
        await until(lambda: not self.web.links and not any(replica.side.links for replica in self.replicas))


class NamedApp:
    """An HTTP/1.1 app that answers with its name; ``act`` may do otherwise with a request, and then says so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[bytes] = []
        self.act: Callable[[bytes, asyncio.StreamWriter], Awaitable[bool]] | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
                body = await reader.readexactly(size)
                self.seen.append(head.split(b"\r\n")[0] + (b" " + body if body else b""))
                if self.act is not None and await self.act(head, writer):
                    continue
                await answer(writer, 200, self.name)
        writer.close()


async def answer(writer: asyncio.StreamWriter, status: int, text: str) -> bool:
    """Respond to a request; True, for ``act``."""
    writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())
    await writer.drain()
    return True


async def reset(_: bytes, writer: asyncio.StreamWriter) -> bool:
    """As ``act``: the connection breaks."""
    writer.transport.abort()
    return True


async def silent(_: bytes, __: asyncio.StreamWriter) -> bool:
    """As ``act``: never an answer."""
    return True


async def unwell(_: bytes, writer: asyncio.StreamWriter) -> bool:
    """As ``act``: 503."""
    return await answer(writer, 503, "unwell")


@contextlib.asynccontextmanager
async def named_apps(count: int) -> AsyncIterator[tuple[list[NamedApp], list[int]]]:
    """Apps ``a``, ``b``, ``c`` … and their ports."""
    async with contextlib.AsyncExitStack() as stack:
        apps = [NamedApp(chr(ord("a") + number)) for number in range(count)]
        ports = [await stack.enter_async_context(serving(app.serve)) for app in apps]
        yield apps, ports
