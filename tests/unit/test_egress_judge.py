"""What is let out: by a rule, or while the workload is observed; never longer than that."""

from __future__ import annotations

import pytest

from ringfence.kit.clock import FakeClock
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import EgressRule
from sidecar.egress import EgressFlow
from sidecar.egress_judge import HOST_SECONDS, OBSERVED_SECONDS, EgressJudge

NETWORK = EgressRule(name="network", cidrs=("203.0.113.0/24",), ports=(443,))
NAMED = EgressRule(name="named", hosts=("api.example.org",))


def judge(*rules: EgressRule, seconds: float | None = None) -> tuple[EgressJudge, FakeClock]:
    clock = FakeClock()
    made = EgressJudge(clock.now)
    made.enforce(rules, clock.now() + seconds if seconds is not None else None)
    return made, clock


def test_without_observation_only_rules_let_anything_out() -> None:
    made, _ = judge(NETWORK, NAMED)
    assert made.observed is None
    permit = made.by_address("203.0.113.9", 443)
    assert permit is not None
    assert permit.rule_name == "egress/network"
    assert made.by_address("203.0.113.9", 80) is None
    assert made.again(EgressFlow(address="198.51.100.1", host="", port=443)) is None
    assert made.again(EgressFlow(address="198.51.100.1", host="api.example.org", port=1)) is not None


def test_observation_lets_out_what_it_tells_and_ends() -> None:
    made, clock = judge(NETWORK, seconds=10)
    flow = EgressFlow(address="198.51.100.1", host="", port=443)
    permit = made.again(flow)
    assert permit is not None
    assert permit.would_deny is DenyReason.EGRESS_NOT_ALLOWED
    clock.advance(10)
    assert made.observed is None
    assert made.again(flow) is None
    assert made.by_address("203.0.113.9", 443) is not None


@pytest.mark.parametrize(("seconds", "waits"), [(None, HOST_SECONDS), (10.0, OBSERVED_SECONDS)])
def test_a_host_is_waited_for_where_a_rule_names_any(seconds: float | None, waits: float) -> None:
    assert judge(NAMED, seconds=seconds)[0].host_seconds(443) == waits
    assert judge(NETWORK, seconds=seconds)[0].host_seconds(443) == 0
