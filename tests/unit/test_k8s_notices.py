"""Owners of Services and pods find on their own objects what of them cannot be told, and not again at each look."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from k8s.client.resources import PODS, SERVICES
from k8s.controller.events import Told
from k8s.controller.notices import AGAIN_SECONDS, NoticeTeller
from ringfence.kit.clock import FakeClock
from ringfence.platform import Notice
from tests.cluster_objects import pod, service
from tests.controller_world import World, world_of


class _Host:
    def __init__(self, *notices: Notice) -> None:
        self.now: Sequence[Notice] = notices

    def notices(self) -> Sequence[Notice]:
        return self.now


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    cart = service("cart", 80)
    known = {**cart, "metadata": {**cart["metadata"], "uid": "uid-cart"}}
    async with world_of(tmp_path, (SERVICES, known), (PODS, pod("cart-1", "10.0.0.1", app="cart"))) as made:
        yield made


class _Events:
    """Takes what is told while there is room."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.room = True

    def tell(self, told: Told) -> bool:
        if self.room:
            self.told.append(told)
        return self.room


LEFT_OUT = Notice(service="shop/cart", reason="LeftOut", message="too large")
CLOSED = Notice(service="shop/cart", instance="cart-1", reason="Closed", message="too much")


async def test_each_is_told_on_its_object_and_again_only_after_a_while(world: World) -> None:
    clock, events = FakeClock(), _Events()
    told = events.told
    host = _Host(LEFT_OUT, CLOSED)
    teller = NoticeTeller(world.copies, host, lambda: True, events.tell, clock=clock)
    events.room = False
    teller.round()
    events.room = True
    teller.round()
    assert [(one.subject.kind, one.subject.name, one.subject.uid, one.reason, one.warning) for one in told] == [
        ("Service", "cart", "uid-cart", "LeftOut", True),
        ("Pod", "cart-1", "uid-shop-cart-1", "Closed", True),
    ]
    host.now = (Notice(service="shop/cart", reason="LeftOut", message="larger yet"), CLOSED)
    clock.advance(AGAIN_SECONDS - 1)
    teller.round()
    assert len(told) == 2, "other figures are no other news"
    clock.advance(2)
    teller.round()
    assert [one.message for one in told[2:]] == ["larger yet", "too much"]
    host.now = ()
    teller.round()
    host.now = (CLOSED,)
    teller.round()
    assert len(told) == 5, "what was over and comes again is news"


async def test_pods_of_no_service_together_have_no_object(world: World) -> None:
    events = _Events()
    host = _Host(Notice(service="shop/batch", reason="LeftOut", message="too large"))
    NoticeTeller(world.copies, host, lambda: True, events.tell, clock=FakeClock()).round()
    assert not events.told
