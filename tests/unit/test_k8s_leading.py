"""Of several replicas one leads, and another only when that one is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from k8s.client.resources import LEASES, NAMESPACES
from k8s.controller.leading import Leadership, LeaseSettings
from ringfence.kit.clock import FakeClock
from tests.cluster_objects import namespace
from tests.controller_world import LOG, RANDOM, World, task, world_of
from tests.waiting import until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path, (NAMESPACES, namespace("shop"))) as made:
        yield made


_LEASE = LeaseSettings(namespace="ringfence-system", name="ringfence", holder="a", renew_seconds=3.0)


def _leader(world: World, holder: str, clock: FakeClock) -> Leadership:
    return Leadership(world.connection, replace(_LEASE, holder=holder), clock=clock, log=LOG, random=RANDOM)


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
