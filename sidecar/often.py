"""How often a kind of line may be logged, where peers decide how often it would be. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LINES_A_SECOND: Final = 10.0
LINES_AT_ONCE: Final = 100.0


class Often:
    """A bucket of lines; what does not fit is counted, for the next one that does to tell."""

    __slots__ = ("_at", "_left", "_monotonic", "missed")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left = LINES_AT_ONCE
        self._at = monotonic()
        self.missed = 0

    def may(self) -> bool:
        """Whether one may be logged now."""
        now = self._monotonic()
        self._left = min(LINES_AT_ONCE, self._left + (now - self._at) * LINES_A_SECOND)
        self._at = now
        if self._left < 1.0:
            self.missed += 1
            return False
        self._left -= 1.0
        return True

    def take_missed(self) -> int:
        """How many were not logged since this was asked last."""
        missed, self.missed = self.missed, 0
        return missed
