"""A moment of the wall clock is acted upon once, however the clock is set."""

from __future__ import annotations

import asyncio

from ringfence.kit.clock import FakeClock
from sidecar.moment import Moment


async def test_nothing_is_done_before_its_time_and_then_once() -> None:
    clock, acted = FakeClock(now=100.0), []
    moment = Moment(clock.now, lambda: acted.append(1))
    moment.watch(105.0)
    moment.look()
    clock.advance(4.9)
    moment.look()
    assert acted == []
    clock.advance(0.2)
    moment.look()
    moment.look()
    assert acted == [1]


async def test_the_timer_alone_does_it_although_the_loop_s_clock_is_another() -> None:
    clock, acted = FakeClock(now=100.0), asyncio.Event()
    moment = Moment(clock.now, acted.set)
    moment.watch(100.02)
    await asyncio.sleep(0)
    clock.advance(1.0)
    async with asyncio.timeout(30):
        await acted.wait()


async def test_another_moment_takes_the_place_of_the_first_and_none_means_none() -> None:
    clock, acted = FakeClock(now=100.0), []
    moment = Moment(clock.now, lambda: acted.append(1))
    moment.watch(101.0)
    moment.watch(200.0)
    clock.advance(50.0)
    moment.look()
    assert acted == []
    moment.watch(None)
    clock.advance(500.0)
    moment.look()
    assert acted == []
