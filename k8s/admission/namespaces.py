"""Which namespace a pod is to be made in: as the watch has it, or else as the API server has it now.

Whoever reaches the webhook can have the second asked, by naming a namespace that has no label, or none. So it is asked
one at a time, in the order in which they came, and not sooner than a moment after the one before: as a source has few
turns, few of its questions stand before anybody else's. No answer is kept: a pod that is made a moment after its
namespace was labelled would be let go by it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from k8s.objects.namespaces import Namespace
from ringfence.kit.labels import is_label

APART_SECONDS: Final = 0.05


class NamespaceFinder:
    """``held``: by name, as the watch has it; ``ask``: the API server, which may raise OSError."""

    def __init__(
        self,
        held: Callable[[str], Namespace | None],
        ask: Callable[[str], Awaitable[Namespace | None]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._held = held
        self._ask = ask
        self._monotonic = monotonic
        self._pause = pause
        self._asking = asyncio.Lock()
        self._next = float("-inf")

    async def __call__(self, name: str, *, fresh: bool) -> Namespace | None:
        """As ``injecting.FindNamespace``."""
        held = self._held(name)
        if held is not None and not fresh:
            return held
        if not is_label(name):
            return None
        async with self._asking:
            wait = self._next - self._monotonic()
            if wait > 0:
                await self._pause(wait)
            self._next = self._monotonic() + APART_SECONDS
            return await self._ask(name)
