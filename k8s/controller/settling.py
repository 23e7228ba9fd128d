"""Gathers bursts: whoever has much to do at each change does it once they pause, and never too often. Adapter."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ringfence.kit.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """In seconds: how long nothing may come before it is done; how long it is put off at most where changes never
    pause; and how far apart two times are at least."""

    settle_seconds: float = 0.05
    patience_seconds: float = 0.25
    apart_seconds: float = 0.1


class Settler:
    """``stir`` says that something changed; ``settled`` returns when it is time to look."""

    def __init__(self, clock: Clock, pace: Pace | None = None) -> None:
        self._clock = clock
        self._pace = pace or Pace()
        self._stirred = asyncio.Event()
        self._first = 0.0
        self._last = 0.0
        self._done = float("-inf")

    def stir(self) -> None:
        now = self._clock.monotonic()
        if not self._stirred.is_set():
            self._first = now
            self._stirred.set()
        self._last = now

    async def settled(self) -> None:
        """Waits for a change, then for its burst to end. What changes from its return on counts for the next time."""
        await self._stirred.wait()
        while (delay := self._until() - self._clock.monotonic()) > 0:  # noqa: ASYNC110 (each change moves the end)
            await asyncio.sleep(delay)
        self._stirred.clear()
        self._done = self._clock.monotonic()

    def _until(self) -> float:
        pace = self._pace
        calm = min(self._last + pace.settle_seconds, self._first + pace.patience_seconds)
        return max(calm, self._done + pace.apart_seconds)
