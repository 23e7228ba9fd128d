"""How much each of many has had lately: the generic cell rate algorithm (ITU-T I.371), by key. Pure."""

from __future__ import annotations

from collections import OrderedDict


class CellRate:
    """For each key until when it has paid in advance, on the caller's monotonic clock; of more than ``limit`` keys
    those are forgotten that were heard of longest ago, and at any time those that are not ahead."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Of how many something is remembered."""
        return len(self._paid_until)

    def ahead(self, key: str, now: float) -> float:
        """By how many seconds it is ahead of ``now``; 0 where it is not."""
        return max(self._paid_until.get(key, now) - now, 0.0)

    def pay(self, key: str, seconds: float, now: float) -> float:
        """Count what takes ``seconds`` of its time; by how many it is ahead then."""
        ahead = self.ahead(key, now) + seconds
        self._paid_until[key] = now + ahead
        self._paid_until.move_to_end(key)
        while self._paid_until:
            oldest, paid_until = next(iter(self._paid_until.items()))
            if paid_until > now and len(self._paid_until) <= self._limit:
                break
            del self._paid_until[oldest]
        return ahead
