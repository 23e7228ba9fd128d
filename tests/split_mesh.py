"""The data path of a calling sidecar and several instances of the called service, each behind its own, in one loop."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.kit.clock import SystemClock
from ringfence.policy.compile import compile_policy
from ringfence.policy.model import Allowlist, PolicySet, Rule
from ringfence.routing.model import Route
from ringfence.snapshot import Endpoint, Port, Protocol, Upstream, Workload
from sidecar.balance import Member
from tests.data_path import API, HTTP_PORT, WEB, Side, free_port, until
from tests.pki import TestCa


class SplitMesh:
    """``web`` calls ``api``, which has an instance for each of ``apps`` (ports); ``listen`` is web's way there."""

    def __init__(self, *, apps: Sequence[int], protocol: Protocol, rules: tuple[Rule, ...]) -> None:
        self.ca = TestCa("shop.example")
        clock = SystemClock()
        self.web = Side(WEB, self.ca, clock)
        self.api = [Side(API, self.ca, clock) for _ in apps]
        self.listen = free_port()
        self.mesh_ports = [free_port() for _ in apps]
        self._apps = list(apps)
        self._protocol = protocol
        self._clock = clock
        self.route: Route | None = None
        self._table = compile_policy(
            PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=rules),)),
            trust_domain=API.trust_domain,
            http_ports=[HTTP_PORT] if protocol.is_http else [],
        )

    def _workload(self, number: int) -> Workload:
        port = Port(
            port=HTTP_PORT,
            protocol=self._protocol,
            address="127.0.0.1",
            app_host="127.0.0.1",
            app_port=self._apps[number],
        )
        return Workload(
            service="api",
            namespace="shop",
            spiffe_id=API,
            mesh_host="127.0.0.1",
            mesh_port=self.mesh_ports[number],
            ports=(port,),
        )

    def upstream(self, *numbers: int) -> Upstream:
        return Upstream(
            service="api",
            namespace="shop",
            port=HTTP_PORT,
            protocol=self._protocol,
            listen_host="127.0.0.1",
            listen_port=self.listen,
            endpoints=tuple(
                Endpoint(mesh_host="127.0.0.1", mesh_port=self.mesh_ports[number], address="127.0.0.1", spiffe_id=API)
                for number in numbers
            ),
            route=self.route,
        )

    def lead_to(self, *numbers: int) -> None:
        """Have the service consist of these instances."""
        self.web.outbound.enforce([self.upstream(*numbers)])

    @property
    def members(self) -> list[Member]:
        return [member for target in self.web.outbound.targets for member in target.balancer]

    def kill(self, number: int) -> None:
        """The instance and its sidecar are gone at once: no word, no order."""
        side = self.api[number]
        assert side.inbound._servers
        for server in side.inbound._servers:
            server.close()
        for link in list(side.inbound.links):
            assert link._transport is not None
            link._transport.abort()

    async def revive(self, number: int) -> None:
        """The sidecar is back, on the same mesh port."""
        side = self.api[number] = Side(API, self.ca, self._clock)
        side.inbound.enforce(self._workload(number), self._table)
        await side.inbound.listen("127.0.0.1", self.mesh_ports[number])

    async def __aenter__(self) -> SplitMesh:
        for number, side in enumerate(self.api):
            side.inbound.enforce(self._workload(number), self._table)
            await side.inbound.listen("127.0.0.1", self.mesh_ports[number])
        upstream = self.upstream(*range(len(self.api)))
        await self.web.outbound.prepare([upstream])
        self.web.outbound.enforce([upstream])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.web.outbound.close(0.0)
        for side in self.api:
            await side.inbound.close(0.0)
        await until(lambda: not self.web.links and not any(side.links for side in self.api))
