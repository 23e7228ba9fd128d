"""What a rule in force asked of calls beyond caller, port, method and path, so that a learned rule goes on asking it.

A flow shows none of it: without this, what is learned from calls with a token would permit calls without. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ringfence.policy.analysis.examples import is_among
from ringfence.policy.analysis.world import World
from ringfence.policy.model import (
    Allowlist,
    Callers,
    Denylist,
    HeaderMatch,
    Named,
    NarrowedCallers,
    Rule,
    SpiffeIdPattern,
    TokenMatch,
    UnauthenticatedCallers,
)
from ringfence.spiffe import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """An empty part asks nothing. ``cidrs``: from where the caller must come."""

    hosts: tuple[str, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()
    token: TokenMatch | None = None
    when: str = ""
    cidrs: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        return self != UNCONDITIONAL


UNCONDITIONAL = Conditions()


def conditions_of(rule: Rule, caller: SpiffeId | None, world: World) -> Conditions:
    """What ``rule`` asks of ``caller``."""
    named = [
        one for one in rule.callers if _names(one.callers if isinstance(one, NarrowedCallers) else one, caller, world)
    ]
    narrowed = [one for one in named if isinstance(one, NarrowedCallers)]
    return Conditions(
        hosts=rule.hosts,
        headers=rule.headers,
        token=rule.token,
        when=rule.when,
        cidrs=tuple(sorted({cidr for one in narrowed for cidr in one.cidrs})) if len(narrowed) == len(named) else (),
    )


def _names(callers: Named, caller: SpiffeId | None, world: World) -> bool:
    return isinstance(callers, UnauthenticatedCallers) if caller is None else is_among(caller, callers, world)


def exactly(caller: SpiffeId | None, cidrs: tuple[str, ...]) -> Callers:
    """The callers that are just this one, from these addresses if any are given."""
    one: Named = (
        UnauthenticatedCallers()
        if caller is None
        else SpiffeIdPattern(trust_domain=caller.trust_domain, segments=tuple(caller.segments))
    )
    return NarrowedCallers(callers=one, cidrs=cidrs) if cidrs else one


def without_conditions(allowlist: Allowlist) -> Allowlist:
    """The same rules, asking nothing that a flow does not show."""
    return replace(allowlist, rules=tuple(_open(rule) for rule in allowlist.rules))


def _open(rule: Rule) -> Rule:
    callers = tuple(one.callers if isinstance(one, NarrowedCallers) else one for one in rule.callers)
    return replace(rule, callers=callers, hosts=(), headers=(), token=None, when="")


def visible(denylist: Denylist) -> Denylist:
    """Without the rules that speak of what a flow does not show."""
    return replace(denylist, rules=tuple(rule for rule in denylist.rules if not _reads_more(rule)))


def _reads_more(rule: Rule) -> bool:
    narrowed = any(isinstance(one, NarrowedCallers) for one in rule.callers)
    return bool(rule.hosts or rule.headers or rule.when or rule.token is not None or narrowed)
