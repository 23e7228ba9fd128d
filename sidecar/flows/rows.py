"""What makes calls alike, and how many there were. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringfence.policy.decision import Decision, Deny
from ringfence.policy.learning.flow import Verdict
from ringfence.policy.learning.shapes import joined

_DIGITS: Final = "0123456789"


@dataclass(frozen=True, slots=True)
class RowKey:
    """What makes calls of one caller to one port alike; the words are those of ``Flow``."""

    method: str
    segments: tuple[str, ...] | None
    verdict: Verdict
    rule: str
    reason: str
    shadow: str

    @property
    def path(self) -> str:
        """As in ``Flow``."""
        return "" if self.segments is None else joined(self.segments) if self.segments != ("*",) else "*"

    @property
    def passed(self) -> bool:
        return self.verdict is not Verdict.DENY


class Row:
    """Calls that were alike, since the last report."""

    __slots__ = ("count", "decision", "first_seen", "key", "missed", "shadow")

    def __init__(self, key: RowKey, first_seen: float) -> None:
        self.key = key
        self.first_seen = first_seen
        self.count = 0
        self.missed = 0
        self.decision: Decision | None = None
        self.shadow: Decision | None = None

    @property
    def has_digits(self) -> bool:
        """Whether a word of the path that is kept has a digit in it."""
        return any(any(letter in word for letter in _DIGITS) for word in self.key.segments or ())


def key_of(decision: Decision, shadow: Decision | None, method: str, segments: tuple[str, ...] | None) -> RowKey:
    """Of a call with this verdict; ``segments``: its kept path, None where it has none or an ambiguous one."""
    if isinstance(decision, Deny):
        verdict, rule, reason = Verdict.DENY, decision.nearest or "", str(decision.reason)
    elif decision.would_deny is not None:
        verdict, rule, reason = Verdict.WOULD_DENY, decision.nearest or "", str(decision.would_deny)
    else:
        verdict, rule, reason = Verdict.PERMIT, decision.rule_name, ""
    shown = "" if shadow is None else str(shadow.reason) if isinstance(shadow, Deny) else "permit"
    return RowKey(method, segments, verdict, rule, reason, shown)
