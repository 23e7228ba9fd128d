"""One moment of the wall clock at which something is due, kept by a timer of the loop. Adapter.

The loop's clock and the wall clock are two: the timer looks at the latter when it fires, and whoever sweeps every few
seconds looks, too, since the wall clock can be set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_LONGEST_TIMER_SECONDS: Final = 3600.0
_SHORTEST_TIMER_SECONDS: Final = 0.01


class Moment:
    """Calls ``act`` once when it has come."""

    __slots__ = ("_act", "_at", "_now", "_timer")

    def __init__(self, now: Callable[[], float], act: Callable[[], None]) -> None:
        """``now``: Unix seconds."""
        self._now = now
        self._act = act
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, at: float | None) -> None:
        """It is this one from now on (Unix seconds); None: none."""
        self._cancel()
        self._at = at
        if at is not None:
            delay = min(max(at - self._now(), _SHORTEST_TIMER_SECONDS), _LONGEST_TIMER_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(delay, self.look)

    def look(self) -> None:
        """Act if it has come."""
        at = self._at
        if at is None:
            return
        if self._now() >= at:
            self.watch(None)
            self._act()
        elif self._timer is None or self._timer.when() <= asyncio.get_running_loop().time():
            self.watch(at)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
