"""The relays that live: gone through while they end, swept, waited for; none that fails keeps another from its turn."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.live import LiveRelays
from sidecar.relay import Relay
from tests.turning_loop import TurningLoop, run_turning
from tests.unit.test_relay import facts


class Owner:
    """Takes a relay out of the table when it ends, as the two sides of the sidecar do."""

    def __init__(self) -> None:
        self.relays: LiveRelays[int] = LiveRelays()
        self.failed: list[Exception] = []
        self.reasons: list[str] = []

    def add(self, number: int, kind: type[Relay] = Relay) -> Relay:
        relay = kind(self, facts())
        self.relays.add(relay, number)
        return relay

    def relay_connected(self, relay: Relay) -> None: ...

    def relay_ended(self, relay: Relay, reason: str, detail: str) -> None:
        self.relays.discard(relay)
        self.reasons.append(reason)

    def relay_failed(self, relay: Relay, error: Exception) -> None:
        self.failed.append(error)


class Broken(Relay):
    """Fails whenever it is asked for anything, its end included."""

    def sweep(self, now: float) -> None:
        raise RuntimeError("no sweep")

    def drain(self) -> None:
        raise RuntimeError("no drain")

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = 0) -> None:
        raise RuntimeError("no end")


async def test_relays_may_end_while_they_are_gone_through() -> None:
    owner = Owner()
    for number in range(5):
        owner.add(number)
    for relay, number in owner.relays:
        if number % 2:
            relay.end("closed")
    assert [number for _, number in owner.relays] == [0, 2, 4]
    assert len(owner.relays) == 3


async def test_of_many_that_end_the_first_are_told_while_the_last_still_live() -> None:
    owner = Owner()
    for number in range(1000):
        owner.add(number)
    told: list[int] = []
    owner.relays.each(lambda relay, _: relay.end("closed"), lambda: told.append(len(owner.reasons)))
    assert told == [127, 255, 383, 511, 639, 767, 895]
    assert len(owner.reasons) == 1000


async def test_a_relay_that_fails_is_ended_and_costs_no_other_its_turn() -> None:
    owner = Owner()
    before, _, after = owner.add(1), owner.add(2, Broken), owner.add(3)
    asked: list[int] = []

    def judge(relay: Relay, number: int) -> None:
        asked.append(number)
        if isinstance(relay, Broken):
            raise RuntimeError("cannot judge")

    owner.relays.each(judge)
    assert asked == [1, 2, 3]
    assert [relay for relay, _ in owner.relays] == [before, after]
    assert [str(error) for error in owner.failed] == ["cannot judge"]
    assert owner.reasons == ["reset"]


async def test_a_relay_that_another_one_ended_is_passed_over() -> None:
    owner = Owner()
    first, second = owner.add(1), owner.add(2)
    asked: list[Relay] = []

    def judge(relay: Relay, _: int) -> None:
        asked.append(relay)
        second.end("closed")

    owner.relays.each(judge)
    assert asked == [first]


@pytest.mark.parametrize("verb", ["sweep", "drain"])
async def test_sweeping_and_draining_survive_a_relay_that_fails(verb: str) -> None:
    owner = Owner()
    owner.add(1)
    owner.add(2, Broken)
    if verb == "sweep":
        owner.relays.sweep(1.0)
    else:
        owner.relays.drain()
    assert [number for _, number in owner.relays] == [1]


async def test_waiting_for_none_ends_with_the_last() -> None:
    owner = Owner()
    relays = [owner.add(number) for number in range(3)]
    waiting = asyncio.ensure_future(owner.relays.drained(60.0))
    for relay in relays:
        await asyncio.sleep(0)
        assert not waiting.done()
        relay.end("closed")
    assert await waiting is True
    assert await owner.relays.drained(0.0) is True


def test_waiting_for_those_that_stay_ends_with_the_time() -> None:
    async def test(loop: TurningLoop) -> None:
        owner = Owner()
        owner.add(1)
        waiting = asyncio.ensure_future(owner.relays.drained(60.0))
        await asyncio.sleep(0)
        loop.turn(60.0)
        assert await waiting is False

    run_turning(test)
