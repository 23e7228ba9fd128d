"""Taps over all workers: what opens or closes a tap here is told to each, and their lines go to its reader. Adapter."""

from __future__ import annotations

import json
from collections.abc import Callable

from sidecar.tap import Tap, Taps
from sidecar.workers.messages import Message, TapClosed, TapOpened, Tapped


class WorkersTaps:
    """The parent's taps, and their numbers as the workers know them."""

    def __init__(self, tell: Callable[[Message], None]) -> None:
        self.taps = Taps()
        self.taps.changed = self._changed
        self._tell = tell
        self._open: dict[int, Tap] = {}
        self._last = 0

    def _changed(self) -> None:
        now = list(self.taps)
        for number, tap in list(self._open.items()):
            if tap not in now:
                del self._open[number]
                self._tell(TapClosed(tap=number))
        known = list(self._open.values())
        for tap in now:
            if tap not in known:
                self._last += 1
                self._open[self._last] = tap
                self._tell(_opened(self._last, tap))

    def opened(self) -> list[TapOpened]:
        """What a worker that comes later is to be told."""
        return [_opened(number, tap) for number, tap in self._open.items()]

    def tapped(self, message: Tapped) -> None:
        """Lines of a worker; ValueError if they are none. Its reader may have gone meanwhile."""
        tap = self._open.get(message.tap)
        if tap is None:
            return
        for line in message.blob.splitlines():
            told = json.loads(line)
            tap.missed += told.pop("missed", 0)
            tap.take(told)


def _opened(number: int, tap: Tap) -> TapOpened:
    wanted = tap.filter
    return TapOpened(
        tap=number,
        denied=wanted.denied,
        would_deny=wanted.would_deny,
        shadow=wanted.shadow,
        caller=wanted.caller,
        service=wanted.service,
    )
