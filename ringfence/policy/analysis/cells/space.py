"""What is cut into cells: the policies looked at together, their rules, and who is known to call. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ringfence.policy.analysis.cells.callers import Identity, is_among, named_of
from ringfence.policy.analysis.cells.dimensions import Dimension, Side, SideRule
from ringfence.policy.analysis.world import Effect
from ringfence.policy.model import Callers, TokenMatch
from ringfence.spiffe import SpiffeId

# The rules, by position, that may still speak of a call; and what is known of the call so far.
Live = frozenset[int]
Chosen = Mapping[Dimension, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """``rules`` are those of all ``sides``; ``known`` the services of the mesh, as callers."""

    sides: Sequence[Side]
    rules: Sequence[SideRule]
    known: Sequence[Identity]

    def speaking(self, live: Live, dimension: Dimension) -> list[int]:
        """The live rules that say something of ``dimension``."""
        return [at for at in sorted(live) if dimension in self.rules[at].dimensions]

    def refuses(self, at: int) -> bool:
        """Whether it is a rule of a denylist, for which what is not known speaks."""
        return self.rules[at].effect is Effect.DENY

    def naming(self, at: int, identity: SpiffeId | None) -> list[Callers]:
        """The callers of a rule that have ``identity`` among them."""
        rule = self.rules[at]
        home = self.sides[rule.side].trust_domain
        return [one for one in rule.rule.callers if is_among(identity, named_of(one), home)]

    def token(self, at: int) -> TokenMatch:
        """What a rule wants of tokens; it must want something."""
        token = self.rules[at].rule.token
        if token is None:
            raise AssertionError("a rule without a token says nothing of tokens")
        return token

    def issuers(self) -> list[str]:
        """Who may vouch for a token: whom a service knows, and whom a rule names."""
        known = [one.name for side in self.sides if side.service is not None for one in side.service.token_issuers]
        named = [name for rule in self.rules if rule.rule.token is not None for name in rule.rule.token.issuers]
        return list(dict.fromkeys((*known, *sorted(named))))
