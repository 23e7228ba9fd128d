"""What is written into the cluster is written once, by one, only where it differs, and is put right when it is lost."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from k8s.client.resources import (
    MUTATING_WEBHOOKS,
    NAMESPACES,
    PODS,
    VALIDATING_WEBHOOKS,
)
from k8s.controller import writing
from k8s.controller.documents import RESOURCES
from k8s.controller.offering import keep_offering
from k8s.controller.parts import run_parts
from k8s.controller.settling import Pace, Settler
from k8s.controller.webhooks import WebhookKeeper, WebhookNames
from k8s.controller.writing import StatusWriter, WritePace
from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.platform import DocumentStanding, Reading
from tests.cluster_objects import namespace, pod
from tests.controller_world import FAST, LOG, RANDOM, World, task, world_of
from tests.fake_api_server import status_response
from tests.waiting import until

_ALLOWLIST = next(one for one in RESOURCES if one.kind == "Allowlist")


def document(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": spec or {"service": name}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path, (NAMESPACES, namespace("shop"))) as made:
        yield made


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
    async with task(keep_offering(world.maker, world.reading, host, world.judged.take, log=LOG)):
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
    async with task(keep_offering(world.maker, world.reading, host, world.judged.take, log=LOG)):
        await until(lambda: len(host.readings) == 3)
    assert host.readings[0] == host.readings[2]


def _writer(world: World, host: _Host, leading: Callable[[], bool] = lambda: True, apart: float = 0.0) -> StatusWriter:
    pace = WritePace(writes_per_second=10_000.0, apart_seconds=apart)
    return StatusWriter(
        world.connection, world.copies, host, leading, judged=world.judged, clock=SystemClock(), log=LOG, pace=pace
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
    settler = Settler(SystemClock(), FAST)
    names = WebhookNames(configurations="ringfence", service="ringfence", namespace="ringfence-system")
    keeper = WebhookKeeper(world.connection, names, lambda: bundle, changed=settler.stir, log=LOG, random=RANDOM)

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
