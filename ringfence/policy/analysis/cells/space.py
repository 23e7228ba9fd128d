"""What is cut into cells: the policies looked at together, their rules, and who is known to call. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ringfence.policy.analysis.cells.callers import Identity, NamedIndex, named_of
from ringfence.policy.analysis.cells.dimensions import Dimension, Side, side_rules
from ringfence.policy.analysis.world import Effect
from ringfence.policy.model import Callers, Named, TokenMatch
from ringfence.spiffe import SpiffeId, TrustDomain

# The rules, by position, that may still speak of a call; and what is known of the call so far.
Live = frozenset[int]
Chosen = Mapping[Dimension, Any]


class Space:
    """``rules`` are those of all ``sides``; ``known`` the services of the mesh, as callers."""

    __slots__ = ("_callers", "_index", "known", "rules", "sides")

    def __init__(self, sides: Sequence[Side], known: Sequence[Identity]) -> None:
        self.sides = sides
        self.known = known
        self.rules = side_rules(sides)
        self._callers = [(at, one) for at, rule in enumerate(self.rules) for one in rule.rule.callers]
        self._index = NamedIndex([(named_of(one), self._home(at)) for at, one in self._callers])

    def _home(self, at: int) -> TrustDomain:
        return self.sides[self.rules[at].side].trust_domain

    def named(self, live: Live) -> list[tuple[Named, TrustDomain]]:
        """Whom the live rules name, each with the trust domain that is the mesh's own where it is said."""
        return [(named_of(one), self._home(at)) for at, one in self._callers if at in live]

    def speaking(self, live: Live, dimension: Dimension) -> list[int]:
        """The live rules that say something of ``dimension``."""
        return [at for at in sorted(live) if dimension in self.rules[at].dimensions]

    def refuses(self, at: int) -> bool:
        """Whether it is a rule of a denylist, for which what is not known speaks."""
        return self.rules[at].effect is Effect.DENY

    def naming(self, identity: SpiffeId | None) -> dict[int, list[Callers]]:
        """By rule, its callers that have ``identity`` among them; no rule without one."""
        found: dict[int, list[Callers]] = {}
        for position in self._index.matching(identity):
            at, one = self._callers[position]
            found.setdefault(at, []).append(one)
        return found

    def token(self, at: int) -> TokenMatch:
        """What a rule wants of tokens; it must want something."""
        token = self.rules[at].rule.token
        if token is None:
            raise AssertionError("a rule without a token says nothing of tokens")
        return token

    def issuers(self) -> list[str]:
        """Who may vouch for a token at any side."""
        return list(dict.fromkeys(name for side in self.sides for name in sorted(side.issuers)))

    def vouching(self, at: int) -> frozenset[str]:
        """Whose tokens a rule takes, as far as its side believes them at all."""
        known = self.sides[self.rules[at].side].issuers
        named = self.token(at).issuers
        return known.intersection(named) if named else known
