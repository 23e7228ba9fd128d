"""What calls say of a policy in shadow."""

from __future__ import annotations

from dataclasses import replace

from controlplane.rollout.evidence import Evidence, evidence_of
from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.spiffe import SpiffeId

PASSED = Flow(
    caller=SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web"),
    service="shop/orders",
    port=8080,
    protocol="http",
    verdict=Verdict.PERMIT,
    count=3,
    first_seen=10.0,
    last_seen=20.0,
    method="GET",
    path="/orders/{id}",
    shadow="permit",
)


def test_changes_of_verdict_are_counted_both_ways_and_the_refusals_told_first() -> None:
    flows = [
        PASSED,
        replace(PASSED, shadow="path_not_allowed", count=5),
        replace(PASSED, verdict=Verdict.WOULD_DENY, shadow="token_missing", count=2),
        replace(PASSED, verdict=Verdict.DENY, shadow="permit", count=7, caller=None),
        replace(PASSED, verdict=Verdict.DENY, shadow="path_not_allowed", count=11),
    ]
    found = evidence_of(flows, 15.0)
    assert (found.judged, found.denied, found.permitted) == (28, 7, 7)
    assert found.examples == (
        "spiffe://shop.example/ns/shop/sa/web -> shop/orders:8080 GET /orders/{id}: 5 times, "
        "would be refused: path_not_allowed",
        "spiffe://shop.example/ns/shop/sa/web -> shop/orders:8080 GET /orders/{id}: 2 times, "
        "would be refused: token_missing",
        "unauthenticated -> shop/orders:8080 GET /orders/{id}: 7 times, would pass",
    )


def test_calls_before_the_trial_and_those_not_judged_in_shadow_say_nothing() -> None:
    assert evidence_of([PASSED], 20.5) == Evidence()
    assert evidence_of([replace(PASSED, shadow="", count=9)], 0.0) == Evidence()


def test_an_opaque_connection_is_named_as_one() -> None:
    flow = replace(PASSED, protocol="tcp", method="", path="", shadow="port_not_allowed")
    assert "shop/orders:8080 connection: 3 times" in evidence_of([flow], 0.0).examples[0]
