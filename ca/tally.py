"""Counts of what the authority did, for the control plane's metrics: by method and by outcome, both closed sets."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping


class Tally:
    """Counters keyed by (method, outcome).

    The method is ``join``, ``challenge``, ``attest``, ``prove`` or ``renew``, the outcome ``done``, a RefusalReason, or
    one of the words of ca.border.
    """

    __slots__ = ("_counts", "_lock")

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def count(self, method: str, outcome: str) -> None:
        with self._lock:
            self._counts[method, outcome] += 1

    def totals(self) -> Mapping[tuple[str, str], int]:
        """A copy of all counts since the start."""
        with self._lock:
            return dict(self._counts)
