"""What is done a moment later, so that it keeps nobody who is in a hurry. Adapter.

A change of policy may end a thousand connections at once. To tell of one costs more than to end it, so the last would
stay open for as long as it takes to tell of all others: they are ended first and told of behind that, a few in each
turn of the loop. What waits is bounded: beyond the bound each new one has the oldest done at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

MOMENT_SECONDS: Final = 0.05  # in which a thousand connections have ended on a slow machine, and nobody misses a line
WAITING_LIMIT: Final = 4096
_A_TURN: Final = 16


class Later:
    """Acts wait here for their moment, and are done in their order."""

    __slots__ = ("_due", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._due = False

    def __call__(self, act: Callable[[], None]) -> None:
        """Do ``act`` in a moment, from the loop that runs."""
        self._waiting.append(act)
        if len(self._waiting) > WAITING_LIMIT:
            self._waiting.popleft()()
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(MOMENT_SECONDS, self._some)

    def all(self) -> None:
        """Do now what waits: somebody asks for it, or there is no later."""
        waiting = self._waiting
        while waiting:
            waiting.popleft()()

    def _some(self) -> None:
        waiting = self._waiting
        try:
            for _ in range(min(len(waiting), _A_TURN)):
                waiting.popleft()()
        finally:
            self._due = bool(waiting)
            if self._due:
                asyncio.get_running_loop().call_soon(self._some)
