"""The rules that come nearest to a call: those of which it has to differ in the fewest parts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.conditions import spelled_outcome
from ringfence.policy.analysis.differing import Difference, Dimension, Mending, NearRule, as_carried
from ringfence.policy.analysis.differing_connection import differ_callers, differ_port
from ringfence.policy.analysis.differing_request import differ_request
from ringfence.policy.analysis.differing_token import differ_token
from ringfence.policy.analysis.matching import Matcher
from ringfence.policy.analysis.world import NamedRule

NEAREST: Final = 5


def near_rule(matcher: Matcher, named: NamedRule, call: Call) -> NearRule:
    """How ``call`` would have to differ for ``named`` to speak of it; no differences when it does."""
    mending = Mending(matcher, named, as_carried(matcher, call))
    differ_callers(mending)
    differ_port(mending)
    if not mending.call.opaque:
        differ_request(mending)
        differ_token(mending)
    if mending.rule.when and not mending.takes(when=mending.rule.when):
        has = spelled_outcome(mending.rule.when, matcher.service, mending.call)
        difference = Difference(dimension=Dimension.CONDITION, has=has, wants=(mending.rule.when,))
        mending.differ(difference, None)
    enough = not mending.hopeless and matcher.matches(named, mending.call)
    return NearRule(named=named, differences=tuple(mending.differences), mended=mending.call if enough else None)


def nearest_rules(
    matcher: Matcher, rules: Iterable[NamedRule], call: Call, limit: int = NEAREST
) -> tuple[NearRule, ...]:
    """At most ``limit`` of ``rules``, the nearest first; of equally near ones those that name the caller."""
    found = [near_rule(matcher, named, call) for named in rules]
    found.sort(key=lambda near: (len(near.differences), _about_another(near), near.named.full_name))
    return tuple(found[:limit])


def _about_another(near: NearRule) -> bool:
    return any(difference.dimension is Dimension.CALLER for difference in near.differences)
