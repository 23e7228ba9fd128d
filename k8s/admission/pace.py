"""How much a source may have read and judged in a time. Reading a review takes the time of the whole control plane.

Turns (``turns``) bound how much of a source is in hand; that alone would let it keep the process busy for ever with one
question after another. The measure is how many values a body says, since that is what reading and judging it costs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ringfence.kit.cell_rate import CellRate

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
        self._taken = CellRate(_SOURCES)

    @property
    def sources(self) -> int:
        """Of how many something is remembered."""
        return len(self._taken)

    async def take(self, source: str, values: int) -> None:
        """Returns when ``source`` may have as many values more read."""
        ahead = self._taken.pay(source, (values + _EACH) / self._per_second, self._monotonic())
        if ahead > self._at_once_seconds:
            await self._pause(ahead - self._at_once_seconds)
