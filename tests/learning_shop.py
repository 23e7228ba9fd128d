"""A small world and flows to it, for tests of learning."""

from __future__ import annotations

from ringfence.policy.analysis.world import World, WorldPort, WorldService
from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.policy.model import Allowlist, PolicySet, Rule
from ringfence.spiffe import SpiffeId, TrustDomain

SHOP = TrustDomain.parse("shop.example")
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
CART = SpiffeId.parse("spiffe://shop.example/ns/edge/sa/cart")
PARTNER = SpiffeId.parse("spiffe://partner.example/spire/agent")
ORDERS = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")
RULE = "shop/orders-callers/everything"

PORTS = (
    WorldPort(port=8080, protocol="http"),
    WorldPort(port=8081, protocol="http", permissive=True),
    WorldPort(port=9090, protocol="grpc"),
    WorldPort(port=5432, protocol="tcp"),
    WorldPort(port=7000, protocol="auto"),
)


def service_of(*rules: Rule, policy: PolicySet | None = None) -> WorldService:
    """The service ``shop/orders`` with these allow rules in force."""
    if policy is None:
        policy = PolicySet(allowlists=(Allowlist(namespace="shop", name="orders-callers", rules=rules),))
    return WorldService(namespace="shop", name="orders", spiffe_id=ORDERS, ports=PORTS, policy=policy)


def world_of(service: WorldService) -> World:
    return World(trust_domain=SHOP, services=(service,))


def flow(**changes: object) -> Flow:
    """A call of web that only observing lets through."""
    known: dict[str, object] = {
        "caller": WEB,
        "service": "shop/orders",
        "port": 8080,
        "protocol": "http",
        "method": "GET",
        "path": "/orders",
        "verdict": Verdict.WOULD_DENY,
        "reason": "caller_not_allowed",
        "count": 3,
        "first_seen": 1000.0,
        "last_seen": 2000.0,
        **changes,
    }
    return Flow(**known)  # type: ignore[arg-type]


def permitted(**changes: object) -> Flow:
    """A call of web that a rule permits."""
    return flow(**{"verdict": Verdict.PERMIT, "reason": "", "rule": RULE, **changes})
