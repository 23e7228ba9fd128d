"""Explaining what finer words say: addresses, hosts, headers, tokens, conditions, denylists, observation, shadow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ringfence.policy.analysis.calls import Call, judge
from ringfence.policy.analysis.explain import explain
from ringfence.policy.analysis.explained import explanation_document, told
from ringfence.policy.analysis.world import Effect, World, WorldPort, WorldService
from ringfence.policy.facts import TokenRefused, VerifiedToken
from ringfence.policy.model import (
    Allowlist,
    Denylist,
    GrpcMethod,
    HeaderMatch,
    NamespaceCallers,
    NarrowedCallers,
    PolicySet,
    Rule,
    TokenIssuer,
    TokenMatch,
)
from ringfence.policy.problems import Place
from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import SpiffeId, TrustDomain

IN_SHOP = NamespaceCallers(namespace="shop")
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
NOW = 1_000_000.0
PEOPLE = TokenIssuer(name="shop/people", issuer="https://people", audiences=("orders",))
CALL = Call(caller=WEB, service="shop/orders", port=8080, path="/orders/7", time=NOW)


def policy(*allow: Rule, deny: tuple[Rule, ...] = (), until: float | None = None) -> PolicySet:
    return PolicySet(
        allowlists=(Allowlist(namespace="shop", name="callers", rules=allow),),
        denylists=(Denylist(namespace="shop", name="never", rules=deny),) if deny else (),
        observe_until=until,
    )


def world(in_force: PolicySet, shadow: PolicySet | None = None) -> World:
    orders = WorldService(
        namespace="shop",
        name="orders",
        spiffe_id=SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders"),
        labels=(("data", "pii"),),
        ports=(WorldPort(port=8080, protocol="http"),),
        policy=in_force,
        shadow=shadow,
        token_issuers=(PEOPLE,),
    )
    web = WorldService(namespace="shop", name="web", spiffe_id=WEB)
    places = {(Effect.DENY, "shop/never/bad"): Place("never.yaml", 9, 7)}
    return World(trust_domain=TrustDomain("shop.example"), services=(orders, web), places=places)


def rule(**words: Any) -> Rule:
    return Rule(name="rule", **{"callers": (IN_SHOP,), **words})


def token(**claims: object) -> VerifiedToken:
    return VerifiedToken(issuer="shop/people", claims=claims, expires=NOW + 60)


TEAM = HeaderMatch(name="x-team", values=("a", "b"))


@pytest.mark.parametrize(
    ("words", "call", "lines"),
    [
        (
            {"callers": (NarrowedCallers(callers=IN_SHOP, cidrs=("10.0.0.0/8", "fd00::/8")),)},
            {"address": "192.0.2.7"},
            ["address: is 192.0.2.7; the rule takes 10.0.0.0/8 or fd00::/8"],
        ),
        (
            {"callers": (NarrowedCallers(callers=IN_SHOP, cidrs=("10.0.0.0/8",)),)},
            {},
            ["address: is not known; the rule takes 10.0.0.0/8"],
        ),
        ({"hosts": ("*.shop",)}, {"host": "shop"}, ["host: is shop; the rule takes *.shop"]),
        ({"headers": (TEAM,)}, {}, ["header x-team: is absent; the rule takes a or b"]),
        (
            {"headers": (TEAM,)},
            {"headers": (("X-Team", "a"), ("x-team", "a"))},
            ["header x-team: is a, a (several, so none); the rule takes a or b"],
        ),
        (
            {"headers": (HeaderMatch(name="x-debug", present=False),)},
            {"headers": (("X-Debug", "1"),)},
            ["header x-debug: is 1; the rule takes absent"],
        ),
        (
            {"grpc": (GrpcMethod(service="shop.Orders"),)},
            {"path": "/shop.Orders/List"},
            ["path: is GET /shop.Orders/List; the rule takes gRPC shop.Orders/*"],
        ),
        ({"token": TokenMatch()}, {}, ["token: is none; the rule takes one of shop/people"]),
        (
            {"token": TokenMatch()},
            {"token": TokenRefused("its signature is wrong")},
            ["token: is refused: its signature is wrong; the rule takes one of shop/people"],
        ),
        (
            {"token": TokenMatch(scopes=("r", "w"), claims=(("realm.role", ("clerk", "boss")),))},
            {"token": token(scope="r", realm={"role": "guest"})},
            ["scope: is r; the rule takes w", "claim realm.role: is guest; the rule takes clerk or boss"],
        ),
        (
            {"token": TokenMatch(acr=("mfa",), amr=("otp", "pwd"), max_age_seconds=60)},
            {"token": token(amr=["otp"], auth_time=int(NOW) - 90)},
            [
                "acr: is absent; the rule takes mfa",
                "amr: is otp; the rule takes otp and pwd",
                "auth age: is 90 s ago; the rule takes at most 60 s ago",
            ],
        ),
        (
            {"when": "request.headers['x-team'] == 'a' && destination.labels['data'] == 'public'"},
            {"headers": (("x-team", "b"),)},
            [
                "condition: is false, with destination.labels {'data': 'pii'}, request.headers {'x-team': 'b'};"
                " the rule takes request.headers['x-team'] == 'a' && destination.labels['data'] == 'public'"
            ],
        ),
        (
            {"when": "source.address.startsWith('10.')"},
            {},
            [
                "condition: is not to be told, with source.address not known;"
                " the rule takes source.address.startsWith('10.')"
            ],
        ),
    ],
)
def test_each_word_tells_what_the_call_says_and_what_the_rule_takes(
    words: dict[str, Any], call: dict[str, Any], lines: list[str]
) -> None:
    everything = world(policy(rule(**words)))
    explanation = explain(everything, replace(CALL, **call))

    text = told(explanation, everything)
    assert [line.strip() for line in text if line.startswith("    ")] == lines
    (near,) = explanation.nearest
    if words.get("when"):
        assert near.mended is None
    else:
        assert near.mended is not None and judge(everything, near.mended).permitted


def test_a_denylist_is_told_with_what_would_be_without_it() -> None:
    everything = world(policy(rule(), deny=(Rule(name="bad", callers=(IN_SHOP,), paths=("/orders/**",)),)))

    assert told(explain(everything, CALL), everything) == [
        "denied: spiffe://shop.example/ns/shop/sa/web → GET /orders/7 on shop/orders port 8080",
        "  reason: denylisted – a rule of a denylist refuses the call, whatever else permits it",
        "denylist rules that speak of it:",
        "  shop/never/bad (never.yaml:9)",
        "without them: permitted by rule shop/callers/rule",
    ]


def test_a_call_that_a_denylist_and_the_lack_of_a_rule_refuse_is_told_both() -> None:
    everything = world(policy(rule(methods=("PUT",)), deny=(Rule(name="bad", callers=(IN_SHOP,)),)))
    explanation = explain(everything, CALL)

    assert "without them: denied: method_not_allowed" in told(explanation, everything)
    assert len(explanation.nearest) == 1


def test_an_observed_service_tells_why_it_would_refuse_and_until_when_it_does_not() -> None:
    everything = world(policy(rule(methods=("PUT",)), until=NOW + 60))
    explanation = explain(everything, CALL)

    assert told(explanation, everything)[:3] == [
        "permitted, as the service is only observed: "
        "spiffe://shop.example/ns/shop/sa/web → GET /orders/7 on shop/orders port 8080",
        "  would be denied: method_not_allowed – no rule lets the caller use the method on that path",
        "  observed until 1970-01-12T13:47:40Z: until then no missing rule denies",
    ]
    document = explanation_document(explanation, everything)
    assert (document["verdict"], document["would_deny"]) == ("permit", "method_not_allowed")
    assert (document["rule"], document["nearest_rule"]) == (None, "shop/callers/rule")
    assert explain(everything, replace(CALL, time=NOW + 61)).observed_until is None


def test_the_shadow_verdict_stands_beside_the_one_in_force() -> None:
    everything = world(policy(rule()), policy(rule(methods=("PUT",))))
    explanation = explain(everything, CALL)

    assert told(explanation, everything)[-1] == "shadow: denied: method_not_allowed"
    assert explanation.shadow is not None
    assert explanation.shadow.decision.permitted is False
    back = world(policy(rule(methods=("PUT",))), policy(rule()))
    assert told(explain(back, CALL), back)[-1] == "shadow: permitted by rule shop/callers/rule"


def test_an_unknown_address_is_noted_where_rules_ask_for_one() -> None:
    narrowed = NarrowedCallers(callers=IN_SHOP, cidrs=("10.0.0.0/8",))
    everything = world(policy(rule(), deny=(Rule(name="bad", callers=(narrowed,)),)))

    explanation = explain(everything, CALL)
    assert getattr(explanation.decision, "reason", None) is DenyReason.DENYLISTED
    assert any("address is not known" in note for note in explanation.notes)
    assert explain(everything, replace(CALL, address="192.0.2.7")).notes == ()
