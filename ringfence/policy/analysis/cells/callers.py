"""The callers that rules can tell apart: identities, and the addresses that they call from. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ringfence.policy.analysis.cells.segments import (
    PatternIndex,
    SegmentPattern,
    SegmentRules,
    segment_classes,
)
from ringfence.policy.model import (
    AuthenticatedCallers,
    Callers,
    Named,
    NamespaceCallers,
    NarrowedCallers,
    SpiffeIdPattern,
    UnauthenticatedCallers,
)
from ringfence.spiffe import SpiffeId, TrustDomain

_FRESH: Final = ("other", "another", "someone", "x")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# 198.51.100.1 and 2001:db8::1, which documents use (RFC 5737, RFC 3849), before addresses that may be somebody's.
_FIRST_USUAL: Final = {4: 0xC6336401, 6: 0x20010DB8 << 96 | 1}


@dataclass(frozen=True, slots=True)
class Identity:
    """One caller by identity, None for none; ``label`` says for whom it stands."""

    spiffe_id: SpiffeId | None
    label: str


def named_of(callers: Callers) -> Named:
    """The callers without the addresses that narrow them."""
    return callers.callers if isinstance(callers, NarrowedCallers) else callers


class NamedIndex:
    """Finds which of many callers an identity is among; each comes with the trust domain that is the mesh's own."""

    __slots__ = ("_anonymous", "_index", "_positions")

    def __init__(self, callers: Sequence[tuple[Named, TrustDomain]]) -> None:
        self._anonymous = [at for at, (one, _) in enumerate(callers) if isinstance(one, UnauthenticatedCallers)]
        self._positions = [at for at, (one, _) in enumerate(callers) if not isinstance(one, UnauthenticatedCallers)]
        self._index = PatternIndex([_pattern(*callers[at]) for at in self._positions])

    def matching(self, identity: SpiffeId | None) -> list[int]:
        """The positions of the callers that ``identity`` is among."""
        if identity is None:
            return self._anonymous
        if not identity.path:
            return []
        found = self._index.matching((identity.trust_domain.name, *identity.segments))
        return sorted(self._positions[at] for at in found)


def identities(
    callers: Iterable[tuple[Named, TrustDomain]], known: Iterable[Identity], own: Sequence[TrustDomain]
) -> list[Identity]:
    """Callers of which no others differ for rules that name ``callers``; the ``known`` ones are all among them.

    Each of ``callers`` comes with the trust domain that is the mesh's own where it is said.
    """
    named = list(dict.fromkeys(callers))
    found = list(dict.fromkeys((*known, *_usual(named, own))))
    patterns = [_pattern(one, domain) for one, domain in named if not isinstance(one, UnauthenticatedCallers)]
    index = PatternIndex(patterns)
    seen = {
        frozenset(index.matching((identity.spiffe_id.trust_domain.name, *identity.spiffe_id.segments)))
        for identity in found
        if identity.spiffe_id is not None
    }
    for matched, word in segment_classes(patterns, _RULES).items():
        if matched in seen:
            continue
        spiffe_id = SpiffeId(TrustDomain(word[0]), "/" + "/".join(word[1:]))
        found.append(Identity(spiffe_id, f"another like {spiffe_id}"))
    return found


def _usual(named: Sequence[tuple[Named, TrustDomain]], own: Sequence[TrustDomain]) -> Iterable[Identity]:
    """Callers as a mesh has them, so that examples look like real ones."""
    domains = dict.fromkeys([*own, *(one.trust_domain for one, _ in named if not _is_wide(one))])  # type: ignore[union-attr]
    for domain in domains:
        spaces = [one.namespace for one, home in named if isinstance(one, NamespaceCallers) and home == domain]
        spaces += [
            one.segments[1]
            for one, _ in named
            if isinstance(one, SpiffeIdPattern) and one.trust_domain == domain and _in_namespace(one)
        ]
        taken = frozenset(
            one.segments[3]
            for one, _ in named
            if isinstance(one, SpiffeIdPattern) and one.trust_domain == domain and _in_namespace(one)
        )
        for space in sorted(set(spaces)):
            spiffe_id = SpiffeId.workload(domain, space, _fresh(taken))
            yield Identity(spiffe_id, f"any other identity of namespace {space} of {domain}")
        spiffe_id = SpiffeId.workload(domain, _fresh(frozenset(spaces)), _fresh(taken))
        yield Identity(spiffe_id, f"any other identity of {domain}")
    foreign = TrustDomain(f"{_fresh(frozenset(domain.name.partition('.')[0] for domain in domains))}.example")
    yield Identity(SpiffeId.workload(foreign, "other", "other"), "any identity of a foreign trust domain")
    yield Identity(None, "callers without an identity")


