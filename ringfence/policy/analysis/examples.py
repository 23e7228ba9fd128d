"""For each word of a rule, one thing that it speaks of: what a caller, address, path, host or token could be. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from ringfence.policy.analysis.world import World
from ringfence.policy.claims import scopes_of
from ringfence.policy.facts import VerifiedToken
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
from ringfence.spiffe import SpiffeId

GRPC_HEADERS: Final = (("content-type", "application/grpc"), ("te", "trailers"))
_ANY: Final = "any"


def example_caller(callers: Named, world: World) -> SpiffeId | None:
    """Someone of ``callers``: a service of the mesh if one is among them; None for those without an identity."""
    if isinstance(callers, UnauthenticatedCallers):
        return None
    known = next((one.spiffe_id for one in world.services if is_among(one.spiffe_id, callers, world)), None)
    if known is not None:
        return known
    if isinstance(callers, SpiffeIdPattern):
        segments = [_ANY if segment == "*" else segment for segment in callers.segments]
        return SpiffeId(callers.trust_domain, "/" + "/".join(segments))
    if isinstance(callers, NamespaceCallers):
        return SpiffeId.workload(world.trust_domain, callers.namespace, _ANY)
    if isinstance(callers, TrustDomainCallers):
        return SpiffeId.workload(callers.trust_domain, _ANY, _ANY)
    return SpiffeId.workload(world.trust_domain, _ANY, _ANY)


def is_among(spiffe_id: SpiffeId, callers: Named, world: World) -> bool:
    """Whether ``callers`` have ``spiffe_id`` among them."""
    match callers:
        case SpiffeIdPattern(trust_domain=trust_domain, segments=segments):
            if spiffe_id.trust_domain != trust_domain or len(spiffe_id.segments) != len(segments):
                return False
            return all(word in ("*", own) for word, own in zip(segments, spiffe_id.segments, strict=True))
        case NamespaceCallers(namespace=namespace):
            return spiffe_id.trust_domain == world.trust_domain and spiffe_id.namespace == namespace
        case TrustDomainCallers(trust_domain=trust_domain):
            return bool(spiffe_id.path) and spiffe_id.trust_domain == trust_domain
        case AuthenticatedCallers():
            return bool(spiffe_id.path)
        case UnauthenticatedCallers():
            return False


def example_address(cidr: str) -> str:
    """An address of ``cidr``, not the network's own where there is another."""
    network = ipaddress.ip_network(cidr)
    return str(network[min(1, network.num_addresses - 1)])


def example_path(template: str) -> str:
    """A path that the template takes: each variable stands for its own name."""
    parsed = parse_template(template)
    words = [(part.name or _ANY) if isinstance(part, Variable) else part.decode("ascii") for part in parsed.segments]
    return "/" + "/".join([*words, _ANY] if parsed.rest else words)


def grpc_path(method: GrpcMethod) -> str:
    """The ``:path`` of a call to ``method``, or to one of its service."""
    return f"/{method.service}/{method.method or 'Any'}"


def example_host(pattern: str) -> str:
    """A host that the pattern takes."""
    return _ANY + pattern[1:] if pattern.startswith("*.") else pattern


def with_claim(claims: Mapping[str, object], name: str, value: object) -> dict[str, object]:
    """``claims`` with one set; a name with dots leads into nested objects, made where they are not there."""
    first, dot, rest = name.partition(".")
    if not dot or name in claims:
        return {**claims, name: value}
    inner = claims.get(first)
    return {**claims, first: with_claim(inner if isinstance(inner, Mapping) else {}, rest, value)}


def with_scopes(token: VerifiedToken, scopes: Iterable[str]) -> dict[str, object]:
    """The claims of a token with ``scopes`` among those that they grant."""
    return {**token.claims, "scope": " ".join(dict.fromkeys([*sorted(scopes_of(token)), *scopes]))}
