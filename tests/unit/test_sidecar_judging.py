"""Judging costs a look-up where that is all there is to it, and reads what rules read where they do."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.policy.decision import Deny, Permit
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import ForwardedFor
from sidecar.caller import Caller
from sidecar.judging import Judging
from sidecar.plain_address import plain_address
from tests.data_path import WEB
from tests.unit.test_recording import Recorded
from tests.unit.test_sidecar_facts import http1

OFF = ForwardedFor.OFF
PERMIT = Permit("shop/api", "all")
DENY = Deny(DenyReason.HEADER_NOT_ALLOWED, "shop/api/all")


class View:
    """A policy that permits whatever has the header ``x-ok``, if it reads facts."""

    def __init__(self, *, reads_facts: bool) -> None:
        self.reads_facts = reads_facts
        self.asked: list[tuple[Any, ...]] = []

    def request(self, *asked: Any) -> Any:
        self.asked.append(asked)
        if not self.reads_facts:
            return PERMIT
        return PERMIT if asked[3].header(b"x-ok") else DENY

    def connection(self, *asked: Any) -> Any:
        self.asked.append(asked)
        return PERMIT


class Table:
    def __init__(self, view: View, changes_at: float | None = None) -> None:
        self.view = view
        self.at = changes_at
        self.callers: list[tuple[Any, str]] = []
        self.uses_time = False

    def caller(self, spiffe_id: Any, address: str = "") -> View:
        self.callers.append((spiffe_id, address))
        return self.view

    def changes_at(self, now: float) -> float | None:
        return self.at if self.at is not None and self.at > now else None


class Request:
    def __init__(self, *lines: str) -> None:
        self.method, self.target, self.fields = b"GET", b"/a", http1(*lines)
        self.host = self.fields.host
        self.withheld: frozenset[bytes] = frozenset()


def judged(table: Table, shadow: Table | None = None) -> tuple[Recorded, Caller]:
    recorded = Recorded()
    judging = Judging(
        table,  # type: ignore[arg-type]
        remarks=recorded.recorder.remarks,
        now=recorded.clock.now,
        shadow=shadow,  # type: ignore[arg-type]
    )
    caller = Caller(spiffe_id=WEB, view=table.view, address=b"::ffff:10.0.0.7")  # type: ignore[arg-type]
    caller.meet(judging)
    return recorded, caller


def test_a_policy_that_reads_no_facts_is_asked_without_any() -> None:
    table = Table(View(reads_facts=False))
    _, caller = judged(table)
    assert caller.plain
    assert caller.again(80, Request(), OFF) is PERMIT
    assert caller.connection(80) is PERMIT
    assert table.view.asked == [(80, b"GET", b"/a"), (80,)]
    assert table.callers == [(WEB, "10.0.0.7")]


def test_a_policy_that_reads_facts_finds_those_of_the_request() -> None:
    recorded, caller = judged(Table(View(reads_facts=True)))
    assert not caller.plain
    assert caller.request(recorded.facts(), Request("X-OK: 1"), OFF) is PERMIT  # type: ignore[arg-type]
    assert caller.request(recorded.facts(), Request("x-no: 1"), OFF) is DENY  # type: ignore[arg-type]
    assert caller.again(80, Request("x-no: 1"), OFF) is DENY  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["in force", "shadow"])
def test_observation_and_a_shadow_are_never_passed_by(policy: str) -> None:
    table = Table(View(reads_facts=False), changes_at=2e9 if policy == "in force" else None)
    shadow = Table(View(reads_facts=True)) if policy == "shadow" else None
    recorded, caller = judged(table, shadow)
    assert not caller.plain
    assert caller.request(recorded.facts(), Request(), OFF) is PERMIT
    assert caller.connection(80) is PERMIT
    assert all(asked[-1].now == recorded.clock.now() for asked in table.view.asked)


def test_judging_again_counts_no_shadow_verdict() -> None:
    recorded, caller = judged(Table(View(reads_facts=False)), Table(View(reads_facts=True)))
    caller.again(80, Request(), OFF)  # type: ignore[arg-type]
    assert not recorded.metrics.shadow_verdicts.table
    caller.request(recorded.facts(), Request(), OFF)  # type: ignore[arg-type]
    [(labels, count)] = recorded.metrics.shadow_verdicts.table.items()
    assert (labels[0], labels[3], count.value) == ("would_deny", "header_not_allowed", 1)


def test_without_a_shadow_from_now_on_calls_are_looked_up_again() -> None:
    table = Table(View(reads_facts=False))
    recorded, caller = judged(table, Table(View(reads_facts=True)))
    assert not caller.plain
    caller.meet(Judging(table, remarks=recorded.recorder.remarks, now=recorded.clock.now))  # type: ignore[arg-type]
    assert caller.plain
    assert caller.shadow is None


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"10.0.0.7", "10.0.0.7"),
        (b"::ffff:10.0.0.7", "10.0.0.7"),
        (b"FD00:0::1", "fd00::1"),
        (b"", ""),
        (b"nowhere", ""),
    ],
)
def test_an_address_has_one_form(sent: bytes, shown: str) -> None:
    assert plain_address(sent) == shown


def test_a_shadow_that_has_to_ask_about_a_token_is_no_verdict_and_holds_nothing_up() -> None:
    class Asking(View):
        def request(self, *asked: Any) -> Any:
            asked[3].waits = object()
            return DENY

    recorded, caller = judged(Table(View(reads_facts=False)), Table(Asking(reads_facts=True)))
    assert caller.request(recorded.facts(), Request(), OFF) is PERMIT  # type: ignore[arg-type]
    assert caller.take_waits() is None
    assert caller.shadow_verdict is None
    assert not recorded.metrics.shadow_verdicts.table
