"""What may be told of a call later, by its request id: bounded, without what may be secret."""

from __future__ import annotations

from ringfence.policy.decision import Deny, Permit
from ringfence.policy.reasons import DenyReason
from sidecar.noted_calls import DENIED, SHADOW, WOULD_DENY, Note, NotedCalls
from sidecar.relay import RelayFacts

WEB, API = "spiffe://shop.example/ns/shop/sa/web", "spiffe://shop.example/ns/shop/sa/api"
DENY = Deny(DenyReason.METHOD_NOT_ALLOWED, "shop/api/reads")


def facts(direction: str = "inbound") -> RelayFacts:
    return RelayFacts(direction=direction, peer=WEB, service="shop/api", port=80, protocol="http", started=0.0)


def refused(request_id: str, target: bytes = b"/orders/1") -> Note:
    return Note(
        request_id=request_id, outcome=DENIED, decision=DENY, reason=str(DENY.reason), method=b"DELETE", target=target
    )


def test_a_call_is_told_with_who_what_and_why_and_without_its_query() -> None:
    calls = NotedCalls(lambda: 12.5, API)
    calls.note(facts(), refused("a1", b"/orders/1?key=secret"))
    found = calls.find("a1")
    assert found is not None
    told = found.document()
    assert (told["time"], told["caller"], told["method"], told["path"]) == (12.5, WEB, "DELETE", "/orders/1")
    assert (told["permitted"], told["reason"], told["rule"]) == (False, "method_not_allowed", "shop/api/reads")
    assert "secret" not in str(told)
    assert calls.find("a2") is None


def test_of_an_outbound_call_the_caller_is_the_workload() -> None:
    calls = NotedCalls(lambda: 1.0, API)
    calls.note(facts("outbound"), refused("a1"))
    found = calls.find("a1")
    assert found is not None
    assert found.caller == API


def test_what_is_said_first_of_a_call_stays_and_the_oldest_calls_go() -> None:
    calls = NotedCalls(lambda: 1.0, API, limit=3)
    calls.note(facts(), refused("a"))
    calls.note(facts(), Note(request_id="a", outcome=DENIED, decision=None, reason="reset"))
    for request_id in "bcd":
        calls.note(facts(), refused(request_id))
    assert len(calls) == 3
    assert calls.find("a") is None
    found = calls.find("b")
    assert found is not None
    assert found.reason == "method_not_allowed"
    calls.note(facts(), refused(""))
    assert len(calls) == 3


def test_what_passes_under_observation_and_what_the_shadow_thinks_are_told_as_that() -> None:
    calls = NotedCalls(lambda: 1.0, API)
    observed = Permit("", "", DenyReason.PATH_NOT_ALLOWED, "shop/api/reads")
    calls.note(facts(), Note(request_id="w", outcome=WOULD_DENY, decision=observed, reason="path_not_allowed"))
    calls.note(
        facts(),
        Note(request_id="s", outcome=SHADOW, decision=Permit("shop/api", "all"), reason="", shadow=DENY),
    )
    would, shadow = calls.find("w"), calls.find("s")
    assert would is not None
    assert shadow is not None
    assert (would.permitted, would.reason, would.rule) == (True, "path_not_allowed", "shop/api/reads")
    assert would.shadow_permits is None
    assert (shadow.permitted, shadow.rule) == (True, "shop/api/all")
    assert (shadow.shadow_permits, shadow.shadow_reason, shadow.shadow_rule) == (
        False,
        "method_not_allowed",
        "shop/api/reads",
    )


def test_what_passes_takes_no_place_of_what_is_refused() -> None:
    calls = NotedCalls(lambda: 1.0, API, limit=2)
    calls.note(facts(), refused("a"))
    observed = Permit("", "", DenyReason.PATH_NOT_ALLOWED)
    for number in range(10):
        calls.note(facts(), Note(request_id=f"{number:x}0", outcome=WOULD_DENY, decision=observed, reason="x"))
    assert calls.find("a") is not None
    assert len(calls) == 3
