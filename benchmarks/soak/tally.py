"""What was expected of each call and what came of it. Pure.

A call is permitted for good, forbidden for good, or changes with the policy's revisions. The last kind is only judged
outside the moments of a change, in which either answer is right.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

SAMPLES = 20


class Expected(StrEnum):
    """What the policy says of a call, whatever its revision; ``CHANGING`` follows the revision."""

    PERMITTED = "permitted"
    FORBIDDEN = "forbidden"
    CHANGING = "changing"


class Seen(StrEnum):
    """What the caller saw."""

    SERVED = "served"  # the right answer, whole
    REFUSED = "refused"  # as a refusal of the mesh looks in the call's protocol
    CUT = "cut"  # ended in the middle of the right answer, as a change of policy ends what it denies
    FAILED = "failed"  # anything else


@dataclass(slots=True)
class Changes:
    """When the policy permitted the calls that change; times are monotonic seconds.

    ``settle_seconds``: for so long after a document was saved either verdict may be met.
    """

    settle_seconds: float
    moments: list[tuple[float, bool]] = field(default_factory=list)

    def saved(self, now: float, permitted: bool) -> None:
        self.moments.append((now, permitted))

    def verdict(self, began: float, ended: float) -> bool | None:
        """Whether a call between these moments was permitted; None where either is right."""
        held: bool | None = None
        for moment, permitted in self.moments:
            if moment <= ended and began <= moment + self.settle_seconds:
                return None
            if moment <= began:
                held = permitted
        return held


@dataclass(slots=True)
class Tally:
    """Counts of all calls by kind, and the first of those that went wrong, in words."""

    changes: Changes
    calls: Counter[tuple[str, Expected, Seen]] = field(default_factory=Counter)
    failed_permitted: int = 0
    permitted_forbidden: int = 0
    samples: list[str] = field(default_factory=list)

    def count(self, kind: str, expected: Expected, seen: Seen, detail: str, *, began: float, ended: float) -> None:
        """One call that is over; ``detail`` says what was seen when it was not what was expected."""
        self.calls[kind, expected, seen] += 1
        permitted: bool | None = expected is Expected.PERMITTED
        if expected is Expected.CHANGING:
            permitted = self.changes.verdict(began, ended)
            if permitted is None and seen is not Seen.FAILED:
                return
        if seen is Seen.FAILED or (permitted and seen is not Seen.SERVED):
            self.failed_permitted += 1
        elif permitted is False and seen is not Seen.REFUSED:
            self.permitted_forbidden += 1
        else:
            return
        if len(self.samples) < SAMPLES:
            self.samples.append(f"{kind}, {expected}: {seen}, {detail}")

    def by_kind(self) -> dict[str, dict[str, int]]:
        """``{kind: {"permitted served": n, …}}`` for a report."""
        found: dict[str, dict[str, int]] = {}
        for (kind, expected, seen), count in sorted(self.calls.items()):
            found.setdefault(kind, {})[f"{expected} {seen}"] = count
        return found
