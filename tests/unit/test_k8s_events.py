"""Events are written once, counted after that, at a pace, and never waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from k8s.client.resources import EVENTS, NAMESPACES
from k8s.controller.events import EventTeller, Subject, Told
from ringfence.kit.clock import FakeClock
from tests.cluster_objects import namespace
from tests.controller_world import LOG, World, task, world_of
from tests.waiting import until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path, (NAMESPACES, namespace("shop"))) as made:
        yield made


async def test_a_refused_pod_is_told_on_its_owner_and_again_only_counted(world: World, clock: FakeClock) -> None:
    teller = EventTeller(world.connection, component="ringfence", instance="pod", clock=clock, log=LOG)
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
    await EventTeller(world.connection, component="ringfence", instance="b", clock=clock, log=LOG)._write(told)
    assert len(events()) == 1


async def test_what_is_no_text_keeps_nothing_else_from_being_told(
    world: World, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k8s.controller.events._PACE_SECONDS", 0.0)
    teller = EventTeller(world.connection, component="ringfence", instance="pod", clock=clock, log=LOG)
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
    teller = EventTeller(world.connection, component="ringfence", instance="pod", clock=clock, log=LOG)
    subject = Subject(api_version="v1", kind="Pod", namespace="shop", name="cart")
    for number in range(1000):
        teller.tell(Told(subject=subject, reason="InjectionDenied", message=str(number)))
    assert teller._queue.qsize() == 256


async def test_whatever_strangers_have_told_is_written_at_a_pace(
    world: World, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k8s.controller.events._PACE_SECONDS", 3600.0)
    teller = EventTeller(world.connection, component="ringfence", instance="pod", clock=clock, log=LOG)
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
