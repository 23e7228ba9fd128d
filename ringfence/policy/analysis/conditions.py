"""What a condition reads of a call, and what it makes of that, as a person reads it. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Final

from ringfence.policy.addresses import parse_address
from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.world import WorldService
from ringfence.policy.conditions import Condition, ConditionFailedError, Conditions
from ringfence.policy.guards import Asked
from ringfence.policy.paths import judged_path
from ringfence.policy.problems import shown
from ringfence.policy.views import source_of

_SHOWN: Final = 400


def reads_call(when: str) -> bool:
    """Whether a condition reads what only a request has."""
    return bool(when) and _compiled(when).reads_call


def spelled_outcome(when: str, service: WorldService, call: Call) -> str:
    """``false, with request.path '/orders/7'``; or that it cannot be told, and what is not known."""
    condition = _compiled(when)
    known = {
        "destination.service": service.name,
        "destination.namespace": service.namespace,
        "destination.labels": dict(service.labels),
        **source_of(call.caller, parse_address(call.address)),
    }
    path = None if call.opaque else judged_path(call.path.encode())
    asked = Asked(
        call.facts, known, lambda name: None, call.port, (call.method.encode(), path) if path is not None else None
    )
    values = asked.values(condition)
    try:
        outcome = "true" if condition.holds(values) else "false"
    except ConditionFailedError:
        outcome = "not to be told"
    parts = [f"{name} {_spelled(values, name)}" for name in sorted(condition.reads) if not _is_whole(condition, name)]
    text = f"{outcome}, with {', '.join(parts)}" if parts else outcome
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _is_whole(condition: Condition, name: str) -> bool:
    """Whether ``token`` is only read on the way to a part of it."""
    return name == "token" and any(other.startswith("token.") for other in condition.reads)


def _spelled(values: Mapping[str, object], name: str) -> str:
    if name not in values:
        return "not known"
    value = values[name]
    if name == "token":
        return "there" if value is not None else "not there"
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="seconds")
    return shown(value) if isinstance(value, str) else str(value)


def _compiled(when: str) -> Condition:
    return Conditions().compile(when)
