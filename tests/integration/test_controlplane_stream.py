"""The Control stream over real gRPC and TLS: who may subscribe, what is told, what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.control.caller import CallerCheck
from controlplane.control.server_identity import ServerIdentity
from controlplane.control.servers import AddressTakenError, ServerLimits, listen, make_server
from controlplane.control.service import ControlService, StreamLimits
from controlplane.flows.keeping import FlowKeeper
from controlplane.flows.query import FlowQuery
from controlplane.flows.store import FlowStore
from controlplane.metrics import ControlPlaneMetrics
from controlplane.push.distributor import Distributor
from controlplane.push.readiness import LOST_SECONDS, ReadinessBoard
from controlplane.push.revisions import Ledger, advance
from controlplane.push.sessions import Session, Standing
from controlplane.push.snapshots import build_snapshots
from controlplane.push.workload_key import WorkloadKey
from ringfence.kit.addresses import SocketAddress
from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.policy.bound import BoundPolicy
from ringfence.policy.model import Allowlist, NamespaceCallers, PolicySet, Rule
from ringfence.spiffe import SpiffeId, X509Svid, control_plane_dns_name, control_plane_id
from ringfence.wire.gen import control_pb2 as pb
from ringfence.wire.gen import control_pb2_grpc
from tests.pki import TestCa
from tests.unit.test_controlplane_snapshots import mesh

TD = "shop.example"
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
ORDERS = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")
_WAIT_SECONDS = 20.0
LIMITS = StreamLimits(hello_seconds=3.0, write_seconds=2.0, clock_check_seconds=0.05)


class ShiftedClock(SystemClock):
    """The machine's clock, moved on by hand."""

    __slots__ = ("shift",)

    def __init__(self) -> None:
        self.shift = 0.0

    def now(self) -> float:
        return super().now() + self.shift

    def monotonic(self) -> float:
        return super().monotonic() + self.shift


