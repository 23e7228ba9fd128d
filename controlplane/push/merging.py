"""What several services say of one workload, united. Pure.

A workload may stand behind several services, each with ports and policies of its own. What a document says of a service
holds at that service's ports and nowhere else: who may call one service of a workload may not call the other by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ringfence.policy.bound import BoundPolicy
from ringfence.policy.model import Allowlist, Denylist, EgressRule, PolicySet, Rule, TokenIssuer

L = TypeVar("L", Allowlist, Denylist)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One service's policy, and the workload's ports behind it."""

    policy: BoundPolicy
    ports: frozenset[int]


def unite(shares: Sequence[Share]) -> BoundPolicy:
    """The policy of a workload behind all of these; of one alone its very object, with what it holds shared."""
    if len(shares) == 1:
        return shares[0].policy
    every = frozenset().union(*(share.ports for share in shares))
    ends = [share.policy.policy.observe_until for share in shares]
    # One service that is not observed is enforced, and calls of the same workload are judged alike.
    observed = [end for end in ends if end is not None]
    until = min(observed) if len(observed) == len(ends) else None
    issuers: dict[str, TokenIssuer] = {one.name: one for share in shares for one in share.policy.issuers}
    egress: dict[str, EgressRule] = {one.name: one for share in shares for one in share.policy.egress}
    shadowed = any(share.policy.shadow is not None for share in shares)
    return BoundPolicy(
        policy=_set([(share.policy.policy, share.ports) for share in shares], every, until),
        shadow=_set([(share.policy.shadow or share.policy.policy, share.ports) for share in shares], every, until)
        if shadowed
        else None,
        issuers=tuple(issuers[name] for name in sorted(issuers)),
        egress=tuple(egress[name] for name in sorted(egress)),
    )


_Sets = Sequence[tuple[PolicySet, frozenset[int]]]


def _set(sets: _Sets, every: frozenset[int], until: float | None) -> PolicySet:
    return PolicySet(
        allowlists=_lists([(one, ports) for held, ports in sets for one in held.allowlists], every),
        denylists=_lists([(one, ports) for held, ports in sets for one in held.denylists], every),
        observe_until=until,
    )


def _lists(held: Iterable[tuple[L, frozenset[int]]], every: frozenset[int]) -> tuple[L, ...]:
    """Each list once, for the ports of all services that it is for."""
    lists: dict[str, L] = {}
    ports: dict[str, frozenset[int]] = {}
    for one, own in held:
        lists[one.full_name] = one
        ports[one.full_name] = ports.get(one.full_name, frozenset()) | own
    found = (_narrowed(lists[name], ports[name], every) for name in sorted(lists))
    return tuple(one for one in found if one.rules)


def _narrowed(held: L, ports: frozenset[int], every: frozenset[int]) -> L:
    if ports == every:
        return held
    return replace(held, rules=tuple(rule for one in held.rules if (rule := _rule(one, ports)) is not None))


def _rule(rule: Rule, ports: frozenset[int]) -> Rule | None:
    """``rule`` at these ports; None where it says nothing there: no ports would mean all of them."""
    kept = tuple(port for port in rule.ports if port in ports) if rule.ports else tuple(sorted(ports))
    return replace(rule, ports=kept) if kept else None
