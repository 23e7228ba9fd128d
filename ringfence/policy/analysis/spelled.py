"""The words of rules as a person reads them. Pure."""

from __future__ import annotations

from ringfence.policy.callers import format_spiffe_id_pattern
from ringfence.policy.model import (
    AuthenticatedCallers,
    Callers,
    GrpcMethod,
    HeaderMatch,
    NamespaceCallers,
    NarrowedCallers,
    SpiffeIdPattern,
    TrustDomainCallers,
)
from ringfence.spiffe import SpiffeId

UNAUTHENTICATED = "no identity"


def spelled_callers(callers: Callers) -> str:
    """``spiffe://…``, ``any of namespace shop``, ``no identity``; with the addresses that narrow them."""
    match callers:
        case NarrowedCallers(callers=inner, cidrs=cidrs):
            return f"{spelled_callers(inner)} from {', '.join(cidrs)}"
        case SpiffeIdPattern():
            return format_spiffe_id_pattern(callers)
        case NamespaceCallers(namespace=namespace):
            return f"any of namespace {namespace}"
        case TrustDomainCallers(trust_domain=trust_domain):
            return f"any of trust domain {trust_domain}"
        case AuthenticatedCallers():
            return "any identity"
    return UNAUTHENTICATED


def spelled_identity(spiffe_id: SpiffeId | None) -> str:
    """A caller's identity, or that it has none."""
    return UNAUTHENTICATED if spiffe_id is None else str(spiffe_id)


def spelled_header(match: HeaderMatch) -> str:
    """What a rule wants of a header."""
    if match.values:
        return " or ".join(match.values)
    return "present" if match.present else "absent"


def spelled_grpc(method: GrpcMethod) -> str:
    """``pkg.Service/Method``, or ``pkg.Service/*``."""
    return f"{method.service}/{method.method or '*'}"
