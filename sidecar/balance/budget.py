"""How much may be tried again, so that retries never become the load that they answer to. Pure."""

from __future__ import annotations

from typing import Final

RESERVE: Final = 10.0  # retries that a service with little traffic may have, one a second again
CAPACITY: Final = 100.0  # what quiet times save up


class RetryBudget:
    """Every call pays in its share, every retry takes one out; time pays in too, up to the reserve.

    So of ``n`` calls in ``t`` seconds at most ``CAPACITY + n * percent / 100 + t`` are tried again.
    """

    __slots__ = ("_at", "_balance", "_paid_in", "_share")

    def __init__(self, percent: int, now: float) -> None:
        self._share = percent / 100
        self._balance = RESERVE if percent else 0.0
        self._paid_in = 0
        self._at = now

    def set_percent(self, percent: int) -> None:
        self._share = percent / 100
        if not percent:
            self._balance = 0.0

    def withdraw(self, calls: int, now: float) -> bool:
        """Whether one may be tried again now; ``calls`` were begun in all."""
        if not self._share:
            return False
        balance = self._balance
        if balance < RESERVE:
            balance = min(RESERVE, balance + max(0.0, now - self._at))
        balance = min(CAPACITY, balance + (calls - self._paid_in) * self._share)
        self._paid_in, self._at = calls, now
        if balance < 1.0:
            self._balance = balance
            return False
        self._balance = balance - 1.0
        return True
