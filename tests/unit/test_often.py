"""Lines that peers could cause without end are logged as often as the log bears, and the rest is counted."""

from __future__ import annotations

from ringfence.kit.clock import FakeClock
from sidecar.often import LINES_A_SECOND, LINES_AT_ONCE, Often


def test_a_burst_is_logged_then_so_many_a_second_and_what_was_not_is_told_once() -> None:
    clock = FakeClock()
    often = Often(clock.monotonic)
    assert [often.may() for _ in range(int(LINES_AT_ONCE) + 5)].count(True) == int(LINES_AT_ONCE)
    assert often.take_missed() == 5
    assert often.take_missed() == 0
    clock.advance(1.0)
    assert [often.may() for _ in range(50)].count(True) == int(LINES_A_SECOND)
    clock.advance(10_000.0)
    assert [often.may() for _ in range(500)].count(True) == int(LINES_AT_ONCE)
