"""What is written into the cluster is written once, by one, only where it differs, and is put right when it is lost."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from k8s.client.connection import Connection
from k8s.client.resources import (
    EVENTS,
    LEASES,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    PODS,
    VALIDATING_WEBHOOKS,
)
from k8s.controller import writing
from k8s.controller.documents import RESOURCES
from k8s.controller.events import EventTeller, Subject, Told
from k8s.controller.leading import Leadership, LeaseSettings
from k8s.controller.offering import JudgedVersions, ReadingMaker, keep_offering
from k8s.controller.parts import run_parts
from k8s.controller.settling import Pace, Settler
from k8s.controller.watching import ClusterCopies
from k8s.controller.webhooks import WebhookKeeper, WebhookNames
from k8s.controller.writing import StatusWriter, WritePace
from k8s.translate.meshing import MeshSettings, Translator
from ringfence.kit.clock import FakeClock, SystemClock
from ringfence.kit.log import Logger
from ringfence.platform import DocumentStanding, Reading, WrittenDocument
from ringfence.spiffe import TrustDomain
from tests.cluster_objects import namespace, pod
from tests.fake_api_server import FakeApiServer, serving, status_response
from tests.waiting import until

_LOG = Logger("test", level="error")
_RANDOM = random.Random(1).random
_FAST = Pace(settle_seconds=0.0, patience_seconds=0.0, apart_seconds=0.0)
_ALLOWLIST = next(one for one in RESOURCES if one.kind == "Allowlist")


def document(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": spec or {"service": name}}


@asynccontextmanager
async def task(work: Awaitable[None]) -> AsyncIterator[None]:
    made = asyncio.ensure_future(work)
    try:
        yield
    finally:
        made.cancel()
        with suppress(asyncio.CancelledError):
            await made


class Trusting(JudgedVersions):
    """Takes every standing for one of what stands there, until it was told of a reading."""

    told = False

    def take(self, reading: Reading) -> None:
        self.told = True
        super().take(reading)

    def speaks_of(self, document: WrittenDocument) -> bool:
        return not self.told or super().speaks_of(document)


class World:
    """A fake cluster, its copies, and settlers that are stirred by them."""

    def __init__(self, fake: FakeApiServer, connection: Connection) -> None:
        self.fake = fake
        self.connection = connection
        self.reading = Settler(SystemClock(), _FAST)
        self.statuses = Settler(SystemClock(), _FAST)
        self.trust = Settler(SystemClock(), _FAST)
        self.copies = ClusterCopies(connection, self.mesh_changed, self.documents_changed, log=_LOG, random=_RANDOM)
        settings = MeshSettings(trust_domain=TrustDomain("shop.example"))
        self.maker = ReadingMaker(self.copies, Translator(settings))
        self.judged = Trusting()

    def mesh_changed(self) -> None:
        self.maker.mesh_changed()
        self.reading.stir()
        self.trust.stir()

    def documents_changed(self) -> None:
        self.reading.stir()
        self.statuses.stir()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with serving(tmp_path) as (fake, connection):
        fake.put(NAMESPACES, namespace("shop"))
        world = World(fake, connection)
        world.copies.start()
        await world.copies.wait_complete()
        try:
            yield world
        finally:
            await world.copies.close()


class _Host:
    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.answers: list[bool] = []
        self.said: dict[str, DocumentStanding] = {}

    async def offer(self, reading: Reading) -> bool:
        self.readings.append(reading)
        return self.answers.pop(0) if self.answers else True

    def standings(self) -> Mapping[str, DocumentStanding]:
        return self.said


async def test_each_reading_that_differs_is_offered_and_no_other(world: World) -> None:
    host = _Host()
    async with task(keep_offering(world.maker, world.reading, host, world.judged.take, log=_LOG)):
        await until(lambda: len(host.readings) == 1)
        world.fake.put(PODS, pod("cart-1", "10.0.0.1"))
        await until(lambda: len(host.readings) == 2)
        assert [one.full_name for one in host.readings[-1].mesh.services] == ["shop/cart-1"]
        world.fake.put(_ALLOWLIST, document("cart"))
        await until(lambda: len(host.readings) == 3)
        held = world.fake.object(_ALLOWLIST, "cart", "shop")
        world.fake.put(_ALLOWLIST, {**(held or {}), "status": {"enforced": "0/0"}})
        await until(lambda: world.copies.document("Allowlist", "shop", "cart").status)  # type: ignore[union-attr]
        world.fake.put(_ALLOWLIST, document("web"))
        await until(lambda: len(host.readings) == 4)
    assert [one.name for one in host.readings[-1].documents] == ["Allowlist/shop/cart", "Allowlist/shop/web"]


async def test_a_reading_that_cannot_be_kept_is_offered_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k8s.controller.offering._AGAIN_SECONDS", 0.001)
    host = _Host()
    host.answers = [False, False]
    async with task(keep_offering(world.maker, world.reading, host, world.judged.take, log=_LOG)):
        await until(lambda: len(host.readings) == 3)
    assert host.readings[0] == host.readings[2]


def _writer(world: World, host: _Host, leading: Callable[[], bool] = lambda: True, apart: float = 0.0) -> StatusWriter:
    pace = WritePace(writes_per_second=10_000.0, apart_seconds=apart)
    return StatusWriter(
        world.connection, world.copies, host, leading, judged=world.judged, clock=SystemClock(), log=_LOG, pace=pace
    )


async def test_who_leads_no_longer_writes_no_more_even_in_the_middle(world: World) -> None:
    host = _Host()
    for number in range(20):
        host.said[f"Allowlist/shop/d{number}"] = DocumentStanding(accepted=True)
        world.fake.put(_ALLOWLIST, document(f"d{number}"))
    await until(lambda: len(list(world.copies.documents())) == 20)
    await until(lambda: all(world.judged.speaks_of(one.written) for one in world.copies.documents()))
    writer = _writer(world, host, leading=lambda: len(world.fake.patches) < 3)
    assert await writer._round() is None
    assert len(world.fake.patches) == 3


async def test_a_long_round_is_begun_anew_with_those_that_waited_longest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_ROUND_SECONDS", -1.0)
    host = _Host()
    for number in range(5):
        host.said[f"Allowlist/shop/d{number}"] = DocumentStanding(accepted=True)
        world.fake.put(_ALLOWLIST, document(f"d{number}"))
    await until(lambda: len(list(world.copies.documents())) == 5)
    await until(lambda: all(world.judged.speaks_of(one.written) for one in world.copies.documents()))
    writer = _writer(world, host)
    assert await writer._round() == 0.0
    assert world.fake.patches == []
    monkeypatch.setattr(writing, "_ROUND_SECONDS", 60.0)
    writer._written = {f"Allowlist/shop/d{number}": float(-number) for number in range(5)}
    assert await writer._round() is None
    names = [path.split("/")[-2] for path, _ in world.fake.patches]
    assert names == ["d4", "d3", "d2", "d1", "d0"]


async def test_a_status_is_written_once_and_the_spec_never(world: World) -> None:
    host = _Host()
    host.said["Allowlist/shop/cart"] = DocumentStanding(accepted=True, workloads=1, enforcing=1)
    async with task(_writer(world, host).run(world.statuses)):
        before = world.fake.put(_ALLOWLIST, document("cart"))
        await until(lambda: (world.fake.object(_ALLOWLIST, "cart", "shop") or {}).get("status"))
        await until(lambda: world.copies.document("Allowlist", "shop", "cart").status)  # type: ignore[union-attr]
        world.fake.put(_ALLOWLIST, document("other"))
        host.said["Allowlist/shop/other"] = DocumentStanding(accepted=True)
        world.statuses.stir()
        await until(lambda: (world.fake.object(_ALLOWLIST, "other", "shop") or {}).get("status"))
    after = world.fake.object(_ALLOWLIST, "cart", "shop")
    assert after is not None
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["status"]["enforced"] == "1/1"
    assert [path for path, _ in world.fake.patches].count(_ALLOWLIST.path("shop", "cart", "status")) == 1
    assert {key for _, body in world.fake.patches for key in body} == {"status"}


async def test_a_status_that_somebody_changed_is_put_right(world: World) -> None:
    host = _Host()
    host.said["Allowlist/shop/cart"] = DocumentStanding(accepted=True)
    async with task(_writer(world, host).run(world.statuses)):
        world.fake.put(_ALLOWLIST, {**document("cart"), "status": {"enforced": "9/9", "invented": 1}})
        await until(lambda: (world.fake.object(_ALLOWLIST, "cart", "shop") or {})["status"].get("conditions"))
    status = (world.fake.object(_ALLOWLIST, "cart", "shop") or {})["status"]
    assert status["enforced"] == "0/0"
    assert "invented" not in status


async def test_who_does_not_lead_writes_nothing_until_it_does(world: World) -> None:
    host = _Host()
    host.said["Allowlist/shop/cart"] = DocumentStanding(accepted=True)
    leads = False
    asked = 0

    def leading() -> bool:
        nonlocal asked
        asked += 1
        return leads

    async with task(_writer(world, host, leading).run(world.statuses)):
        world.fake.put(_ALLOWLIST, document("cart"))
        await until(lambda: asked)
        assert not world.fake.patches
        leads = True
        world.statuses.stir()
        await until(lambda: world.fake.patches)


async def test_a_standing_of_an_earlier_version_is_not_written_to_a_later_one(world: World) -> None:
    host = _Host()
    host.said["Allowlist/shop/cart"] = DocumentStanding(accepted=True)
    world.fake.put(_ALLOWLIST, document("cart"))
    await until(lambda: world.copies.document("Allowlist", "shop", "cart"))
    world.judged.take(world.maker.reading())
    world.fake.put(_ALLOWLIST, document("cart", service="other"))
    await until(lambda: world.copies.document("Allowlist", "shop", "cart").generation == 2)  # type: ignore[union-attr]
    writer = _writer(world, host)
    assert await writer._round() is None
    assert not world.fake.patches
    world.judged.take(world.maker.reading())
    await writer._round()
    assert world.fake.patches[0][1]["status"]["observedGeneration"] == 2


async def test_the_same_document_is_not_written_again_at_once(world: World) -> None:
    host = _Host()
    host.said["Allowlist/shop/cart"] = DocumentStanding(accepted=True, workloads=9)
    writer = _writer(world, host, apart=3600.0)
    world.fake.put(_ALLOWLIST, document("cart"))
    await until(lambda: world.copies.document("Allowlist", "shop", "cart"))
    assert await writer._round() is None
    host.said["Allowlist/shop/cart"] = DocumentStanding(accepted=True, workloads=9, enforcing=1)
    again = await writer._round()
    assert again is not None
    assert 3000 < again <= 3600
    assert len(world.fake.patches) == 1


async def test_a_status_that_could_not_be_written_is_tried_again(world: World) -> None:
    host = _Host()
    host.said["Allowlist/shop/cart"] = DocumentStanding(accepted=True)
    world.fake.put(_ALLOWLIST, document("cart"))
    await until(lambda: world.copies.document("Allowlist", "shop", "cart"))
    writer = _writer(world, host)
    world.fake.fail = lambda request: status_response(500, "Broken", "no") if request.method == "PATCH" else None
    assert await writer._round() is not None
    world.fake.fail = lambda request: status_response(409, "Conflict", "no") if request.method == "PATCH" else None
    assert await writer._round() is None, "a conflict is looked at again when the watch brings what it is now"


async def test_namespaces_are_meshed_by_their_label_or_by_their_pods_but_the_clusters_own(world: World) -> None:
    world.fake.put(NAMESPACES, namespace("plain", inject=False))
    world.fake.put(NAMESPACES, namespace("opted", inject=False))
    world.fake.put(NAMESPACES, namespace("kube-system"))
    world.fake.put(NAMESPACES, namespace("ringfence-system"))
    world.fake.put(PODS, pod("a", "10.0.0.1", ns="opted"))
    world.fake.put(PODS, pod("b", "10.0.0.2", ns="plain", meshed=False))
    world.fake.put(PODS, pod("c", "10.0.0.3", ns="kube-system"))
    await until(lambda: len(world.copies.pods.objects) == 3 and len(world.copies.namespaces.objects) == 5)
    assert world.copies.meshed_namespaces("ringfence-system") == {"shop", "opted"}


def _configuration(*services: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "ringfence"},
        "webhooks": [
            {"name": f"w{number}", "clientConfig": {"service": {"name": name, "namespace": "ringfence-system"}}}
            for number, name in enumerate(services)
        ],
    }


async def test_our_webhooks_know_the_roots_through_rotations_and_others_are_left_alone(world: World) -> None:
    bundle = b"first"
    settler = Settler(SystemClock(), _FAST)
    names = WebhookNames(configurations="ringfence", service="ringfence", namespace="ringfence-system")
    keeper = WebhookKeeper(world.connection, names, lambda: bundle, changed=settler.stir, log=_LOG, random=_RANDOM)

    def bundles(resource: Any) -> list[bytes]:
        webhooks = (world.fake.object(resource, "ringfence") or {})["webhooks"]
        return [base64.b64decode(one["clientConfig"].get("caBundle", "")) for one in webhooks]

    world.fake.put(MUTATING_WEBHOOKS, _configuration("ringfence", "another"))
    world.fake.put(MUTATING_WEBHOOKS, {**_configuration("ringfence"), "metadata": {"name": "foreign"}})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(task(keeper.watch()))
        await stack.enter_async_context(task(keeper.run(settler, lambda: True)))
        await until(lambda: bundles(MUTATING_WEBHOOKS) == [b"first", b""])
        world.fake.put(VALIDATING_WEBHOOKS, _configuration("ringfence"))
        await until(lambda: bundles(VALIDATING_WEBHOOKS) == [b"first"])
        world.fake.put(MUTATING_WEBHOOKS, _configuration("another", "ringfence"))
        await until(lambda: bundles(MUTATING_WEBHOOKS) == [b"", b"first"])
        bundle = b"second"
        settler.stir()
        await until(
            lambda: bundles(MUTATING_WEBHOOKS) == [b"", b"second"] and bundles(VALIDATING_WEBHOOKS) == [b"second"]
        )
    foreign = world.fake.object(MUTATING_WEBHOOKS, "foreign")
    assert foreign is not None
    assert "caBundle" not in foreign["webhooks"][0]["clientConfig"]


_LEASE = LeaseSettings(namespace="ringfence-system", name="ringfence", holder="a", renew_seconds=3.0)


def _leader(world: World, holder: str, clock: FakeClock) -> Leadership:
    return Leadership(world.connection, replace(_LEASE, holder=holder), clock=clock, log=_LOG, random=_RANDOM)


async def test_one_leads_and_another_only_when_that_one_is_gone(world: World, clock: FakeClock) -> None:
    one, other = _leader(world, "a", clock), _leader(world, "b", clock)
    await one._turn()
    await other._turn()
    assert (one.leading, other.leading) == (True, False)
    for _ in range(10):
        clock.advance(3.0)
        await one._turn()
        await other._turn()
        assert (one.leading, other.leading) == (True, False)
    clock.advance(10.5)
    await other._turn()
    assert (one.leading, other.leading) == (False, False), "who leads gives up before another may begin"
    clock.advance(5.0)
    await other._turn()
    assert (one.leading, other.leading) == (False, True)
    await one._turn()
    assert (one.leading, other.leading) == (False, True)
    lease = world.fake.object(LEASES, "ringfence", "ringfence-system")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "b"
    assert lease["spec"]["leaseTransitions"] == 2


async def test_of_two_that_are_as_fast_one_leads(world: World, clock: FakeClock) -> None:
    several = [_leader(world, str(number), clock) for number in range(4)]
    await asyncio.gather(*(one._turn() for one in several))
    assert sum(one.leading for one in several) == 1
    clock.advance(16.0)
    await asyncio.gather(*(one._turn() for one in several))
    assert sum(one.leading for one in several) <= 1


async def test_a_leader_that_ends_lets_go_so_that_another_need_not_wait(world: World, clock: FakeClock) -> None:
    one, other = _leader(world, "a", clock), _leader(world, "b", clock)
    async with task(one.run()):
        await until(lambda: one.leading)
    assert not one.leading
    await other._turn()
    assert other.leading


async def test_a_leader_that_reaches_nobody_stops_leading(world: World, clock: FakeClock) -> None:
    one = _leader(world, "a", clock)
    await one._turn()
    world.fake.fail = lambda request: web.Response(status=503)
    clock.advance(9.0)
    assert one.leading
    clock.advance(1.5)
    assert not one.leading


async def test_a_refused_pod_is_told_on_its_owner_and_again_only_counted(world: World, clock: FakeClock) -> None:
    teller = EventTeller(world.connection, component="ringfence", instance="pod", clock=clock, log=_LOG)
    subject = Subject(api_version="apps/v1", kind="ReplicaSet", namespace="shop", name="cart-5d4f", uid="u")
    told = Told(subject=subject, reason="InjectionDenied", message="port 15001 is the mesh's own (use another)")

    def events() -> list[dict[str, Any]]:
        return [body for path, body in world.fake.objects.items() if path.startswith(EVENTS.path("shop"))]

    for _ in range(3):
        await teller._write(told)
    (event,) = events()
    assert event["involvedObject"]["kind"] == "ReplicaSet"
    assert (event["type"], event["count"], event["message"]) == ("Warning", 1, told.message)
    clock.advance(6.0)
    await teller._write(told)
    assert events()[0]["count"] == 4
    world.fake.remove(EVENTS, event["metadata"]["name"], "shop")
    clock.advance(6.0)
    await teller._write(told)
    assert events()[0]["count"] == 5
    await EventTeller(world.connection, component="ringfence", instance="b", clock=clock, log=_LOG)._write(told)
    assert len(events()) == 1


async def test_what_is_no_text_keeps_nothing_else_from_being_told(
    world: World, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k8s.controller.events._PACE_SECONDS", 0.0)
    teller = EventTeller(world.connection, component="ringfence", instance="pod", clock=clock, log=_LOG)
    for name in ("\ud800", "web\udfff", "cart"):
        subject = Subject(api_version="v1", kind=f"Pod{name}", namespace="shop", name=name, uid=name)
        teller.tell(Told(subject=subject, reason="InjectionDenied", message=f"of {name}"))

    def messages() -> list[str]:
        return sorted(
            body["message"] for path, body in world.fake.objects.items() if path.startswith(EVENTS.path("shop"))
        )

    async with task(teller.run()):
        await until(lambda: len(messages()) == 3)
    assert messages() == ["of ?", "of cart", "of web?"]


async def test_events_beyond_the_limit_are_dropped_and_nobody_waits(world: World, clock: FakeClock) -> None:
    teller = EventTeller(world.connection, component="ringfence", instance="pod", clock=clock, log=_LOG)
    subject = Subject(api_version="v1", kind="Pod", namespace="shop", name="cart")
    for number in range(1000):
        teller.tell(Told(subject=subject, reason="InjectionDenied", message=str(number)))
    assert teller._queue.qsize() == 256


async def test_whatever_strangers_have_told_is_written_at_a_pace(
    world: World, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k8s.controller.events._PACE_SECONDS", 3600.0)
    teller = EventTeller(world.connection, component="ringfence", instance="pod", clock=clock, log=_LOG)
    subject = Subject(api_version="v1", kind="Pod", namespace="shop", name="cart")
    for number in range(3):
        teller.tell(Told(subject=subject, reason="InjectionDenied", message=str(number)))

    def written() -> int:
        return sum(path.startswith(EVENTS.path("shop")) for path in world.fake.objects)

    async with task(teller.run()):
        await until(lambda: written() == 1)
        # As long as several more would take.
        for _ in range(3):
            await world.connection.get(NAMESPACES, "shop")
        assert written() == 1
        assert teller._queue.qsize() == 2


async def test_a_burst_is_one_and_changes_that_never_pause_are_not_put_off_for_ever() -> None:
    settler = Settler(SystemClock(), Pace(settle_seconds=0.02, patience_seconds=0.06, apart_seconds=0.0))
    looks = 0

    async def look() -> None:
        nonlocal looks
        while True:
            await settler.settled()
            looks += 1

    async with task(look()):
        for _ in range(5):
            settler.stir()
        await until(lambda: looks == 1)
        stirs = 0
        while looks < 3:
            settler.stir()
            stirs += 1
            await asyncio.sleep(0.005)
        assert stirs > looks


async def test_a_part_that_trips_is_begun_anew_and_costs_no_other_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k8s.controller.parts._PAUSE_SECONDS", 0.001)
    counted: list[str] = []
    begun = 0
    beside = asyncio.Event()

    async def tripping() -> None:
        nonlocal begun
        begun += 1
        raise ValueError("a fault of ours")

    async def steady() -> None:
        beside.set()
        await asyncio.Event().wait()

    async with task(
        run_parts({"tripping": tripping, "steady": steady}, counted.append, Logger("x", stream=StringIO()))
    ):
        await until(lambda: begun >= 3)
        assert beside.is_set()
    assert set(counted) == {"tripping"}
