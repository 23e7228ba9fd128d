"""What passes only by observation, and what another policy thinks: counted each time, logged as often as the log bears,
kept under a request id, tapped."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.reasons import DenyReason
from sidecar.often import LINES_AT_ONCE
from sidecar.tap import Tap, TapFilter
from tests.unit.test_recording import WEB, Recorded

PERMIT = Permit("shop/api", "reads")
OTHER = Permit("shop/next", "all")
OBSERVED = Permit("", "", DenyReason.PATH_NOT_ALLOWED, "shop/api/reads")
DENY = Deny(DenyReason.METHOD_NOT_ALLOWED, "shop/api/reads")


class Request:
    def __init__(self, target: bytes) -> None:
        self.method, self.target, self.host = b"GET", target, b"api.shop"


def shadowed(recorded: Recorded, decision: Decision, shadow: Decision) -> None:
    recorded.recorder.remarks.shadowed(recorded.facts(), decision, shadow, Request(b"/a?key=secret"))


def lines(recorded: Recorded) -> list[dict[str, Any]]:
    return [json.loads(line) for line in recorded.stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("decision", "shadow", "verdict", "reason"),
    [
        (PERMIT, OTHER, "agree", ""),
        (DENY, Deny(DenyReason.CALLER_NOT_ALLOWED), "agree", ""),
        (OBSERVED, OBSERVED, "agree", ""),
        (PERMIT, DENY, "would_deny", "method_not_allowed"),
        (OBSERVED, DENY, "would_deny", "method_not_allowed"),
        (PERMIT, OBSERVED, "would_deny", "path_not_allowed"),
        (DENY, PERMIT, "would_permit", "method_not_allowed"),
        (DENY, OBSERVED, "would_permit", "method_not_allowed"),
        (OBSERVED, OTHER, "would_permit", "path_not_allowed"),
    ],
)
def test_each_call_is_counted_by_what_enforcing_the_shadow_would_change(
    decision: Decision, shadow: Decision, verdict: str, reason: str
) -> None:
    recorded = Recorded()
    for _ in range(3):
        shadowed(recorded, decision, shadow)
    counts = {key: count.value for key, count in recorded.metrics.shadow_verdicts.table.items()}
    assert counts == {(verdict, WEB, "shop/orders", reason): 3}
    assert len(lines(recorded)) == (0 if verdict == "agree" else 3)


def test_a_disagreement_is_told_with_both_verdicts_and_rules_and_without_its_query() -> None:
    recorded = Recorded()
    shadowed(recorded, PERMIT, DENY)
    [line] = lines(recorded)
    assert line["msg"] == "shadow disagrees"
    assert (line["decision"], line["policy"], line["rule"]) == ("permit", "shop/api", "reads")
    assert (line["shadow"], line["shadow_decision"]) == ("would_deny", "deny")
    assert (line["shadow_rule"], line["shadow_reason"]) == ("shop/api/reads", "method_not_allowed")
    assert (line["method"], line["target"], line["peer"]) == ("GET", "/a", WEB)
    call = recorded.recorder.calls.find(line["request_id"])
    assert call is not None
    assert (call.outcome, call.permitted, call.shadow_permits, call.path) == ("shadow", True, False, "/a")


def test_what_passes_by_observation_is_counted_with_its_caller_logged_and_kept() -> None:
    recorded = Recorded()
    facts = recorded.facts()
    recorded.recorder.remarks.would_deny(facts, OBSERVED, Request(b"/a?key=secret"))
    assert facts.would_deny == 1
    counts = {key: count.value for key, count in recorded.metrics.would_deny.table.items()}
    assert counts == {(WEB, "shop/orders", "8080", "path_not_allowed"): 1}
    [line] = lines(recorded)
    assert (line["msg"], line["decision"], line["would_deny"]) == ("would deny", "permit", "path_not_allowed")
    assert (line["nearest"], line["target"]) == ("shop/api/reads", "/a")
    call = recorded.recorder.calls.find(line["request_id"])
    assert call is not None
    assert (call.outcome, call.permitted, call.reason) == ("would_deny", True, "path_not_allowed")


def test_many_are_all_counted_and_logged_as_often_as_the_log_bears() -> None:
    recorded = Recorded()
    for _ in range(int(LINES_AT_ONCE) + 30):
        shadowed(recorded, PERMIT, DENY)
        recorded.recorder.remarks.would_deny(recorded.facts(), OBSERVED)
    assert sum(count.value for count in recorded.metrics.shadow_verdicts.table.values()) == LINES_AT_ONCE + 30
    assert sum(count.value for count in recorded.metrics.would_deny.table.values()) == LINES_AT_ONCE + 30
    assert len(lines(recorded)) == 2 * LINES_AT_ONCE
    assert len(recorded.recorder.calls) == 2 * LINES_AT_ONCE  # of others nobody learned the id
    recorded.clock.advance(1.0)
    shadowed(recorded, PERMIT, DENY)
    assert lines(recorded)[-1]["not_logged"] == 30


def test_taps_see_each_kind_and_no_other_that_asks_for_one() -> None:
    recorded = Recorded()
    seen: dict[str, list[bytes]] = {}
    for name, wanted in {
        "all": TapFilter(),
        "denied": TapFilter(denied=True),
        "would": TapFilter(would_deny=True),
        "shadow": TapFilter(shadow=True),
    }.items():
        Tap(recorded.recorder.taps, wanted, lambda act: act()).started(seen.setdefault(name, []).append)
    recorded.recorder.remarks.would_deny(recorded.facts(), OBSERVED, Request(b"/a"))
    shadowed(recorded, PERMIT, DENY)
    events = {name: [json.loads(line)["event"] for line in told] for name, told in seen.items()}
    assert events == {"all": ["would_deny", "shadow"], "denied": [], "would": ["would_deny"], "shadow": ["shadow"]}
    told = json.loads(seen["would"][0])
    assert (told["from"], told["to"], told["would_deny"]) == (WEB, "shop/orders", "path_not_allowed")
