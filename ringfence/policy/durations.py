"""Durations as documents and command lines write them. Pure."""

from __future__ import annotations

import re
from typing import Final

from ringfence.policy.problems import shown

_DURATION: Final = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?(?:([0-9]{1,9})ms)?"
)


class DurationError(ValueError):
    """A text that is no duration, or one out of range; ``mend`` says what to write."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(f"{message} ({mend})")
        self.message = message
        self.mend = mend


def parse_duration(text: str, low: float, high: float) -> float:
    """Seconds from units in falling order: ``2d``, ``1h30m``, ``10s``, ``500ms``. Raises DurationError."""
    match = _DURATION.fullmatch(text)
    if not match or not text:
        raise DurationError(f"{shown(text)} is not a duration", "write it like 500ms, 10s, 5m or 1h30m")
    days, hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    total = days * 86400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    if not low <= total <= high:
        upper = "" if high == float("inf") else f" to {high:g}s"
        raise DurationError(f"{shown(text)} is out of range", f"from {low:g}s{upper}")
    return total
