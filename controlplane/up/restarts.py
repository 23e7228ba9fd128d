"""When a child that ended is started again. Pure: exits and times in, a delay and a verdict out."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ringfence.kit.backoff import Backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How often to try."""

    backoff: Backoff = field(default_factory=lambda: Backoff(first_seconds=0.2, cap_seconds=15.0))
    """Delays before the next start: the first soon, so that one crash costs little; jittered and capped."""

    stable_seconds: float = 10.0
    """A child that ran this long had really started: its count of failures begins anew."""

    crash_loop_exits: int = 5
    """As many exits in a row, none after a stable run, are called a crash loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """What is remembered of one child: exits in a row that came before it ran stably, and all of them."""

    in_a_row: int = 0
    total: int = 0

    def after_exit(self, policy: RestartPolicy, ran_seconds: float) -> Restarts:
        """The memory after one more exit, of a run of ``ran_seconds``."""
        row = 1 if ran_seconds >= policy.stable_seconds else self.in_a_row + 1
        return replace(self, in_a_row=row, total=self.total + 1)

    def delay(self, policy: RestartPolicy, random: Callable[[], float]) -> float:
        """Seconds before the next start; call after ``after_exit``. ``random`` draws from [0, 1)."""
        return policy.backoff.delay(max(0, self.in_a_row - 1), random)

    def crash_looping(self, policy: RestartPolicy) -> bool:
        return self.in_a_row >= policy.crash_loop_exits


def describe_exit(code: int) -> str:
    """How a process ended, for people; ``code`` as ``Popen.returncode`` has it (negative: the signal's number)."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
