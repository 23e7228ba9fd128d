"""Whether one rule speaks of every call that another speaks of; as far as it can be told by looking at words. Pure.

A "yes" is sure. A "no" may be a yes that only a proof would find (``ringfence policy prove``): conditions are compared
by their text, and a rule that several others cover together is covered by none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ringfence.policy.binding.callers import within
from ringfence.policy.model import (
    AuthenticatedCallers,
    Callers,
    HeaderMatch,
    Named,
    NamespaceCallers,
    NarrowedCallers,
    Rule,
    SpiffeIdPattern,
    TokenMatch,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.spiffe import TrustDomain

T = TypeVar("T")


def covers(wide: Rule, narrow: Rule, trust_domain: TrustDomain | None) -> bool:
    """Whether ``wide`` speaks of every call that ``narrow`` speaks of; ``trust_domain`` is the mesh's own."""
    return (
        _subset(narrow.ports, wide.ports)
        and _subset(narrow.methods, wide.methods)
        and _covers_calls(wide, narrow)
        and _each(narrow.hosts, wide.hosts, _host_within)
        and all(any(_header_implies(one, header) for one in narrow.headers) for header in wide.headers)
        and (wide.when in ("", narrow.when))
        and _covers_token(wide.token, narrow.token)
        and all(any(callers_cover(one, other, trust_domain) for one in wide.callers) for other in narrow.callers)
    )


def callers_cover(wide: Callers, narrow: Callers, trust_domain: TrustDomain | None) -> bool:
    """Whether everybody in ``narrow`` is in ``wide``."""
    if isinstance(wide, NarrowedCallers):
        return (
            isinstance(narrow, NarrowedCallers)
            and all(any(within(inner, outer) for outer in wide.cidrs) for inner in narrow.cidrs)
            and _named_cover(wide.callers, narrow.callers, trust_domain)
        )
    return _named_cover(wide, narrow.callers if isinstance(narrow, NarrowedCallers) else narrow, trust_domain)


def _named_cover(wide: Named, narrow: Named, own: TrustDomain | None) -> bool:
    if wide == narrow:
        return True
    if isinstance(wide, UnauthenticatedCallers) or isinstance(narrow, UnauthenticatedCallers):
        return False
    if isinstance(wide, AuthenticatedCallers):
        return True
    if isinstance(narrow, AuthenticatedCallers):
        return False
    domain, words = _spelled(narrow, own)
    if isinstance(wide, TrustDomainCallers):
        return wide.trust_domain == domain
    wide_domain, wide_words = _spelled(wide, own)
    return (
        wide_domain == domain
        and len(words) == len(wide_words)
        and all(one in ("*", other) for one, other in zip(wide_words, words, strict=True))
    )


def _spelled(
    callers: SpiffeIdPattern | NamespaceCallers | TrustDomainCallers, own: TrustDomain | None
) -> tuple[TrustDomain | None, tuple[str, ...]]:
    """The trust domain and the segments; none of these for a whole trust domain."""
    match callers:
        case SpiffeIdPattern():
            return callers.trust_domain, callers.segments
        case NamespaceCallers():
            return own, ("ns", callers.namespace, "sa", "*")
        case TrustDomainCallers():
            return callers.trust_domain, ()


def _subset(narrow: tuple[T, ...], wide: tuple[T, ...]) -> bool:
    """Of two lists in which an empty one is open."""
    return not wide or (bool(narrow) and set(narrow) <= set(wide))


def _each(narrow: tuple[T, ...], wide: tuple[T, ...], is_within: Callable[[T, T], bool]) -> bool:
    if not wide:
        return True
    return bool(narrow) and all(any(is_within(one, other) for other in wide) for one in narrow)


def _covers_calls(wide: Rule, narrow: Rule) -> bool:
    """Paths and gRPC methods are alternatives: each of ``narrow``'s must be one of ``wide``'s."""
    if not wide.paths and not wide.grpc:
        return True
    if not narrow.paths and not narrow.grpc:
        return False
    return all(any(_path_within(one, other) for other in wide.paths) for one in narrow.paths) and all(
        any(one == other or (one.service == other.service and other.method is None) for other in wide.grpc)
        for one in narrow.grpc
    )


def _path_within(narrow: str, wide: str) -> bool:
    if narrow == wide:
        return True
    inner, outer = narrow[1:].split("/"), wide[1:].split("/")
    if outer[-1] == "**":
        outer = outer[:-1]
        # What is left of ``inner`` may be anything, ``**`` included; zero segments are among it.
        if inner[-1] == "**" and len(inner) - 1 < len(outer):
            return False
        return len(inner) >= len(outer) and _segments_within(inner[: len(outer)], outer)
    return inner[-1] != "**" and len(inner) == len(outer) and _segments_within(inner, outer)


def _segments_within(inner: Iterable[str], outer: Iterable[str]) -> bool:
    return all(other == "*" or other[:1] == "{" or one == other for one, other in zip(inner, outer, strict=True))


def _host_within(narrow: str, wide: str) -> bool:
    return narrow == wide or (wide.startswith("*.") and narrow.removeprefix("*.").endswith(wide[1:]))


def _header_implies(narrow: HeaderMatch, wide: HeaderMatch) -> bool:
    if narrow.name != wide.name or narrow.present != wide.present:
        return False
    return not wide.values or (bool(narrow.values) and set(narrow.values) <= set(wide.values))


def _covers_token(wide: TokenMatch | None, narrow: TokenMatch | None) -> bool:
    if wide is None or wide == narrow:
        return True
    return narrow is not None and (
        _subset(narrow.issuers, wide.issuers)
        and set(wide.scopes) <= set(narrow.scopes)
        and set(wide.claims) <= set(narrow.claims)
        and _subset(narrow.acr, wide.acr)
        and set(wide.amr) <= set(narrow.amr)
        and (
            wide.max_age_seconds is None
            or (narrow.max_age_seconds is not None and narrow.max_age_seconds <= wide.max_age_seconds)
        )
    )
