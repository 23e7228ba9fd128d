"""Which rules name a caller: from an identity, or none, to positions of rules. Pure.

Cost is set by the segments of the identity and by the rules that name it, not by how many rules there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringfence.policy.addresses import Address, AddressIndex, Network, parse_network
from ringfence.policy.callers import PatternError, format_spiffe_id_pattern, parse_spiffe_id_pattern
from ringfence.policy.model import (
    AuthenticatedCallers,
    Callers,
    Named,
    NamespaceCallers,
    NarrowedCallers,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.trie import Leaf, Trie
from ringfence.spiffe import SpiffeId, TrustDomain


class Positions(Leaf):
    """Which rules name the callers of one pattern: from everywhere (ascending), and from some networks only."""

    __slots__ = ("narrowed", "numbers")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.narrowed: list[tuple[Network, int]] | None = None

    def add(self, position: int, networks: tuple[Network, ...]) -> None:
        """``position`` is not less than any before it; no networks: from everywhere."""
        if not networks:
            if position not in self.numbers[-1:]:
                self.numbers.append(position)
            return
        if self.narrowed is None:
            self.narrowed = []
        self.narrowed.extend((network, position) for network in networks)


@dataclass(frozen=True, slots=True)
class NamedBy:
    """The rules that name one caller: ``always``, and those only from some networks."""

    always: frozenset[int]
    networks: AddressIndex | None
    narrowed: frozenset[int]

    def at(self, address: Address | None, *, unknown: bool) -> tuple[int, ...]:
        """Those that name the caller at ``address``, ascending; ``unknown``: whether the narrowed ones do at no known
        address."""
        if self.networks is None:
            return tuple(sorted(self.always))
        if address is None:
            return tuple(sorted(self.always | self.narrowed if unknown else self.always))
        return tuple(sorted(self.always | self.networks.positions(address)))


_LIMIT_NAMED: Final = 4096
NOBODY: Final = NamedBy(frozenset(), None, frozenset())


class CallerIndex:
    """The callers of one list of rules."""

    __slots__ = ("_named", "_patterns", "_trust_domain", "_unauthenticated", "_whole")

    def __init__(self, trust_domain: TrustDomain) -> None:
        """``trust_domain``: of a bare namespace."""
        self._trust_domain = trust_domain
        self._patterns: Trie[str, Positions] = Trie()
        # Beside the patterns, not among them: whatever an identity looks like, it must not meet these rules.
        self._unauthenticated = Positions()
        self._whole: set[SpiffeIdPattern] = set()
        # Callers of the same patterns share one: a list of ten thousand networks for everybody is indexed once.
        self._named: dict[tuple[Positions, ...], NamedBy] = {}

    def add(self, callers: Callers, position: int) -> None:
        """The rule at ``position``, none before the last, names ``callers``; ValueError if nobody can be so named."""
        networks: tuple[Network, ...] = ()
        if isinstance(callers, NarrowedCallers):
            networks = tuple(parse_network(text) for text in callers.cidrs)
            if not networks:
                raise ValueError(f"{callers!r} has no network")
            callers = callers.callers
        if isinstance(callers, UnauthenticatedCallers):
            self._unauthenticated.add(position, networks)
            return
        if isinstance(callers, SpiffeIdPattern) and callers not in self._whole:
            if not _is_whole(callers):
                raise ValueError(f"{callers!r} is no pattern of whole segments")
            self._whole.add(callers)
        segments, rest = self._pattern(callers)
        self._patterns.insert(segments, rest, Positions()).add(position, networks)

    def _pattern(self, callers: Named) -> tuple[tuple[str | None, ...], bool]:
        """(trust domain, segments…) with None for any one segment, and whether the rest is open."""
        if isinstance(callers, SpiffeIdPattern):
            segments = (None if segment == "*" else segment for segment in callers.segments)
            return (callers.trust_domain.name, *segments), False
        if isinstance(callers, NamespaceCallers):
            return (self._trust_domain.name, "ns", callers.namespace, "sa", None), False
        if isinstance(callers, TrustDomainCallers):
            return (callers.trust_domain.name,), True
        if isinstance(callers, AuthenticatedCallers):
            return (), True
        raise ValueError(f"{callers!r} cannot be enforced")

    def named(self, spiffe_id: SpiffeId | None) -> NamedBy:
        """The rules that name the caller of that identity; None: of none."""
        if spiffe_id is None:
            found: tuple[Positions, ...] = (self._unauthenticated,)
        else:
            found = tuple(self._patterns.walk((spiffe_id.trust_domain.name, *spiffe_id.segments)))
        if not found:
            return NOBODY
        named = self._named.get(found)
        if named is None:
            if len(self._named) >= _LIMIT_NAMED:
                self._named.clear()
            named = self._named[found] = _named_by(found)
        return named

    def nearest(self, spiffe_id: SpiffeId) -> int | None:
        """The position of the rule that comes nearest to naming a caller whom none names."""
        near = self._patterns.nearest((spiffe_id.trust_domain.name, *spiffe_id.segments))
        if near is None:
            return None
        return near.numbers[0] if near.numbers else near.narrowed[0][1] if near.narrowed else None


def _named_by(found: tuple[Positions, ...]) -> NamedBy:
    always = frozenset(position for positions in found for position in positions.numbers)
    narrowed = [entry for positions in found for entry in positions.narrowed or () if entry[1] not in always]
    if not narrowed:
        return NamedBy(always, None, frozenset())
    return NamedBy(always, AddressIndex(narrowed), frozenset(position for _, position in narrowed))


def _is_whole(pattern: SpiffeIdPattern) -> bool:
    """Whether the pattern says what it seems to: a star within a segment would be read as a letter."""
    try:
        return parse_spiffe_id_pattern(format_spiffe_id_pattern(pattern)) == pattern
    except PatternError:
        return False