def _is_wide(callers: Named) -> bool:
    return isinstance(callers, NamespaceCallers | AuthenticatedCallers | UnauthenticatedCallers)


def _in_namespace(pattern: SpiffeIdPattern) -> bool:
    words = pattern.segments
    return len(words) == 4 and words[0] == "ns" and words[2] == "sa" and words[1] != "*"


def _fresh(taken: frozenset[str]) -> str:
    for word in _FRESH:
        if word not in taken:
            return word
    number = 1
    while f"x{number}" in taken:
        number += 1
    return f"x{number}"


# A trust domain alone is no workload.
_RULES: Final = SegmentRules(fresh=_fresh, least=2)


def _pattern(callers: Named, trust_domain: TrustDomain) -> SegmentPattern:
    """(trust domain, segments…), as the engine looks callers up."""
    if isinstance(callers, SpiffeIdPattern):
        words = (None if word == "*" else word for word in callers.segments)
        return SegmentPattern((callers.trust_domain.name, *words))
    if isinstance(callers, NamespaceCallers):
        return SegmentPattern((trust_domain.name, "ns", callers.namespace, "sa", None))
    if isinstance(callers, AuthenticatedCallers):
        return SegmentPattern((), rest=True)
    if isinstance(callers, UnauthenticatedCallers):
        raise AssertionError("callers without an identity have no pattern")
    return SegmentPattern((callers.trust_domain.name,), rest=True)


# ----------------------------------------------------------------------------------------------------------- addresses


def in_any(address: str, cidrs: Iterable[str]) -> bool:
    """Whether the address lies in one of ``cidrs``; one that is not known lies in none."""
    if not address:
        return False
    parsed = ipaddress.ip_address(address)
    return any(parsed in ipaddress.ip_network(cidr) for cidr in cidrs)


def addresses(cidrs: Iterable[str]) -> list[tuple[str, bool]]:
    """An address of each region into which ``cidrs`` cut the addresses, and whether it lies in any of them.

    Two networks are nested or disjoint, so a region is a network without those that lie in it.
    """
    networks = {ipaddress.ip_network(cidr) for cidr in cidrs}
    whole = [ipaddress.ip_network(text) for text in ("0.0.0.0/0", "::/0")]
    found: list[tuple[str, bool]] = []
    for network in sorted({*networks, *whole}, key=lambda one: (one.version, int(one.network_address), one.prefixlen)):
        address = _outside(network, [one for one in networks if one != network and one.version == network.version])
        if address is not None:
            found.append((str(address), network in networks))
    return found


def _outside(network: Network, others: Iterable[Network]) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The first usual address of ``network`` that lies in none of ``others`` within it."""
    low, high = int(network.network_address), int(network.broadcast_address)
    spans = sorted((int(one.network_address), int(one.broadcast_address)) for one in others)
    at = low if network.num_addresses == 1 or not network.prefixlen else low + 1
    at = max(at, _FIRST_USUAL[network.version]) if not network.prefixlen else at
    for begin in dict.fromkeys((at, low)):
        candidate = begin
        for first, last in spans:
            if first < low or last > high or last < candidate:
                continue
            if candidate < first:
                break
            candidate = last + 1
        if candidate <= high:
            return type(network.network_address)(candidate)
    return None
