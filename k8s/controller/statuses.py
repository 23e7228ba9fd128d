"""What is written into the status of a document. Pure.

Conditions: ``Accepted``, it is in force as it is written; ``Enforced``, by every sidecar that it concerns; ``Ready``,
both, as tools wait for it; and ``Stalled``, there only while it is refused, by which GitOps tools tell a failure from
what is under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ringfence.platform import DocumentStanding
from ringfence.policy.problems import Problem

_PROBLEMS_TOLD: Final = 5
_MESSAGE_LIMIT_CHARACTERS: Final = 2048

Status = dict[str, Any]


def status_of(standing: DocumentStanding, generation: int, held: Mapping[str, Any], now: float) -> Status | None:
    """The status to write in the place of ``held``; None where that says the same."""
    conditions = [_accepted(standing), _enforced(standing)]
    ready = all(one["status"] == "True" for one in conditions)
    worst = next((one for one in conditions if one["status"] != "True"), conditions[-1])
    conditions.append(_condition("Ready", ready, worst["reason"], worst["message"]))
    if not standing.accepted:
        conditions.append(_condition("Stalled", True, conditions[0]["reason"], conditions[0]["message"]))
    made: Status = {
        "observedGeneration": generation,
        "enforced": f"{standing.enforcing}/{standing.workloads}",
        "workloads": standing.workloads,
        "enforcing": standing.enforcing,
        "waiting": list(standing.waiting),
        "conditions": [_dated(one, generation, held, now) for one in conditions],
    }
    return None if made == dict(held) else made


def _accepted(standing: DocumentStanding) -> Status:
    told = _told(standing.problems)
    if standing.accepted:
        return _condition("Accepted", True, "AcceptedWithWarnings" if told else "Accepted", told or "it is in force")
    if standing.stands_in:
        generation = standing.stands_in.rpartition("/")[2]
        earlier = f"generation {generation} of it" if generation else "an earlier version of it"
        return _condition("Accepted", False, "EarlierVersionInForce", f"{earlier} is still in force; {told}")
    return _condition("Accepted", False, "Invalid", f"it is not in force; {told}")


def _enforced(standing: DocumentStanding) -> Status:
    if not standing.accepted:
        return _condition("Enforced", False, "NotAccepted", "this version is in force nowhere")
    if not standing.workloads:
        return _condition("Enforced", True, "NoWorkloads", "it concerns no workload now")
    counted = f"by {standing.enforcing} of {standing.workloads} sidecars"
    if standing.enforcing >= standing.workloads:
        return _condition("Enforced", True, "Enforced", counted)
    return _condition("Enforced", False, "Waiting", "; ".join((counted, *standing.waiting)))


def _told(problems: tuple[Problem, ...]) -> str:
    ranked = sorted(problems, key=lambda one: (not one.is_error, one))
    shown = "; ".join(str(one) for one in ranked[:_PROBLEMS_TOLD])
    rest = len(ranked) - _PROBLEMS_TOLD
    return f"{shown}; and {rest} more" if rest > 0 else shown


def _condition(kind: str, holds: bool, reason: str, message: str) -> Status:
    cut = message if len(message) <= _MESSAGE_LIMIT_CHARACTERS else message[: _MESSAGE_LIMIT_CHARACTERS - 1] + "…"
    return {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": cut}


def _dated(condition: Status, generation: int, held: Mapping[str, Any], now: float) -> Status:
    """With the moment of its last change, which is the old one where it holds as before."""
    several = held.get("conditions")
    before = next(
        (
            one
            for one in (several if isinstance(several, list) else ())
            if isinstance(one, Mapping) and one.get("type") == condition["type"]
        ),
        {},
    )
    since = before.get("lastTransitionTime") if before.get("status") == condition["status"] else None
    moment = since or datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**condition, "observedGeneration": generation, "lastTransitionTime": moment}
