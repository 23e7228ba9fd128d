"""Sets of callers and of paths against each other: does one hold the other, do they meet. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ringfence.policy.analysis.examples import grpc_path
from ringfence.policy.model import (
    AuthenticatedCallers,
    GrpcMethod,
    Named,
    NamespaceCallers,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.paths import Variable, parse_template
from ringfence.spiffe import SpiffeId, TrustDomain


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


def targets(paths: Iterable[str], grpc: Iterable[GrpcMethod]) -> list[Pattern]:
    """What templates and gRPC methods take, as segments of a path; all of it where there are none."""
    found: list[Pattern] = []
    for text in paths:
        template = parse_template(text)
        words = (None if isinstance(part, Variable) else part.decode("ascii") for part in template.segments)
        found.append(Pattern(tuple(words), template.rest))
    for method in grpc:
        service = grpc_path(method).split("/")[1]
        found.append(Pattern((service, method.method)))
    return found or [Pattern((), rest=True)]


def targets_hold(some: Sequence[Pattern], others: Iterable[Pattern]) -> bool:
    """Whether each of ``others`` lies wholly in one of ``some``."""
    return all(any(one.holds(other) for one in some) for other in others)


def targets_meet(some: Sequence[Pattern], others: Iterable[Pattern]) -> bool:
    """Whether there may be a path in both."""
    return any(one.meets(other) for other in others for one in some)
