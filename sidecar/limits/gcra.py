"""The generic cell rate algorithm: a leaky bucket whose whole state is one time. Pure; times in nanoseconds.

Source: ITU-T I.371, the virtual scheduling algorithm. What has been used is kept as the time at which all of it will
have been paid for. A time that has passed means the same as none, so whoever keeps such times may forget those.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ringfence.routing.model import Rate

SECOND_NS = 1_000_000_000
# Bytes are charged after they were read, by each connection of a caller: what they owe together still ends.
DEBT_LIMIT_NS = 600 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Bucket:
    """``rate``, of which ``burst`` units may be used at once after a pause."""

    rate: Rate
    burst: int
    tolerance_ns: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tolerance_ns", self.cost_ns(self.burst))

    def cost_ns(self, units: int) -> int:
        """In how long so many units are paid for, rounded up."""
        return -(-units * self.rate.seconds * SECOND_NS // self.rate.amount)

    def ask(self, paid_at: int, now: int) -> tuple[int, int]:
        """Use one unit if that is allowed: the new state, and 0, or for how long it is not allowed yet.

        A state that no use can have led to, as the clock went back or the limit has changed, counts as all used up.
        """
        paid_at = min(max(paid_at, now), now + self.tolerance_ns)
        after = paid_at + self.cost_ns(1)
        wait = after - self.tolerance_ns - now
        return (after, 0) if wait <= 0 else (paid_at, wait)

    def charge(self, paid_at: int, now: int, units: int) -> tuple[int, int]:
        """Use units that nobody can refuse any more: the new state, and how long to pause until they are paid for."""
        paid_at = min(max(paid_at, now), now + self.tolerance_ns + DEBT_LIMIT_NS)
        after = paid_at + self.cost_ns(units)
        return after, max(0, after - self.tolerance_ns - now)


def a_second_of(rate: Rate, *, least: int = 1) -> int:
    """How much a rate allows in a second: the burst where none is set."""
    return max(least, -(-rate.amount // rate.seconds))
