"""Capped exponential backoff with full jitter, as a pure schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delay before attempt n: a random share of ``min(cap, first * 2**n)``, and never less than a tenth of it.

    A floor keeps a whole fleet from drawing zero at once; the jitter keeps it from returning in step.
    """

    first_seconds: float = 0.2
    cap_seconds: float = 30.0

    def delay(self, attempt: int, random: Callable[[], float]) -> float:
        """Seconds to wait before retry number ``attempt`` (0 for the first); ``random`` draws from [0, 1)."""
        full = min(self.cap_seconds, self.first_seconds * 2.0 ** min(attempt, 32))
        return full * (0.1 + 0.9 * random())
