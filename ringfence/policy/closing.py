"""What stands in the place of a denylist of which no version can be enforced: it refuses everybody. Pure.

Left out it would let pass what it refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from ringfence.policy.bound import BoundPolicy
from ringfence.policy.model import AuthenticatedCallers, Denylist, Rule, UnauthenticatedCallers

CLOSED_RULE: Final = "this-denylist-cannot-be-enforced"
"""The rule by which such a denylist refuses everybody, as people find it among the reasons."""
_TOLD: Final = 10
"""Of many: one alone refuses everybody."""


def close(
    policies: Mapping[str, BoundPolicy], services: Iterable[str], denylists: Sequence[tuple[str, str]]
) -> dict[str, BoundPolicy]:
    """``policies`` in which these services refuse everybody, by namespace and name of each denylist that cannot be
    enforced."""
    if not denylists:
        return dict(policies)
    closed = tuple(_closed(namespace, name) for namespace, name in sorted(denylists)[:_TOLD])
    found = dict(policies)
    for service in services:
        bound = found.get(service, BoundPolicy())
        found[service] = replace(
            bound,
            policy=replace(bound.policy, denylists=(*bound.policy.denylists, *closed)),
            shadow=replace(bound.shadow, denylists=(*bound.shadow.denylists, *closed)) if bound.shadow else None,
        )
    return found


def _closed(namespace: str, name: str) -> Denylist:
    rule = Rule(name=CLOSED_RULE, callers=(AuthenticatedCallers(), UnauthenticatedCallers()))
    return Denylist(namespace=namespace, name=name, rules=(rule,))
