"""A call in a world: the engine's verdict, after what a sidecar looks at before it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ringfence.policy.analysis.calls import Call, Judge, UnknownServiceError, judge
from ringfence.policy.analysis.world import Effect, World, WorldPort, WorldService, rules_of
from ringfence.policy.decision import Deny, Permit
from ringfence.policy.model import (
    Allowlist,
    Denylist,
    NamespaceCallers,
    PolicySet,
    Rule,
    UnauthenticatedCallers,
)
from ringfence.policy.problems import Place
from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import SpiffeId, TrustDomain

SHOP = TrustDomain("shop.example")
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
IN_SHOP = NamespaceCallers(namespace="shop")


def allowing(*rules: Rule) -> PolicySet:
    return PolicySet(allowlists=(Allowlist(namespace="shop", name="orders-callers", rules=rules),))


def world(policy: PolicySet, shadow: PolicySet | None = None) -> World:
    orders = WorldService(
        namespace="shop",
        name="orders",
        spiffe_id=SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders"),
        ports=(
            WorldPort(port=8080, protocol="http"),
            WorldPort(port=8081, protocol="http", permissive=True),
            WorldPort(port=7000, protocol="tcp"),
            WorldPort(port=9000, protocol="auto"),
        ),
        policy=policy,
        shadow=shadow,
    )
    direct = WorldService(namespace="shop", name="stripe", spiffe_id=WEB, has_sidecar=False)
    return World(trust_domain=SHOP, services=(orders, direct))


CALL = Call(caller=WEB, service="shop/orders", port=8080)


def test_a_call_is_judged_by_the_policy_in_force_at_its_service() -> None:
    reads = allowing(Rule(name="reads", callers=(IN_SHOP,), methods=("GET",), paths=("/orders/{id}",)))

    assert judge(world(reads), replace(CALL, path="/orders/7")) == Permit("shop/orders-callers", "reads")
    refused = judge(world(reads), replace(CALL, path="/orders/7", method="PUT"))
    assert refused == Deny(DenyReason.METHOD_NOT_ALLOWED, "shop/orders-callers/reads")


def test_a_port_that_the_service_lacks_is_refused_whatever_rules_say() -> None:
    anything = allowing(Rule(name="anything", callers=(IN_SHOP,)))

    assert judge(world(anything), CALL).permitted
    assert judge(world(anything), replace(CALL, port=8088)) == Deny(DenyReason.NOT_OWN_ADDRESS)


def test_a_caller_without_identity_comes_to_permissive_ports_alone() -> None:
    anybody = allowing(Rule(name="anybody", callers=(UnauthenticatedCallers(),)))

    assert judge(world(anybody), replace(CALL, caller=None, port=8081)).permitted
    assert judge(world(anybody), replace(CALL, caller=None)) == Deny(DenyReason.PLAINTEXT_REFUSED)


def test_what_a_port_carries_says_how_a_call_is_judged() -> None:
    gets = world(allowing(Rule(name="gets", callers=(IN_SHOP,), methods=("GET",))))
    anything = world(allowing(Rule(name="anything", callers=(IN_SHOP,))))

    assert judge(gets, replace(CALL, port=7000)).permitted is False
    assert judge(anything, replace(CALL, port=7000)).permitted
    assert judge(gets, replace(CALL, port=9000)).permitted
    assert judge(gets, replace(CALL, port=9000, opaque=True)).permitted is False
    assert judge(anything, replace(CALL, opaque=True)) == Deny(DenyReason.NOT_HTTP, "shop/orders-callers/anything")


def test_the_shadow_is_judged_beside_the_policy_in_force() -> None:
    one = Judge(world(PolicySet(), allowing(Rule(name="anything", callers=(IN_SHOP,)))))

    assert one.judge(CALL) == Deny(DenyReason.CALLER_NOT_ALLOWED)
    assert one.shadow(CALL) == Permit("shop/orders-callers", "anything")
    assert Judge(world(PolicySet())).shadow(CALL) is None


def test_only_services_that_enforce_policy_have_verdicts() -> None:
    with pytest.raises(UnknownServiceError, match=r"no service shop/order$"):
        judge(world(PolicySet()), replace(CALL, service="shop/order"))
    with pytest.raises(UnknownServiceError, match="has no sidecar"):
        judge(world(PolicySet()), replace(CALL, service="shop/stripe"))


def test_facts_hold_names_in_lower_case_and_values_in_order() -> None:
    facts = replace(CALL, host="Orders.Shop", headers=(("X-Team", "a"), ("x-other", ""), ("x-TEAM", "b"))).facts

    assert facts.host == b"orders.shop"
    assert facts.header(b"x-team") == [b"a", b"b"]
    assert facts.header(b"x-none") == ()
    assert replace(CALL, host="orders", opaque=True).facts.host == b""


def test_rules_are_listed_denylists_first_and_then_by_name() -> None:
    rules = [Rule(name=name, callers=(IN_SHOP,)) for name in ("b", "a")]
    policy = PolicySet(
        allowlists=(Allowlist(namespace="shop", name="z", rules=tuple(rules)),),
        denylists=(Denylist(namespace="shop", name="z", rules=(rules[0],)),),
    )

    named = rules_of(policy)
    assert [(one.effect, one.full_name) for one in named] == [
        (Effect.DENY, "shop/z/b"),
        (Effect.ALLOW, "shop/z/a"),
        (Effect.ALLOW, "shop/z/b"),
    ]
    place = Place("z.yaml", 7, 9)
    placed = replace(world(policy), places={(Effect.DENY, "shop/z/b"): place})
    assert [placed.place(one) for one in named] == [place, None, None]
