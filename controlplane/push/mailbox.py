"""A mailbox of size one: whoever is slow misses what was overtaken, and costs no memory."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Mailbox(Generic[_T]):
    """Holds the latest item that was put and not yet taken; for one taker, on one event loop."""

    __slots__ = ("_event", "_item")

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._item: _T | None = None

    def put(self, item: _T) -> None:
        """Leave ``item`` for the taker, in the place of one that is still there."""
        self._item = item
        self._event.set()

    async def take(self) -> _T:
        """The latest item, once there is one."""
        while self._item is None:
            await self._event.wait()
        item, self._item = self._item, None
        self._event.clear()
        return item
