"""Tells callers when workloads become ready or stop to be: at once, but seldom enough for a mesh that flaps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

# Ten pushes a second at most: each is a snapshot for every caller concerned, however many workloads it covers.
_LEAST_SECONDS: Final = 0.1
_TRY_AGAIN_SECONDS: Final = 1.0


class Readying:
    """One task runs ``run``; ``changed`` may be called as often as one likes."""

    def __init__(self, *, show: Callable[[], Awaitable[bool]], next_change: Callable[[], float | None]) -> None:
        """``show`` tells the callers, False to be called again; ``next_change``: in how many seconds something changes
        without a word from anybody, None for never."""
        self._show = show
        self._next_change = next_change
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something changed, or will."""
        self._changed.set()

    async def run(self) -> None:
        """For ever."""
        due_at = self._due_at()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due_at):
                    await self._changed.wait()
            self._changed.clear()
            # Asked before callers are told: what ends meanwhile, or in the rest after it, is overdue then and not lost.
            due_at = self._due_at()
            if await self._show():
                await asyncio.sleep(_LEAST_SECONDS)
            else:
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
                self._changed.set()

    def _due_at(self) -> float | None:
        """By the loop's clock."""
        seconds = self._next_change()
        return asyncio.get_running_loop().time() + seconds if seconds is not None else None
