"""What may wait is done a moment later, all of it, in its order; and what waits is bounded."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import datetime

import pytest

from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from sidecar.later import WAITING_LIMIT, Later
from sidecar.metrics import SidecarMetrics
from sidecar.recording import Recorder
from sidecar.relay import RelayFacts
from tests.waiting import until

API = "spiffe://shop.example/ns/shop/sa/api"


async def test_acts_are_done_in_their_order_and_none_before_its_moment() -> None:
    later, done = Later(), list[int]()
    for number in range(100):
        later(lambda number=number: done.append(number))  # type: ignore[misc]
    await asyncio.sleep(0)
    assert done == []
    await until(lambda: len(done) == 100)
    assert done == list(range(100))


async def test_others_have_their_turns_between() -> None:
    later, done, turns = Later(), list[int](), list[int]()
    for number in range(100):
        later(lambda number=number: done.append(number))  # type: ignore[misc]
    while len(done) < 100:
        await asyncio.sleep(0)
        turns.append(len(done))
    assert len({count for count in turns if 0 < count < 100}) >= 3


async def test_what_comes_while_others_are_done_is_done_as_well() -> None:
    later, done = Later(), list[str]()
    later(lambda: later(lambda: done.append("second")))
    await until(lambda: done)
    later(lambda: done.append("third"))
    await until(lambda: len(done) == 2)
    assert done == ["second", "third"]


async def test_one_that_fails_keeps_none_of_the_others() -> None:
    later, done, failures = Later(), list[int](), list[BaseException]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    later(lambda: [][0])
    later(lambda: done.append(1))
    await until(lambda: done)
    assert [type(error) for error in failures] == [IndexError]


async def test_beyond_the_bound_each_new_one_has_the_oldest_done_at_once() -> None:
    later, done = Later(), list[int]()
    for number in range(WAITING_LIMIT + 3):
        later(lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == [0, 1, 2]
    later.all()
    assert done == list(range(WAITING_LIMIT + 3))


class Recorded:
    """A recorder that tells later, and its log."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.clock = FakeClock()
        log = Logger("sidecar", stream=self.stream, clock=self.clock)
        self.recorder = Recorder(
            log=log, metrics=SidecarMetrics(), clock=self.clock, every_request=False, own_id=API, later=Later()
        )

    def denied(self) -> None:
        facts = RelayFacts(
            direction="inbound",
            peer="spiffe://shop.example/ns/shop/sa/web",
            service="shop/api",
            port=9000,
            protocol="tcp",
            started=self.clock.monotonic(),
            decision=Deny(DenyReason.METHOD_NOT_ALLOWED),
            request_id="ab" * 8,
        )
        self.recorder.connection_denied(facts, Deny(DenyReason.METHOD_NOT_ALLOWED), detail="policy changed")
        self.clock.advance(0.5)
        self.recorder.connection_ended(facts, DenyReason.METHOD_NOT_ALLOWED, "policy changed")

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


async def test_connections_are_counted_at_once_and_told_later_by_the_time_of_their_end() -> None:
    seen = Recorded()
    began = seen.clock.now()
    seen.denied()
    assert seen.recorder.endings == 1
    assert [sample.value for sample in seen.recorder.metrics.denials.collect().samples] == [1.0]
    assert seen.lines == []
    seen.clock.advance(100.0)
    await until(lambda: len(seen.lines) == 2)
    denied, ended = seen.lines
    assert (denied["msg"], ended["msg"], ended["duration_ms"]) == ("connection denied", "connection ended", 500.0)
    moments = [datetime.fromisoformat(str(line["ts"])).timestamp() for line in (denied, ended)]
    assert moments == pytest.approx([began, began + 0.5], abs=0.001)


async def test_who_asks_of_a_call_or_ends_the_sidecar_waits_for_no_moment() -> None:
    seen = Recorded()
    seen.denied()
    noted = seen.recorder.calls.find("ab" * 8)
    assert noted is not None
    assert noted.reason == DenyReason.METHOD_NOT_ALLOWED
    seen.denied()
    seen.recorder.catch_up()
    assert len(seen.lines) == 4
