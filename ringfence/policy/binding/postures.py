"""Until when each service is only observed. Pure: the present moment is an argument."""

from __future__ import annotations

from collections.abc import Mapping

from ringfence.policy.binding.catalog import Catalog
from ringfence.policy.binding.selection import Selection
from ringfence.policy.bounds import OBSERVE_LIMIT_SECONDS
from ringfence.policy.problems import Problem


def bind_postures(catalog: Catalog, selection: Selection, now: float, problems: list[Problem]) -> Mapping[str, float]:
    """Full name of a service to the latest end of its postures (Unix seconds), for those that have one to come."""
    found: dict[str, float] = {}
    for document in catalog.postures:
        until = document.until
        services = selection.select(document.header, document.selector, "posture")
        if until.value <= 0:
            continue  # told where it was read
        if until.value <= now:
            message = "this posture has ended, so that it means nothing: default deny is in force"
            problems.append(until.place.warning(message, "remove the document, or set a new end"))
            continue
        if until.value - now > OBSERVE_LIMIT_SECONDS:
            days = int(OBSERVE_LIMIT_SECONDS // 86_400)
            message = f"this posture ends in {(until.value - now) / 86_400:.0f} days"
            problems.append(until.place.problem(message, f"at most {days} days: set an earlier end"))
            continue
        for service in services:
            found[service] = max(found.get(service, 0.0), until.value)
    return found
