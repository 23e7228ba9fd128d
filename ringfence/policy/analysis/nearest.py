"""The rules that come nearest to a call: those of which it has to differ in the fewest parts. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from typing import Final

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.conditions import spelled_outcome
from ringfence.policy.analysis.differing import Difference, Dimension, Mending, NearRule, as_carried
from ringfence.policy.analysis.differing_connection import differ_callers, differ_port
from ringfence.policy.analysis.differing_request import differ_headers, differ_host, differ_method, differ_path
from ringfence.policy.analysis.differing_token import differ_token
from ringfence.policy.analysis.matching import Matcher
from ringfence.policy.analysis.world import NamedRule

NEAREST: Final = 5


def near_rule(matcher: Matcher, named: NamedRule, call: Call) -> NearRule:
    """How ``call`` would have to differ for ``named`` to speak of it; no differences when it does."""
    mending = Mending(matcher, named, as_carried(matcher, call))
    for _ in _steps(mending):
        pass
    return _checked(mending)


def nearest_rules(
    matcher: Matcher, rules: Iterable[NamedRule], call: Call, limit: int = NEAREST
) -> tuple[NearRule, ...]:
    """At most ``limit`` of ``rules``, the nearest first; of equally near ones those that name the caller, then by name.

    A rule is left as soon as it is further away than ``limit`` others: differences only ever become more.
    """
    best: list[Mending] = []
    for named in sorted(rules, key=lambda one: one.full_name):
        mending = Mending(matcher, named, as_carried(matcher, call))
        if any(len(best) >= limit and _distance(mending) >= _distance(best[-1]) for _ in _steps(mending)):
            continue
        bisect.insort(best, mending, key=_distance)
        del best[limit:]
    return tuple(_checked(mending) for mending in best)


def _steps(mending: Mending) -> Iterator[None]:
    """Compare part after part; the cheap ones first."""
    differ_callers(mending)
    yield
    differ_port(mending)
    yield
    if not mending.call.opaque:
        for differ in (differ_method, differ_path, differ_host, differ_headers, differ_token):
            differ(mending)
            yield
    if mending.rule.when and not mending.takes(when=mending.rule.when):
        has = spelled_outcome(mending.rule.when, mending.matcher.service, mending.call)
        difference = Difference(dimension=Dimension.CONDITION, has=has, wants=(mending.rule.when,))
        mending.differ(difference, None)
    yield


def _checked(mending: Mending) -> NearRule:
    """The outcome, with the mended call where the engine takes it by the whole rule."""
    enough = not mending.hopeless and mending.matcher.matches(mending.named, mending.call)
    return NearRule(
        named=mending.named,
        differences=tuple(mending.differences),
        mended=mending.call if enough else None,
    )


def _distance(mending: Mending) -> tuple[int, bool]:
    about_another = any(difference.dimension is Dimension.CALLER for difference in mending.differences)
    return len(mending.differences), about_another
