"""How much a source may have read and judged in a time. Reading a review takes the time of the whole control plane.

Turns (``turns``) bound how much of a source is in hand; that alone would let it keep the process busy for ever with one
question after another. The measure is how many values a body says, since that is what reading and judging it costs.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

VALUES_LIMIT: Final = 300_000
"""Of a review: a document of as many values as one may have, as it was and is, twice each, as it stands once more in
an annotation of kubectl's; and who manages its fields."""
POD_VALUES: Final = 50_000
"""Of a review of a pod: a usual one says some three hundred."""
PER_SECOND: Final = 100_000
"""Of a source: three parts in ten of one processor at the worst, and some 150 usual pods."""
_EACH: Final = 200  # what a question costs by itself
_SOURCES: Final = 1_024


def values_of(body: bytes) -> int:
    """How many values a JSON text says at most, found without reading it."""
    return 1 + body.count(b",") + body.count(b"[") + body.count(b"{")


class Pace:
    """By source, which is an address: ``at_once`` values without a wait, and then as many a second."""

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        at_once: float = VALUES_LIMIT,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._per_second = per_second
        self._at_once_seconds = at_once / per_second
        self._monotonic = monotonic
        self._pause = pause
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    @property
    def sources(self) -> int:
        """Of how many something is remembered."""
        return len(self._paid_until)

    async def take(self, source: str, values: int) -> None:
        """Returns when ``source`` may have as many values more read."""
        now = self._monotonic()
        paid_until = max(now, self._paid_until.get(source, now)) + (values + _EACH) / self._per_second
        self._paid_until[source] = paid_until
        self._paid_until.move_to_end(source)
        self._forget(now)
        wait = paid_until - self._at_once_seconds - now
        if wait > 0:
            await self._pause(wait)

    def _forget(self, now: float) -> None:
        """Who owes nothing; and of too many who owe, those who were heard of longest ago."""
        while self._paid_until:
            source, paid_until = next(iter(self._paid_until.items()))
            if paid_until > now and len(self._paid_until) <= _SOURCES:
                return
            del self._paid_until[source]
