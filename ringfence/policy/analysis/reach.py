"""Sets of callers and of paths against each other: does one hold the other, do they meet. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ringfence.policy.model import (
    AuthenticatedCallers,
    Named,
    NamespaceCallers,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.paths import Variable, parse_template
from ringfence.spiffe import SpiffeId, TrustDomain

_POST: Final = frozenset(("POST",))


@dataclass(frozen=True, slots=True)
class Pattern:
    """Sequences of words: each of ``words``, None standing for any but the empty one; with ``rest``, any more behind
    them."""

    words: tuple[str | None, ...]
    rest: bool = False

    def holds(self, other: Pattern) -> bool:
        """Whether every sequence of ``other`` is one of these."""
        if other.rest and not self.rest:
            return False
        if len(self.words) > len(other.words) or (len(self.words) < len(other.words) and not self.rest):
            return False
        return all(
            own == word or (own is None and word != "") for own, word in zip(self.words, other.words, strict=False)
        )

    def meets(self, other: Pattern) -> bool:
        """Whether some sequence is of both."""
        shorter, longer = sorted((self, other), key=lambda one: len(one.words))
        if len(shorter.words) < len(longer.words) and not shorter.rest:
            return False
        pairs = zip(shorter.words, longer.words, strict=False)
        return all(one == two or (one is None and two != "") or (two is None and one != "") for one, two in pairs)


def identities(callers: Named, own: TrustDomain) -> Pattern | None:
    """The identities of ``callers``, trust domain first; None for those who have none."""
    match callers:
        case SpiffeIdPattern(trust_domain=trust_domain, segments=segments):
            return Pattern((trust_domain.name, *(None if word == "*" else word for word in segments)))
        case NamespaceCallers(namespace=namespace):
            return Pattern((own.name, "ns", namespace, "sa", None))
        case TrustDomainCallers(trust_domain=trust_domain):
            return Pattern((trust_domain.name, None), rest=True)
        case AuthenticatedCallers():
            return Pattern((None, None), rest=True)
        case UnauthenticatedCallers():
            return None


def identity(spiffe_id: SpiffeId) -> Pattern:
    """Just that one."""
    return Pattern((spiffe_id.trust_domain.name, *spiffe_id.segments))


def callers_hold(some: Named, others: Named, own: TrustDomain) -> bool:
    """Whether all of ``others`` are among ``some``."""
    one, two = identities(some, own), identities(others, own)
    return one is two if one is None or two is None else one.holds(two)


def callers_meet(some: Named, others: Named, own: TrustDomain) -> bool:
    """Whether somebody may be both."""
    one, two = identities(some, own), identities(others, own)
    return one is two if one is None or two is None else one.meets(two)


@dataclass(frozen=True, slots=True)
class Target:
    """Requests with one of ``methods`` (None: with any) to a path of ``pattern``."""

    pattern: Pattern
    methods: frozenset[str] | None

    def holds(self, other: Target) -> bool:
        """Whether every request of ``other`` is one of these."""
        methods = self.methods is None or (other.methods is not None and other.methods <= self.methods)
        return methods and self.pattern.holds(other.pattern)

    def meets(self, other: Target) -> bool:
        """Whether a request may be of both."""
        methods = self.methods is None or other.methods is None or bool(self.methods & other.methods)
        return methods and self.pattern.meets(other.pattern)


def targets(rule: Rule) -> list[Target]:
    """What a rule takes, as far as methods, paths and gRPC methods tell."""
    methods = frozenset(rule.methods) or None
    found: list[Target] = []
    for text in rule.paths:
        template = parse_template(text)
        words = (None if isinstance(part, Variable) else part.decode("ascii") for part in template.segments)
        found.append(Target(Pattern(tuple(words), template.rest), methods))
    for method in rule.grpc:
        # A gRPC call is a POST, and nothing else meets such a word.
        pattern = Pattern((method.service, method.method))
        found.append(Target(pattern, _POST if methods is None else methods & _POST))
    return found or [Target(Pattern((), rest=True), methods)]


def targets_hold(some: Iterable[Target], others: Iterable[Target]) -> bool:
    """Whether each of ``others`` lies wholly in one of ``some``."""
    some = list(some)
    return all(any(one.holds(other) for one in some) for other in others)


def targets_meet(some: Iterable[Target], others: Iterable[Target]) -> bool:
    """Whether there may be a request in both."""
    others = list(others)
    return any(one.meets(other) for one in some for other in others)
