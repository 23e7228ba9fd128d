"""When to renew an SVID, and how long to wait after a failure. Pure.

Times are seconds. ``left`` is what the identity still has at the moment of the call, measured on a clock that the
machine's wall clock cannot upset where there is a choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ringfence.kit.backoff import Backoff

_JITTER: Final = 0.1
_FLOOR_SECONDS: Final = 1.0
_FIRST_RETRY_SECONDS: Final = 1.0
_RETRY_CAP_SECONDS: Final = 30.0
_RETRY_FLOOR_SECONDS: Final = 0.2
_DEADLINE_CAP_SECONDS: Final = 10.0
_DEADLINE_FLOOR_SECONDS: Final = 1.0


def renew_after(left_seconds: float, random: Callable[[], float]) -> float:
    """Seconds from receipt to renewal: half of what is left, a tenth of that earlier or later, never under a second.

    The jitter spreads a fleet that was started in one moment; the floor keeps a CA that issues seconds-long SVIDs from
    being asked in a tight loop.
    """
    half = max(0.0, left_seconds) / 2.0
    return max(_FLOOR_SECONDS, half * (1.0 - _JITTER + 2.0 * _JITTER * random()))


def retry_after(attempt: int, left_seconds: float, random: Callable[[], float]) -> float:
    """Seconds until retry number ``attempt`` (0 for the first) while ``left_seconds`` of the old identity remain.

    Capped exponential with jitter; the cap shrinks with what is left, so that a ten-second SVID gets several tries and
    a one-hour SVID does not press on a CA that is down. With nothing left the full schedule applies.
    """
    if left_seconds <= 0.0:
        return Backoff(first_seconds=_FIRST_RETRY_SECONDS, cap_seconds=_RETRY_CAP_SECONDS).delay(attempt, random)
    first = min(_FIRST_RETRY_SECONDS, left_seconds / 20.0)
    cap = min(_RETRY_CAP_SECONDS, left_seconds / 6.0)
    backoff = Backoff(first_seconds=max(_RETRY_FLOOR_SECONDS, first), cap_seconds=max(_RETRY_FLOOR_SECONDS, cap))
    return max(_RETRY_FLOOR_SECONDS / 10.0, backoff.delay(attempt, random))


def call_deadline(left_seconds: float) -> float:
    """Seconds that one call to the CA may take: never so long that no second one fits into what is left."""
    return min(_DEADLINE_CAP_SECONDS, max(_DEADLINE_FLOOR_SECONDS, left_seconds / 3.0))
