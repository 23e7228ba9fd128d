"""How often the API server is asked about one pod. Pure.

Who holds a good token of a pod could show it again and again, and have the API server asked each time, which is not
ours to overload; all other pods would wait for their first identity behind him. A sidecar needs one answer, and a few
more where an answer is lost.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

AT_ONCE: Final = 10
_APART_SECONDS: Final = 2.0
_REMEMBERED: Final = 4_096


class OftenAsked:
    """By subject."""

    def __init__(self) -> None:
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    @property
    def remembered(self) -> int:
        """Of how many something is known."""
        return len(self._paid_until)

    def asks(self, subject: str, now: float) -> bool:
        """Whether ``subject`` may be asked about once more at ``now``, in monotonic seconds, and counts it if so."""
        paid_until = max(now, self._paid_until.get(subject, now))
        if paid_until > now + (AT_ONCE - 1) * _APART_SECONDS:
            return False
        self._paid_until[subject] = paid_until + _APART_SECONDS
        self._paid_until.move_to_end(subject)
        self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        """Those of whom the last was long ago; and of too many, those that were heard of first."""
        while self._paid_until:
            subject, paid_until = next(iter(self._paid_until.items()))
            if paid_until > now and len(self._paid_until) <= _REMEMBERED:
                return
            del self._paid_until[subject]
