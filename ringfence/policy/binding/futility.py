"""Rules that can never decide anything: another one of their document speaks first, or a denylist refuses it all. Pure.

Warnings, each with both places. Looking is bounded: in documents of very many wide rules some pairs are not looked at,
and that is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ringfence.policy.binding.covering import covers
from ringfence.policy.binding.lists import FlatList, FlatRule
from ringfence.policy.model import Callers, Rule, SpiffeIdPattern
from ringfence.policy.problems import Problem
from ringfence.policy.written import Mode
from ringfence.spiffe import TrustDomain

PAIR_LIMIT: Final = 50_000
_ANY: Final = "*"


class _Index:
    """Rules by what one that covers another must share with it: its first caller, and its first path if it has one."""

    def __init__(self, rules: Iterable[FlatRule]) -> None:
        self._by_caller: dict[Callers, _Calls] = defaultdict(_Calls)
        self._wide = _Calls()
        for position, flat in enumerate(_known(rules)):
            for callers in dict.fromkeys(flat.rule.callers):
                held = self._by_caller[callers] if _is_exact(callers) else self._wide
                held.add(flat, position)

    def candidates(self, rule: Rule) -> Iterator[FlatRule]:
        """Those that may cover ``rule``."""
        first = rule.callers[0]
        if first in self._by_caller:
            yield from self._by_caller[first].of(rule)
        yield from self._wide.of(rule)


class _Calls:
    def __init__(self) -> None:
        self._open: dict[int, FlatRule] = {}
        self._literal: dict[str, dict[int, FlatRule]] = defaultdict(dict)
        self._templates: dict[str, dict[int, FlatRule]] = defaultdict(dict)  # by first segment, "*" for any

    def add(self, flat: FlatRule, position: int) -> None:
        rule = flat.rule
        if not rule.paths or rule.grpc:
            self._open[position] = flat
            return
        for path in rule.paths:
            if "*" in path or "{" in path:
                self._templates[_first(path)][position] = flat
            self._literal[path][position] = flat

    def of(self, rule: Rule) -> Iterator[FlatRule]:
        yield from self._open.values()
        if rule.paths:
            yield from self._literal.get(rule.paths[0], {}).values()
            first = _first(rule.paths[0])
            yield from self._templates.get(first, {}).values()
            if first != _ANY:
                yield from self._templates.get(_ANY, {}).values()


def _known(rules: Iterable[FlatRule]) -> Iterator[FlatRule]:
    """Those of which all callers are known: what is left of another would look as if it could be covered."""
    return (flat for flat in rules if flat.whole and flat.rule.callers)


def _first(path: str) -> str:
    segment = path[1:].partition("/")[0]
    return _ANY if "*" in segment or "{" in segment else segment


def _is_exact(callers: Callers) -> bool:
    return isinstance(callers, SpiffeIdPattern) and "*" not in callers.segments


def shadowed(flat: FlatList, trust_domain: TrustDomain | None) -> Iterator[Problem]:
    """Rules of a document that another one of it covers."""
    index, left = _Index(flat.rules), PAIR_LIMIT
    order = {one.rule.name: position for position, one in enumerate(flat.rules)}
    for one in _known(flat.rules):
        for other in index.candidates(one.rule):
            left -= 1
            if left < 0:
                yield _not_looked_at(flat)
                return
            if other is one or not covers(other.rule, one.rule, trust_domain):
                continue
            # Of two that cover each other the second is told.
            if covers(one.rule, other.rule, trust_domain) and order[other.rule.name] > order[one.rule.name]:
                continue
            message = (
                f"rule {one.rule.name} never decides: rule {other.rule.name} at {other.place} speaks of all its calls"
            )
            yield one.place.warning(message, "remove one of them, or let them differ in callers or words")
            break


def contradicted(
    lists: Sequence[tuple[FlatList, frozenset[str]]], trust_domain: TrustDomain | None
) -> Iterator[Problem]:
    """Rules of allowlists all of whose calls a denylist refuses, wherever they are in force."""
    allowing: dict[str, list[tuple[FlatList, frozenset[str]]]] = defaultdict(list)
    for flat, services in lists:
        if services and not flat.denies:
            allowing[min(services)].append((flat, services))
    within: dict[tuple[int, int], bool] = {}  # of lists that select alike the sets are one and the same
    left = PAIR_LIMIT
    for deny, denied in lists:
        if not deny.denies:
            continue
        index = None
        near = (one for name in allowing.keys() & denied for one in allowing[name])
        for allow, services in sorted(near, key=lambda one: one[0].header.place):
            if deny.mode is Mode.SHADOW and allow.mode is not Mode.SHADOW:
                continue
            key = (id(services), id(denied))
            if key not in within:
                within[key] = services <= denied
            if not within[key]:
                continue
            index = index or _Index(deny.rules)
            for one in _known(allow.rules):
                for other in index.candidates(one.rule):
                    left -= 1
                    if left < 0:
                        yield _not_looked_at(deny)
                        return
                    if covers(other.rule, one.rule, trust_domain):
                        denylist = f"rule {other.rule.name} of denylist {deny.header.full_name} at {other.place}"
                        message = f"rule {one.rule.name} never permits anything: {denylist} refuses all its calls"
                        yield one.place.warning(message, "remove it, or let the denylist refuse less")
                        break


def _not_looked_at(flat: FlatList) -> Problem:
    message = f"{flat.what} {flat.header.full_name} has too many wide rules to look at each pair of them"
    return flat.header.place.warning(message, "split it by callers, and prove what matters")
