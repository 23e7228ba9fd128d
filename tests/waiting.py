"""Waiting on a predicate, with a deadline: tests never sleep for a fixed time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

POLL_SECONDS = 0.005


async def until(predicate: Callable[[], object], *, deadline_seconds: float = 30.0) -> None:
    """Returns once ``predicate`` holds; TimeoutError if it does not in time."""
    async with asyncio.timeout(deadline_seconds):
        while not predicate():  # noqa: ASYNC110 (what is waited for is seen from outside only)
            await asyncio.sleep(POLL_SECONDS)
