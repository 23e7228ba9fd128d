"""How often the API server is asked about one pod. Pure.

Who holds a good token of a pod could show it again and again, and have the API server asked each time, which is not
ours to overload; all other pods would wait for their first identity behind him. A sidecar needs one answer, and a few
more where an answer is lost.
"""

from __future__ import annotations

from typing import Final

from ringfence.kit.cell_rate import CellRate

AT_ONCE: Final = 10
_APART_SECONDS: Final = 2.0
_REMEMBERED: Final = 4_096


class OftenAsked:
    """By subject."""

    def __init__(self) -> None:
        self._asked = CellRate(_REMEMBERED)

    @property
    def remembered(self) -> int:
        """Of how many something is known."""
        return len(self._asked)

    def asks(self, subject: str, now: float) -> bool:
        """Whether ``subject`` may be asked about once more at ``now``, in monotonic seconds, and counts it if so."""
        if self._asked.ahead(subject, now) > (AT_ONCE - 1) * _APART_SECONDS:
            return False
        self._asked.pay(subject, _APART_SECONDS, now)
        return True
