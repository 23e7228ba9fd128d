"""What connections to a port have spoken so far: a hint for the next one, never a rule. Pure.

It only says for what it is worth waiting, and how long; a wrong one costs some milliseconds and is replaced.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from sidecar.first_bytes import Spoken

HINTS_LIMIT: Final = 1024


class Hints:
    """The last that was found out, by port or by service and port; when there are too many, the oldest goes."""

    __slots__ = ("_limit", "_spoken")

    def __init__(self, limit: int = HINTS_LIMIT) -> None:
        self._limit = limit
        self._spoken: dict[Hashable, Spoken] = {}

    def __len__(self) -> int:
        return len(self._spoken)

    def get(self, key: Hashable) -> Spoken | None:
        return self._spoken.get(key)

    def put(self, key: Hashable, spoken: Spoken) -> None:
        if key not in self._spoken and len(self._spoken) >= self._limit:
            del self._spoken[next(iter(self._spoken))]
        self._spoken[key] = spoken
