"""When a child is started again, and what its end is called."""

from __future__ import annotations

import signal

from controlplane.up.restarts import RestartPolicy, Restarts, describe_exit
from ringfence.kit.backoff import Backoff

POLICY = RestartPolicy(backoff=Backoff(first_seconds=0.2, cap_seconds=2.0), stable_seconds=10.0, crash_loop_exits=3)


def _after(*runs: float) -> Restarts:
    memory = Restarts()
    for ran_seconds in runs:
        memory = memory.after_exit(POLICY, ran_seconds)
    return memory


def test_the_delay_grows_with_exits_in_a_row_up_to_the_cap() -> None:
    delays = [_after(*[0.0] * count).delay(POLICY, lambda: 1.0) for count in range(1, 8)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_the_delay_is_jittered_and_never_zero() -> None:
    memory = _after(0.0)
    assert memory.delay(POLICY, lambda: 0.5) != memory.delay(POLICY, lambda: 0.25)
    assert memory.delay(POLICY, lambda: 0.0) > 0.0


def test_a_stable_run_begins_the_count_anew() -> None:
    assert _after(0.0, 0.0, 10.0).in_a_row == 1
    assert _after(0.0, 0.0, 9.9).in_a_row == 3
    assert _after(0.0, 0.0, 10.0).total == 3


def test_a_crash_loop_is_named_at_the_set_number_of_exits() -> None:
    assert not _after(0.0, 0.0).crash_looping(POLICY)
    assert _after(0.0, 0.0, 0.0).crash_looping(POLICY)
    assert not _after(0.0, 0.0, 0.0, 60.0).crash_looping(POLICY)


def test_an_exit_is_described_by_status_or_by_the_signal_s_name() -> None:
    assert describe_exit(3) == "exited with status 3"
    assert describe_exit(-signal.SIGKILL) == "was killed by SIGKILL"
    assert describe_exit(-250) == "was killed by signal 250"
