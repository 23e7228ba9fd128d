"""Budgets of frames: a burst is borne, a rate is borne for ever, more is a flood; no kind pays for another."""

from __future__ import annotations

import pytest

from ringfence.kit.clock import FakeClock
from sidecar.http2.frames import ENHANCE_YOUR_CALM
from sidecar.http2.guard import APP_BUDGETS, TUNNEL_BUDGETS, FloodError, FloodGuard

ALL = [(budgets, kind) for budgets in (TUNNEL_BUDGETS, APP_BUDGETS) for kind in budgets]


@pytest.mark.parametrize(("budgets", "kind"), ALL)
def test_a_burst_is_borne_and_one_frame_more_is_a_flood(
    budgets: dict[str, tuple[float, float]], kind: str, clock: FakeClock
) -> None:
    guard = FloodGuard(clock.monotonic, budgets)
    for _ in range(int(budgets[kind][1])):
        guard.spend(kind)
    with pytest.raises(FloodError) as caught:
        guard.spend(kind)
    assert (caught.value.code, caught.value.kind) == (ENHANCE_YOUR_CALM, kind)


@pytest.mark.parametrize(("budgets", "kind"), ALL)
def test_the_rate_is_borne_for_ever_after_a_burst(
    budgets: dict[str, tuple[float, float]], kind: str, clock: FakeClock
) -> None:
    rate, burst = budgets[kind]
    guard = FloodGuard(clock.monotonic, budgets)
    for _ in range(int(burst)):
        guard.spend(kind)
    for _ in range(1000):
        clock.advance(1.001 / rate)
        guard.spend(kind)
    with pytest.raises(FloodError):
        for _ in range(3):  # one may have been saved up
            guard.spend(kind)


def test_a_long_silence_saves_no_more_than_one_burst(clock: FakeClock) -> None:
    guard = FloodGuard(clock.monotonic)
    guard.spend("ping")
    clock.advance(1e9)
    for _ in range(int(TUNNEL_BUDGETS["ping"][1])):
        guard.spend("ping")
    with pytest.raises(FloodError):
        guard.spend("ping")


def test_a_flood_that_was_refused_costs_no_further_budget(clock: FakeClock) -> None:
    guard = FloodGuard(clock.monotonic)
    rate, burst = TUNNEL_BUDGETS["ping"]
    for _ in range(int(burst)):
        guard.spend("ping")
    for _ in range(1000):
        with pytest.raises(FloodError):
            guard.spend("ping")
    clock.advance(1.001 / rate)
    guard.spend("ping")


def test_kinds_and_connections_have_budgets_of_their_own(clock: FakeClock) -> None:
    guard, other = FloodGuard(clock.monotonic), FloodGuard(clock.monotonic)
    for _ in range(int(TUNNEL_BUDGETS["settings"][1])):
        guard.spend("settings")
    guard.spend("ping")
    other.spend("settings")
