"""Explaining a verdict: the rule, the nearest rules and what would have to differ in each."""

from __future__ import annotations

import json
from dataclasses import replace

from ringfence.policy.analysis.calls import Call, judge
from ringfence.policy.analysis.differing import Dimension
from ringfence.policy.analysis.explain import Explanation, explain
from ringfence.policy.analysis.explained import explanation_document, told
from ringfence.policy.analysis.world import Effect, World, WorldPort, WorldService
from ringfence.policy.model import (
    Allowlist,
    NamespaceCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.problems import Place
from ringfence.spiffe import SpiffeId, TrustDomain

SHOP = TrustDomain("shop.example")
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
ORDERS = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")
MALLORY = SpiffeId.parse("spiffe://evil.example/ns/shop/sa/web")
IS_WEB = SpiffeIdPattern(trust_domain=SHOP, segments=WEB.segments)
READS = Rule(name="reads", callers=(IS_WEB,), ports=(8080,), methods=("GET", "HEAD"), paths=("/orders/{id}",))


def world(*rules: Rule) -> World:
    policy = PolicySet(allowlists=(Allowlist(namespace="shop", name="callers", rules=rules),) if rules else ())
    ports = (
        WorldPort(port=8080, protocol="http"),
        WorldPort(port=8081, protocol="http", permissive=True),
        WorldPort(port=7000, protocol="tcp"),
    )
    orders = WorldService(namespace="shop", name="orders", spiffe_id=ORDERS, ports=ports, policy=policy)
    web = WorldService(namespace="shop", name="web", spiffe_id=WEB)
    places = {
        (Effect.ALLOW, f"shop/callers/{rule.name}"): Place("orders.yaml", at, 7) for at, rule in enumerate(rules, 3)
    }
    return World(trust_domain=SHOP, services=(orders, web), places=places)


CALL = Call(caller=WEB, service="shop/orders", port=8080, path="/orders/7")


def differences(explanation: Explanation) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.dimension.value, one.has, one.wants) for one in explanation.nearest[0].differences]


def test_a_permitted_call_names_its_rule_and_where_it_stands() -> None:
    explanation = explain(world(READS), CALL)

    assert told(explanation, world(READS)) == [
        "permitted: spiffe://shop.example/ns/shop/sa/web → GET /orders/7 on shop/orders port 8080",
        "  by rule shop/callers/reads (orders.yaml:3)",
    ]
    assert explanation.nearest == ()


def test_a_denied_call_names_what_would_have_to_differ() -> None:
    lines = told(explain(world(READS), replace(CALL, method="PUT", path="/orders/7/lines")), world(READS))

    assert lines == [
        "denied: spiffe://shop.example/ns/shop/sa/web → PUT /orders/7/lines on shop/orders port 8080",
        "  reason: path_not_allowed – no rule lets the caller use the path on that port",
        "nearest rules, and what would have to differ:",
        "  shop/callers/reads (orders.yaml:3)",
        "    method: is PUT; the rule takes GET or HEAD",
        "    path: is /orders/7/lines; the rule takes /orders/{id}",
    ]


def test_the_nearest_rules_are_those_of_fewest_differences_and_then_of_the_caller() -> None:
    rules = [
        Rule(name="a-other", callers=(TrustDomainCallers(trust_domain=TrustDomain("partner.example")),)),
        Rule(name="b-method", callers=(IS_WEB,), methods=("PUT",)),
        Rule(name="c-two", callers=(IS_WEB,), methods=("PUT",), paths=("/x",)),
        *(Rule(name=f"d{at}", callers=(IS_WEB,), methods=("PUT",), paths=("/x",)) for at in range(9)),
    ]
    explanation = explain(world(*rules), CALL)

    assert [near.named.rule.name for near in explanation.nearest] == ["b-method", "a-other", "c-two", "d0", "d1"]


def test_a_mended_call_is_one_that_the_rule_permits() -> None:
    stranger = replace(CALL, caller=MALLORY, method="PUT", path="//", port=1)
    explanation = explain(world(READS), stranger)
    mended = explanation.nearest[0].mended

    assert mended is not None and judge(world(READS), mended).permitted
    assert (mended.caller, mended.port, mended.method, mended.path) == (WEB, 8080, "GET", "/orders/id")
    assert differences(explanation) == [
        ("caller", str(MALLORY), (str(WEB),)),
        ("port", "1, which shop/orders does not have", ("8080",)),
        ("method", "PUT", ("GET", "HEAD")),
        ("path", "//, which servers may read in several ways", ("/orders/{id}",)),
    ]


def test_a_caller_without_identity_is_led_to_a_port_that_takes_it() -> None:
    rules = world(Rule(name="anybody", callers=(UnauthenticatedCallers(),)))
    explanation = explain(rules, replace(CALL, caller=None))

    assert differences(explanation) == [("port", "8080, which requires an identity", ("8081",))]
    mended = explanation.nearest[0].mended
    assert mended is not None and judge(rules, mended).permitted


def test_a_rule_that_no_port_suits_has_no_mended_call() -> None:
    explanation = explain(world(replace(READS, ports=(7000,))), CALL)

    assert differences(explanation) == [("port", "8080", ("7000",))]
    assert explanation.nearest[0].mended is None


def test_opaque_bytes_differ_in_protocol() -> None:
    explanation = explain(world(Rule(name="all", callers=(IS_WEB,))), replace(CALL, opaque=True))

    assert differences(explanation) == [("protocol", "opaque TCP", ("HTTP",))]


def test_on_an_opaque_port_nothing_of_a_request_is_looked_at() -> None:
    rules = world(Rule(name="all", callers=(IS_WEB,), ports=(7000,)))
    explanation = explain(rules, replace(CALL, port=7000))

    assert explanation.decision.permitted
    assert any("carries opaque TCP" in note for note in explanation.notes)


def test_what_a_name_holds_cannot_leave_its_line() -> None:
    lines = told(explain(world(READS), replace(CALL, path="/orders/\n\x1b[2Jpermitted")), world(READS))

    assert all(line.isprintable() for line in lines)


def test_notes_tell_what_the_policy_cannot() -> None:
    nobody = explain(world(), replace(CALL, caller=SpiffeId.parse("spiffe://shop.example/ns/shop/sa/wbe")))

    assert nobody.notes == (
        "no allowlist protects shop/orders, so that nobody may call it",
        "no service of the mesh bears spiffe://shop.example/ns/shop/sa/wbe",
    )


def test_the_json_object_holds_the_same() -> None:
    everyone = world(READS, Rule(name="shop", callers=(NamespaceCallers(namespace="shop"),), methods=("PUT",)))
    denied = explanation_document(explain(everyone, replace(CALL, method="POST")), everyone)
    permitted = explanation_document(explain(everyone, CALL), everyone)

    assert json.loads(json.dumps(denied)) == denied
    assert denied.keys() == permitted.keys()
    assert (denied["verdict"], denied["reason"], denied["rule"]) == ("deny", "method_not_allowed", None)
    assert permitted["rule"] == "shop/callers/reads"
    assert permitted["place"] == {"file": "orders.yaml", "line": 3, "column": 7}
    nearest = denied["nearest"]
    assert isinstance(nearest, list)
    assert nearest[0]["rule"] == "shop/callers/reads"
    assert nearest[0]["differences"] == [
        {"dimension": Dimension.METHOD, "name": None, "has": "POST", "wants": ["GET", "HEAD"]}
    ]
    assert nearest[0]["mended"]["method"] == "GET"
