"""Which rules speak of any of some calls. Pure.

A table names one rule of those that speak of a call. So all rules are asked at once, those that were named are taken
out, and the rest is asked again, until no call finds another: as many times as rules lie above each other. Where that
is many, the rest is asked rule by rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ringfence.policy.analysis.calls import Call, compile_for, decide
from ringfence.policy.analysis.matching import Matcher
from ringfence.policy.analysis.world import Effect, NamedRule, rules_of
from ringfence.policy.decision import Permit
from ringfence.policy.model import Allowlist, Denylist, PolicySet, Rule
from ringfence.policy.reasons import DenyReason

_ROUNDS: Final = 20


def spoken_to(matcher: Matcher, calls: Sequence[Call]) -> set[tuple[Effect, str]]:
    """The rules of the matcher's service that speak of one of ``calls``, by effect and full name."""
    found: set[tuple[Effect, str]] = set()
    left = list(rules_of(matcher.service.policy))
    for _ in range(_ROUNDS):
        named = _named(matcher, left, calls)
        if not named:
            return found
        found |= named
        left = [one for one in left if (one.effect, one.full_name) not in found]
    found |= {(one.effect, one.full_name) for one in left if any(matcher.matches(one, call) for call in calls)}
    return found


def _named(matcher: Matcher, rules: Sequence[NamedRule], calls: Sequence[Call]) -> set[tuple[Effect, str]]:
    """Of each effect the rule that is named for each call."""
    service, trust_domain = matcher.service, matcher.world.trust_domain
    tables = [compile_for(service, policy, trust_domain) for policy in _policies(rules)]
    found: set[tuple[Effect, str]] = set()
    for call in calls:
        for table in tables:
            decision = decide(table, service, call)
            if isinstance(decision, Permit):
                found.add((Effect.ALLOW, decision.rule_name))
            elif decision.reason is DenyReason.DENYLISTED and decision.nearest is not None:
                found.add((Effect.DENY, decision.nearest))
    return found


def _policies(rules: Sequence[NamedRule]) -> list[PolicySet]:
    """One of the allow rules alone, one of the deny rules alone: neither hides the other."""
    lists: dict[tuple[Effect, str], list[Rule]] = {}
    for one in rules:
        lists.setdefault((one.effect, one.policy), []).append(one.rule)
    allow: list[Allowlist] = []
    deny: list[Denylist] = []
    for (effect, policy), held in lists.items():
        namespace, _, name = policy.partition("/")
        if effect is Effect.ALLOW:
            allow.append(Allowlist(namespace=namespace, name=name, rules=tuple(held)))
        else:
            deny.append(Denylist(namespace=namespace, name=name, rules=tuple(held)))
    return [PolicySet(allowlists=tuple(allow)), PolicySet(denylists=tuple(deny))]