class Plane:
    """A mutual-TLS server with the Control service, and clients of it."""

    def __init__(self, limits: StreamLimits = LIMITS) -> None:
        self.ca = TestCa(TD)
        self.clock = ShiftedClock()
        self.metrics = ControlPlaneMetrics(dict)
        self.distributor = Distributor(clock=self.clock, limit=50, identity_limit=3)
        self.readiness = ReadinessBoard()
        self.log = io.StringIO()
        self.identity = ServerIdentity(
            issue=self._issue,
            bundle=self.ca.bundle(),
            metrics=self.metrics,
            log=Logger("identity", stream=self.log),
            clock=self.clock,
            random=lambda: 0.5,
        )
        self.limits = limits
        self.address = SocketAddress("127.0.0.1", 0)
        self.issued: list[X509Svid] = []
        self.flows: FlowKeeper | None = None
        self._mesh = mesh("web", "orders")
        self._ledger = Ledger()

    async def _issue(self) -> X509Svid:
        names = [control_plane_dns_name(self.ca.trust_domain)]
        self.issued.append(self.ca.svid(control_plane_id(self.ca.trust_domain), dns=names))
        return self.issued[-1]

    async def start(self, limits: ServerLimits | None = None) -> grpc.aio.Server:
        await self.identity.renew()
        server = make_server(limits or ServerLimits())
        service = ControlService(
            callers=CallerCheck(self.ca.bundle(), self.clock),
            distributor=self.distributor,
            readiness=self.readiness,
            metrics=self.metrics,
            log=Logger("control", level="debug", stream=self.log),
            clock=self.clock,
            limits=self.limits,
            flows=self.flows,
        )
        control_pb2_grpc.add_ControlServicer_to_server(service, server)  # type: ignore[no-untyped-call]
        self.address = await listen(server, self.address, self.identity.credentials(mutual=True))
        return server

    def publish(self, **rules: Iterable[str]) -> int:
        """Put in force allowlists for services, each with rules of these names."""
        allowlists = [
            Allowlist(
                namespace="shop",
                name=service,
                rules=tuple(Rule(name=name, callers=(NamespaceCallers(namespace="shop"),)) for name in names),
            )
            for service, names in rules.items()
        ]
        policies = {one.full_name: BoundPolicy(policy=PolicySet(allowlists=(one,))) for one in allowlists}
        contents = build_snapshots(self._mesh, policies, [self.ca.bundle()], 1)
        self._ledger, catalog = advance(self._ledger, contents)
        self.readiness.keep(catalog.snapshots)
        self.distributor.publish(catalog)
        return catalog.revision

    def split(self, name: str, *instances: str) -> None:
        """Give a service instances of these names."""
        services = tuple(
            replace(
                one,
                instances=tuple(
                    replace(one.instances[0], name=instance, mesh_port=16_000 + number)
                    for number, instance in enumerate(instances)
                ),
            )
            if one.name == name
            else one
            for one in self._mesh.services
        )
        self._mesh = replace(self._mesh, services=services)
        self.publish()

    def remove(self, name: str) -> None:
        """Take a service out of the mesh."""
        left = tuple(replace(one, upstreams=()) for one in self._mesh.services if one.name != name)
        self._mesh = replace(self._mesh, services=left)
        self.publish()

    @contextlib.asynccontextmanager
    async def sidecar(self, svid: X509Svid | None) -> AsyncIterator[Sidecar]:
        credentials = grpc.ssl_channel_credentials(
            self.ca.bundle().to_pem(),
            *((svid.private_key_pem(), svid.chain_pem()) if svid is not None else (None, None)),
        )
        options = [
            ("grpc.ssl_target_name_override", control_plane_dns_name(self.ca.trust_domain)),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        async with grpc.aio.secure_channel(str(self.address), credentials, options=options) as channel:
            yield Sidecar(channel)

    def session(self, spiffe_id: SpiffeId) -> Session:
        found = self.distributor.sessions()[WorkloadKey(spiffe_id)]
        assert len(found) == 1
        return found[0]

    def standing(self, spiffe_id: SpiffeId) -> Standing:
        return self.session(spiffe_id).standing(self.clock.monotonic(), 10.0)

    def ended(self, reason: str) -> float:
        name = "ringfence_controlplane_streams_ended_total"
        return self.metrics.registry.get_sample_value(name, {"reason": reason}) or 0.0


class Sidecar:
    """A client that speaks the protocol one message at a time."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call: Any = control_pb2_grpc.ControlStub(channel).Subscribe()  # type: ignore[call-arg]

    async def send(self, **report: Any) -> None:
        await self.call.write(pb.SidecarReport(**report))

    async def hello(self, process: str = "a", held_revision: int = 0, instance: str = "", **more: Any) -> None:
        hello = pb.Hello(version="0.1.0", process=process, held_revision=held_revision, instance=instance, **more)
        await self.send(hello=hello)

    async def snapshot(self) -> pb.Snapshot:
        async with asyncio.timeout(_WAIT_SECONDS):
            message = await self.call.read()
        assert isinstance(message, pb.Snapshot), await self.ending()
        return message

    async def ack(self, revision: int, *, accepted: bool = True, enforced: int | None = None, error: str = "") -> None:
        await self.send(
            ack=pb.Acknowledgement(
                revision=revision,
                accepted=accepted,
                enforced_revision=revision if enforced is None else enforced,
                error=error,
            )
        )

    async def ending(self) -> grpc.StatusCode:
        async with asyncio.timeout(_WAIT_SECONDS):
            code: grpc.StatusCode = await self.call.code()
            return code


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 what is waited for is elsewhere, and tells nobody
            await asyncio.sleep(0.005)


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    made = Plane()
    made.publish()
    server = await made.start()
    try:
        yield made
    finally:
        made.distributor.drain()
        await server.stop(None)


async def test_subscriber_gets_its_snapshot_and_its_answer_is_recorded(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
        await sidecar.hello()
        snapshot = await sidecar.snapshot()
        assert (snapshot.revision, snapshot.workload.spiffe_id) == (1, str(WEB))
        assert plane.standing(WEB) is Standing.PENDING
        await sidecar.ack(1)
        await until(lambda: plane.standing(WEB) is Standing.CURRENT)
        assert plane.session(WEB).enforced_revision == 1
    await until(lambda: plane.standing(WEB) is Standing.DISCONNECTED)


async def test_change_reaches_those_whom_it_concerns_and_no_others(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as web, plane.sidecar(plane.ca.svid(ORDERS)) as orders:
        for sidecar in (web, orders):
            await sidecar.hello()
            await sidecar.ack((await sidecar.snapshot()).revision)
        assert plane.publish(orders=["a"]) == 2
        told = await orders.snapshot()
        assert (told.revision, [rule.name for rule in told.allowlists[0].rules]) == (2, ["a"])
        await orders.ack(2)
        await until(lambda: plane.standing(ORDERS) is Standing.CURRENT)
        assert plane.publish(web=["b"], orders=["a"]) == 3
        # Had web been sent revision 2 as well, that would be the next that it reads.
        assert (await web.snapshot()).revision == 3
        assert plane.standing(ORDERS) is Standing.CURRENT


async def test_refusal_of_a_sidecar_is_recorded_with_its_reason(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
        await sidecar.hello(held_revision=0)
        await sidecar.snapshot()
        await sidecar.ack(1, accepted=False, enforced=0, error="port 9101 is taken")
        await until(lambda: plane.standing(WEB) is Standing.REFUSED)
        assert (plane.session(WEB).error, plane.session(WEB).enforced_revision) == ("port 9101 is taken", 0)


async def test_flows_are_asked_of_whom_reports_them_and_are_of_the_service_that_proved_itself(tmp_path: Path) -> None:
    plane = Plane()
    store = FlowStore(tmp_path / "flows.sqlite")
    plane.flows = FlowKeeper(store, metrics=plane.metrics, clock=plane.clock, log=Logger("flows", stream=plane.log))
    keeping = asyncio.create_task(plane.flows.run())
    plane.publish()
    server = await plane.start()
    try:
        async with plane.sidecar(plane.ca.svid(WEB)) as older:
            await older.hello()
            assert not (await older.snapshot()).takes_flows
        async with plane.sidecar(plane.ca.svid(ORDERS)) as sidecar:
            await sidecar.hello(reports_flows=True)
            snapshot = await sidecar.snapshot()
            assert snapshot.takes_flows
            now = plane.clock.now()
            flow = pb.Flow(
                caller=str(WEB), port=8080, protocol="http", method="GET", path="/orders",
                verdict="would_deny", reason="caller_not_allowed", count=3, first_seen=now - 5, last_seen=now,
            )  # fmt: skip
            # Nonsense among it is counted, and costs neither the rest nor the stream.
            nonsense = pb.Flow(caller="web", count=2)
            await sidecar.send(flows=pb.FlowReport(flows=[flow, nonsense], unrecorded=1))
            await until(lambda: bool(store.ask(FlowQuery()).flows))
            await sidecar.ack(snapshot.revision)
            await until(lambda: plane.standing(ORDERS) is Standing.CURRENT)
        answer = store.ask(FlowQuery())
        assert [(one.service, one.count) for one in answer.flows] == [("shop/orders", 3)]
        assert answer.unrecorded == {"shop/orders": 3}
    finally:
        await server.stop(None)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        store.close()


async def test_identity_report_replaces_what_the_certificate_said(plane: Plane) -> None:
    svid = plane.ca.svid(WEB)
    async with plane.sidecar(svid) as sidecar:
        await sidecar.hello()
        await sidecar.snapshot()
        assert plane.session(WEB).svid_serial == svid.serial
        await sidecar.send(identity=pb.IdentityReport(not_before=10, not_after=4_000_000_000, serial="0abc"))
        await until(lambda: plane.session(WEB).svid_serial == "0abc")
        assert plane.session(WEB).svid_not_after == 4_000_000_000.0


async def test_stream_ends_with_the_certificate_that_opened_it(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
        await sidecar.hello()
        await sidecar.ack((await sidecar.snapshot()).revision)
        # Whatever a sidecar says of a newer one.
        await sidecar.send(identity=pb.IdentityReport(not_before=10, not_after=4_000_000_000, serial="0abc"))
        await until(lambda: plane.session(WEB).svid_serial == "0abc")
        plane.clock.shift = 3_590.0
        plane.publish(web=["a"])
        assert (await sidecar.snapshot()).revision == 2
        plane.clock.shift = 3_601.0
        assert await sidecar.ending() is grpc.StatusCode.UNAUTHENTICATED
    assert plane.ended("svid_expired") == 1


ROGUES: dict[str, Callable[[TestCa], X509Svid]] = {
    "two SPIFFE IDs": lambda ca: ca.svid(WEB, uris=[str(WEB), str(ORDERS)]),
    "no SPIFFE ID": lambda ca: ca.svid(WEB, uris=[], dns=["web"]),
    "an authority for a leaf": lambda ca: ca.svid(WEB, ca=True, usage=None),
    "not for signing": lambda ca: ca.svid(WEB, usage=None),
    "the trust domain itself": lambda ca: ca.svid("spiffe://shop.example"),
}


@pytest.mark.parametrize("rogue", ROGUES)
async def test_certificate_that_is_no_svid_is_told_nothing(plane: Plane, rogue: str) -> None:
    async with plane.sidecar(ROGUES[rogue](plane.ca)) as sidecar:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await sidecar.hello()
        assert await sidecar.ending() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)
    assert plane.distributor.sessions()[WorkloadKey(WEB)] == []


async def test_reason_of_a_refused_certificate_stays_on_this_side(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB, uris=[str(WEB), str(ORDERS)])) as sidecar:
        assert await sidecar.ending() is grpc.StatusCode.UNAUTHENTICATED
        assert await sidecar.call.details() == "the certificate is not accepted"
    line = next(json.loads(line) for line in plane.log.getvalue().splitlines() if "caller refused" in line)
    assert line["reason"] == "spiffe_id_count"


async def _is_unavailable(plane: Plane, svid: X509Svid | None) -> bool:
    async with plane.sidecar(svid) as sidecar:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await sidecar.hello()
        return await sidecar.ending() is grpc.StatusCode.UNAVAILABLE


async def test_caller_without_a_certificate_of_this_authority_gets_no_connection(plane: Plane) -> None:
    assert await _is_unavailable(plane, None)
    assert await _is_unavailable(plane, TestCa(TD).svid(WEB))
    assert await _is_unavailable(plane, plane.ca.svid(WEB, not_before=-7200, lifetime=-3600))
    assert await _is_unavailable(plane, plane.ca.svid("spiffe://partner.example/ns/shop/sa/web"))


async def test_identity_of_no_workload_is_refused_with_the_mend(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid("spiffe://shop.example/ns/shop/sa/stranger")) as sidecar:
        await sidecar.hello()
        assert await sidecar.ending() is grpc.StatusCode.PERMISSION_DENIED
        assert "add it to mesh.yaml" in await sidecar.call.details()


async def test_a_sidecar_gets_the_instance_that_it_names_of_the_identity_that_it_proves(plane: Plane) -> None:
    plane.split("orders", "a", "b")
    async with plane.sidecar(plane.ca.svid(ORDERS)) as a, plane.sidecar(plane.ca.svid(ORDERS)) as b:
        await a.hello(instance="a")
        await b.hello(instance="b")
        for sidecar, name, mesh_port in ((a, "a", 16_000), (b, "b", 16_001)):
            told = await sidecar.snapshot()
            assert (told.workload.instance, told.workload.mesh_port) == (name, mesh_port)
    async with plane.sidecar(plane.ca.svid(WEB)) as other:
        await other.hello(instance="a")
        assert await other.ending() is grpc.StatusCode.PERMISSION_DENIED
        assert "lists no instances: start the sidecar without --instance a" in await other.call.details()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("", "has instances: start the sidecar with --instance, one of a, b"),
        ("c", "has no instance c: use one of a, b, or add it to mesh.yaml"),
    ],
)
async def test_an_instance_that_there_is_not_is_refused_with_those_that_there_are(
    plane: Plane, asked: str, told: str
) -> None:
    plane.split("orders", "a", "b")
    async with plane.sidecar(plane.ca.svid(ORDERS)) as sidecar:
        await sidecar.hello(instance=asked)
        assert await sidecar.ending() is grpc.StatusCode.PERMISSION_DENIED
        assert told in await sidecar.call.details()
    assert plane.ended("unknown_instance") == 1


async def test_what_a_sidecar_says_of_its_readiness_is_known_and_outlives_its_stream_for_a_moment(plane: Plane) -> None:
    orders = WorkloadKey(ORDERS)

    def reason() -> str:
        return plane.readiness.verdict(orders, plane.clock.monotonic()).reason

    async with plane.sidecar(plane.ca.svid(ORDERS)) as sidecar:
        await sidecar.hello()
        await sidecar.ack((await sidecar.snapshot()).revision)
        await sidecar.send(readiness=pb.ReadinessReport(ready=False, reason="draining"))
        await until(lambda: reason() == "draining")
    await until(lambda: plane.standing(ORDERS) is Standing.DISCONNECTED)
    assert reason() == "draining"
    assert plane.readiness.verdict(orders, plane.clock.monotonic() + LOST_SECONDS + 1).reason == "its sidecar is gone"


async def test_workload_that_leaves_the_mesh_is_told_so(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
        await sidecar.hello()
        await sidecar.snapshot()
        plane.remove("web")
        assert await sidecar.ending() is grpc.StatusCode.PERMISSION_DENIED
    assert plane.ended("removed") == 1


async def test_newer_stream_of_an_instance_ends_its_older_one(plane: Plane) -> None:
    svid = plane.ca.svid(WEB)
    async with plane.sidecar(svid) as older, plane.sidecar(svid) as newer, plane.sidecar(svid) as replica:
        await older.hello("a")
        await older.snapshot()
        await replica.hello("b")
        await replica.snapshot()
        await newer.hello("a")
        await newer.snapshot()
        assert await older.ending() is grpc.StatusCode.ABORTED
        plane.publish(web=["x"])
        assert (await newer.snapshot()).revision == (await replica.snapshot()).revision == 2


async def test_too_many_under_one_identity_are_sent_away_and_others_served(plane: Plane) -> None:
    svid = plane.ca.svid(WEB)
    async with contextlib.AsyncExitStack() as stack:
        for instance in "abc":
            one = await stack.enter_async_context(plane.sidecar(svid))
            await one.hello(instance)
            await one.snapshot()
        extra = await stack.enter_async_context(plane.sidecar(svid))
        await extra.hello("d")
        assert await extra.ending() is grpc.StatusCode.RESOURCE_EXHAUSTED
        orders = await stack.enter_async_context(plane.sidecar(plane.ca.svid(ORDERS)))
        await orders.hello()
        await orders.snapshot()


async def test_silent_caller_is_not_waited_for(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
        assert await sidecar.ending() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert plane.ended("no_hello") == 1


BREACHES: dict[str, list[dict[str, Any]]] = {
    "no hello first": [{"ack": pb.Acknowledgement(revision=1, accepted=True, enforced_revision=1)}],
    "an empty report": [{}],
    "a second hello": [{"hello": pb.Hello(process="a")}, {"hello": pb.Hello(process="a")}],
    "an answer to nothing": [
        {"hello": pb.Hello(process="a")},
        {"ack": pb.Acknowledgement(revision=99, accepted=True, enforced_revision=99)},
    ],
    "a contradictory answer": [
        {"hello": pb.Hello(process="a")},
        {"ack": pb.Acknowledgement(revision=1, accepted=True, enforced_revision=7)},
    ],
    "a nameless process": [{"hello": pb.Hello()}],
}


@pytest.mark.parametrize("breach", BREACHES)
async def test_breach_of_the_protocol_ends_the_stream(plane: Plane, breach: str) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
        first, *others = BREACHES[breach]
        await sidecar.send(**first)
        if others:
            await sidecar.snapshot()
        for report in others:
            await sidecar.send(**report)
        assert await sidecar.ending() is grpc.StatusCode.INVALID_ARGUMENT
    assert plane.ended("bad_report") == 1
    await until(lambda: len(plane.distributor) == 0)


async def test_flood_of_reports_is_taken_in_slowly_and_stops_no_snapshot() -> None:
    plane = Plane(limits=replace(LIMITS, report_burst=3, report_rate=0.001))
    plane.publish()
    server = await plane.start()
    try:
        async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
            await sidecar.hello()
            await sidecar.snapshot()

            async def flood() -> None:
                for number in range(1, 100_000):
                    await sidecar.send(identity=pb.IdentityReport(not_before=1, not_after=2, serial=f"{number}"))

            flooding = asyncio.ensure_future(flood())
            await until(lambda: plane.session(WEB).svid_serial == "3")
            for revision in range(2, 12):
                plane.publish(web=[f"r{revision}"])
                assert (await sidecar.snapshot()).revision == revision
            assert plane.session(WEB).svid_serial == "3"
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
    finally:
        plane.distributor.drain()
        await server.stop(None)


async def test_report_larger_than_the_limit_is_not_taken_in(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await sidecar.hello("a" * 200_000)
        assert await sidecar.ending() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(plane.distributor) == 0


async def test_sidecar_that_does_not_read_is_let_go(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar, plane.sidecar(plane.ca.svid(ORDERS)) as orders:
        await sidecar.hello()
        await orders.hello()
        await orders.snapshot()
        for number in range(40):  # until what the connection holds in flight is full
            plane.publish(web=[f"{number}-{each}-" + "x" * 240 for each in range(4_000)])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await until(lambda: bool(plane.ended("write_timeout")))
            if plane.ended("write_timeout"):
                break
        await until(lambda: plane.ended("write_timeout") == 1)
        plane.publish(orders=["a"])
        assert [rule.name for rule in (await orders.snapshot()).allowlists[0].rules] == ["a"]


async def test_bug_ends_one_stream_and_stays_on_this_side(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def trip(_session: Session) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(plane.distributor, "subscribe", trip)
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
        await sidecar.hello()
        assert await sidecar.ending() is grpc.StatusCode.INTERNAL
        assert "nobody thought" not in await sidecar.call.details()
    [line] = [line for line in map(json.loads, plane.log.getvalue().splitlines()) if line["msg"] == "stream failed"]
    assert "nobody thought of this" in line["error"]
    failures = plane.metrics.registry.get_sample_value("ringfence_controlplane_task_failures_total", {"task": "stream"})
    assert failures == 1


async def test_stopping_tells_sidecars_to_come_back(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
        await sidecar.hello()
        await sidecar.snapshot()
        plane.distributor.drain()
        assert await sidecar.ending() is grpc.StatusCode.UNAVAILABLE


async def test_sidecar_that_closes_its_side_ends_the_stream_in_peace(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as sidecar:
        await sidecar.hello()
        await sidecar.snapshot()
        await sidecar.call.done_writing()
        assert await sidecar.ending() is grpc.StatusCode.OK


async def test_renewed_server_identity_is_shown_to_new_connections_and_disturbs_no_old_one(plane: Plane) -> None:
    async with plane.sidecar(plane.ca.svid(WEB)) as old:
        await old.hello()
        await old.snapshot()
        first = plane.issued[-1]
        assert await _shown_serial(plane) == first.serial
        await plane.identity.renew()
        assert plane.issued[-1].serial != first.serial
        assert await _shown_serial(plane) == plane.issued[-1].serial
        plane.publish(web=["a"])
        assert (await old.snapshot()).revision == 2


async def _shown_serial(plane: Plane) -> str:
    """The serial of the certificate that the server shows in a handshake."""
    from OpenSSL import SSL

    def shake() -> str:
        import socket

        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_alpn_protos([b"h2"])
        with socket.create_connection((plane.address.host, plane.address.port), timeout=_WAIT_SECONDS) as plain:
            plain.settimeout(None)
            connection = SSL.Connection(context, plain)
            connection.set_connect_state()
            connection.do_handshake()
            certificate = connection.get_peer_certificate()
            assert certificate is not None
            serial = certificate.get_serial_number()
            connection.close()
        return f"{serial:x}"

    return await asyncio.to_thread(shake)


async def test_connections_are_bounded_and_those_that_exist_go_on() -> None:
    plane = Plane()
    plane.publish()
    server = await plane.start(ServerLimits(connections=1))
    try:
        async with plane.sidecar(plane.ca.svid(WEB)) as first:
            await first.hello()
            await first.snapshot()
            assert await _is_unavailable(plane, plane.ca.svid(ORDERS))
            plane.publish(web=["a"])
            assert (await first.snapshot()).revision == 2
    finally:
        plane.distributor.drain()
        await server.stop(None)


async def test_taken_address_is_told_and_not_shared(plane: Plane) -> None:
    with pytest.raises(AddressTakenError, match="is already in use"):
        await listen(make_server(ServerLimits()), plane.address, plane.identity.credentials(mutual=True))
