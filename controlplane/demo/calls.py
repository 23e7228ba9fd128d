"""A call of the demo as values: who asks whom for what, what should come of it, and what did."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What came of a call.

    ``outcome`` is written like the expectation it is compared with: ``permitted: 200`` or ``refused: <reason>``.
    ``reason`` is the stable code of a refusal, or the policy and rule that permitted; ``told_by`` the process that gave
    the reason, ``story`` its words for people.
    """

    outcome: str
    reason: str = ""
    told_by: str = ""
    story: str = ""


def permitted(answer: str, *, reason: str = "", told_by: str = "", story: str = "") -> Observed:
    return Observed(outcome=f"permitted: {answer}", reason=reason, told_by=told_by, story=story)


def refused(reason: str, *, told_by: str = "", story: str = "") -> Observed:
    return Observed(outcome=f"refused: {reason}", reason=reason, told_by=told_by, story=story)


def failed(what: str) -> Observed:
    """Neither permitted nor refused by the mesh: something is broken."""
    return Observed(outcome=f"failed: {what}")


class Stopwatch:
    """How long a caller waited for its outcome; looking the reason up in a log afterwards does not count."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._stopped: float | None = None

    def stop(self) -> None:
        self._stopped = time.perf_counter()

    @property
    def milliseconds(self) -> float:
        return ((self._stopped or time.perf_counter()) - self._started) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """A call that was made; ``milliseconds`` is how long its caller waited for the outcome."""

    source: str
    target: str
    protocol: str
    request: str
    expected: str
    observed: Observed
    milliseconds: float

    @property
    def as_expected(self) -> bool:
        return self.observed.outcome == self.expected

    def facts(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "from": self.source,
            "to": self.target,
            "protocol": self.protocol,
            "request": self.request,
            "expected": self.expected,
            "observed": self.observed.outcome,
            "reason": self.observed.reason,
            "milliseconds": round(self.milliseconds, 1),
            "told_by": self.observed.told_by,
            "story": self.observed.story,
        }
