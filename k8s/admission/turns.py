"""Turns among those who ask: anybody in the cluster may, and no one of them is to take what the API server needs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

AT_ONCE: Final = 4
"""Questions of one source that are read and judged at a time; the others wait, with nothing of them read."""


class Turns:
    """By source, which is an address. What is kept of one lasts as long as its questions."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    @property
    def sources(self) -> int:
        """How many have questions now."""
        return len(self._slots)

    @asynccontextmanager
    async def of(self, source: str) -> AsyncIterator[None]:
        """Within, it is the turn of a question of ``source``."""
        slots = self._slots.setdefault(source, asyncio.Semaphore(self._at_once))
        self._users[source] += 1
        try:
            async with slots:
                yield
        finally:
            self._users[source] -= 1
            if not self._users[source]:
                del self._users[source], self._slots[source]
