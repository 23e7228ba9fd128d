"""Why a call was refused: the nearest rule, what differed and the mend, for every reason that there is."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.model import (
    Allowlist,
    Denylist,
    GrpcMethod,
    HeaderMatch,
    NarrowedCallers,
    PolicySet,
    Rule,
    TokenMatch,
    UnauthenticatedCallers,
)
from ringfence.policy.reasons import DenyReason, ReasonKind
from ringfence.snapshot import Snapshot, Workload
from sidecar.noted_calls import DENIED, SHADOW, WOULD_DENY, Note, NotedCalls
from sidecar.relay import RelayFacts
from sidecar.why import why_document, why_lines
from tests.data_path import API, WEB, rule

RULE = Rule(
    name="reads",
    callers=(*rule("x").callers, NarrowedCallers(callers=UnauthenticatedCallers(), cidrs=("10.0.0.0/8",))),
    ports=(8080,),
    methods=("GET", "HEAD"),
    paths=("/orders/{id}",),
    hosts=("api.shop",),
    headers=(HeaderMatch(name="x-team", values=("a",)), HeaderMatch(name="x-debug", present=False)),
    token=TokenMatch(issuers=("shop/main",), scopes=("orders.read",), claims=(("org", ("x", "y")),), acr=("mfa",)),
    when="now.getHours() < 12",
)
NAME = "shop/api/reads"


def snapshot(**parts: Any) -> Snapshot:
    workload = Workload(
        service="api", namespace="shop", spiffe_id=API, mesh_host="127.0.0.1", mesh_port=15008, ports=()
    )
    known: dict[str, Any] = {"allowlists": (Allowlist(namespace="shop", name="api", rules=(RULE,)),)}
    return Snapshot(revision=1, workload=workload, upstreams=(), bundles=(), **(known | parts))


def noted(decision: Decision, outcome: str = DENIED, **parts: Any) -> dict[str, Any]:
    facts = RelayFacts(
        direction="inbound",
        peer=str(WEB),
        service="shop/api",
        port=8080,
        protocol="http",
        started=0.0,
        address=b"10.1.2.3",
    )
    reason = decision.reason if isinstance(decision, Deny) else decision.would_deny or ""
    calls = NotedCalls(lambda: 1.0, str(API))
    calls.note(
        facts,
        Note(
            request_id="a1",
            outcome=outcome,
            decision=decision,
            reason=str(reason),
            method=b"DELETE",
            target=b"/orders/1?x",
            host=b"API.shop",
            **parts,
        ),
    )
    call = calls.find("a1")
    assert call is not None
    return call.document()


@pytest.mark.parametrize(
    ("reason", "differs"),
    [
        (DenyReason.CALLER_NOT_ALLOWED, f"the call's caller is {WEB}; 'from' of the rule has {WEB}, no identity from"),
        (DenyReason.ADDRESS_NOT_ALLOWED, "the call's address is 10.1.2.3; 'from' of the rule has"),
        (DenyReason.PORT_NOT_ALLOWED, "the call's port is 8080; 'ports' of the rule has 8080"),
        (DenyReason.PATH_NOT_ALLOWED, "the call's path is /orders/1; 'paths' of the rule has /orders/{id}"),
        (DenyReason.METHOD_NOT_ALLOWED, "the call's method is DELETE; 'methods' of the rule has GET, HEAD"),
        (DenyReason.HOST_NOT_ALLOWED, "the call's host is API.shop; 'hosts' of the rule has api.shop"),
        (DenyReason.HEADER_NOT_ALLOWED, "'headers' of the rule has x-team: a, x-debug: absent"),
        (
            DenyReason.TOKEN_INSUFFICIENT,
            "'token' of the rule has issuer shop/main, scopes orders.read, org x or y, acr",
        ),
        (DenyReason.CONDITION_NOT_MET, "'when' of the rule has now.getHours() < 12"),
    ],
)
def test_what_differed_is_told_by_the_part_of_the_rule_that_decided(reason: DenyReason, differs: str) -> None:
    told = why_document(noted(Deny(reason, NAME)), snapshot())
    assert told["differs"].startswith(differs)
    assert told["nearest_rule"]["name"] == NAME
    assert told["summary"] == reason.summary
    assert told["mend"]


@pytest.mark.parametrize("reason", list(DenyReason))
def test_every_reason_has_a_mend_with_and_without_a_rule(reason: DenyReason) -> None:
    for nearest in (NAME, None, "shop/api/gone"):
        told = why_document(noted(Deny(reason, nearest)), snapshot())
        assert told["mend"] or reason.kind is not ReasonKind.POLICY
        lines = list(why_lines(told))
        assert any(str(reason) in line for line in lines)
        assert all("?x" not in line for line in lines)
    assert why_document(noted(Deny(reason, NAME)), None)["nearest_rule"] is None


def test_a_grpc_rule_is_told_by_its_methods() -> None:
    grpc = Rule(name="reads", callers=RULE.callers, grpc=(GrpcMethod(service="shop.Orders", method="Get"),))
    lists = (Allowlist(namespace="shop", name="api", rules=(grpc,)),)
    told = why_document(noted(Deny(DenyReason.PATH_NOT_ALLOWED, NAME)), snapshot(allowlists=lists))
    assert told["differs"] == "the call's path is /orders/1; 'grpc' of the rule has shop.Orders/Get"


def test_the_rule_of_a_denylist_is_found() -> None:
    lists = (Denylist(namespace="shop", name="never", rules=(rule("web"),)),)
    told = why_document(noted(Deny(DenyReason.DENYLISTED, "shop/never/web")), snapshot(denylists=lists))
    assert told["nearest_rule"] == {"name": "shop/never/web", "from": [str(WEB)]}
    assert "denylist" in told["mend"]


def test_what_passed_by_observation_is_told_as_that() -> None:
    observed = Permit("", "", DenyReason.METHOD_NOT_ALLOWED, NAME)
    lines = list(why_lines(why_document(noted(observed, WOULD_DENY), snapshot())))
    assert "passed, observed" in lines[0]
    assert f"nearest   {NAME}" in lines


def test_what_the_shadow_thinks_is_told_by_the_rules_of_the_shadow() -> None:
    shadow = PolicySet(allowlists=(Allowlist(namespace="shop", name="next", rules=(rule("all", methods=["GET"]),)),))
    call = noted(Permit("shop/api", "reads"), SHADOW, shadow=Deny(DenyReason.METHOD_NOT_ALLOWED, "shop/next/all"))
    told = why_document(call, snapshot(shadow=shadow))
    assert told["nearest_rule"]["name"] == "shop/next/all"
    lines = list(why_lines(told))
    assert f"in force  permit {NAME}" in lines
    assert "shadow    deny (method_not_allowed) shop/next/all" in lines
    assert any("'methods' of the rule has GET" in line for line in lines)
