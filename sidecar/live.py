"""The relays that live: every one is here from before it is judged until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from sidecar.relay import Relay

T = TypeVar("T")

_BETWEEN: Final = 128  # relays: two or three milliseconds of work where each ends
_A_TURN: Final = 16  # relays, each of which may have a thousand requests in flight


class LiveRelays(Generic[T]):
    """Relays, each with what its owner knows of it; somebody may wait for the last to end."""

    __slots__ = ("_none_left", "_table")

    def __init__(self) -> None:
        self._table: dict[Relay, T] = {}
        self._none_left = asyncio.Event()

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[tuple[Relay, T]]:
        """A copy, so that relays may end while they are gone through."""
        return iter(list(self._table.items()))

    def add(self, relay: Relay, known: T) -> None:
        self._table[relay] = known

    def discard(self, relay: Relay) -> None:
        self._table.pop(relay, None)
        if not self._table:
            self._none_left.set()

    def each(self, act: Callable[[Relay, T], object], between: Callable[[], None] = lambda: None) -> None:
        """Call ``act`` for each; one that fails is ended, and no other is passed over for it.

        ``between`` is called now and then on the way, to send on what was said so far where there are many.
        """
        done = 0
        for relay, known in self:
            if relay.ended:
                continue
            done += 1
            if not done % _BETWEEN:
                between()
            self._act(act, relay, known)

    async def each_in_turns(self, act: Callable[[Relay, T], object]) -> None:
        """The same where there is no hurry: the loop turns after every few, for what else there is to do."""
        for done, (relay, known) in enumerate(self, 1):
            if not relay.ended:
                self._act(act, relay, known)
            if not done % _A_TURN:
                await asyncio.sleep(0)

    @staticmethod
    def _act(act: Callable[[Relay, T], object], relay: Relay, known: T) -> None:
        try:
            act(relay, known)
        except Exception as error:
            relay.owner.relay_failed(relay, error)
            try:
                relay.end("reset", "defect", abort=True)
            except Exception:  # of what its kind does at its end; the connection ends all the same
                Relay.end(relay, "reset", "defect", abort=True)

    def sweep(self, now: float) -> None:
        """Let those that wait too long for their client go (``now``: monotonic seconds)."""
        self.each(lambda relay, _: relay.sweep(now))

    def drain(self) -> None:
        """Have each come to an end of its own."""
        self.each(lambda relay, _: relay.drain())

    async def drained(self, seconds: float) -> bool:
        """Wait until none is left, at most ``seconds``; False when some are."""
        self._none_left.clear()
        if not self._table:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._none_left.wait()
        except TimeoutError:
            return False
        return True
