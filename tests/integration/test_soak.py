"""A short soak with real processes: what the long one proves by hours is looked at here for half a minute."""

from __future__ import annotations

from benchmarks.soak.callers import Crowd
from benchmarks.soak.run import Plan, as_json, as_text, soak

CROWD = Crowd(
    kept_http=6,
    fresh_http=2,
    grpc=4,
    websockets=2,
    kept_opaque=3,
    fresh_opaque=1,
    greetings=1,
    changing_http=2,
    changing_opaque=2,
)


def test_no_permitted_call_fails_while_svids_and_policies_change() -> None:
    plan = Plan(seconds=24.0, change_seconds=5.0, lifetime_seconds=10, pause_seconds=0.1, crowd=CROWD)
    outcome = soak(plan, lambda _: None)
    tally = outcome.tally
    assert not tally.samples, as_text(outcome)
    assert (tally.failed_permitted, tally.permitted_forbidden) == (0, 0)
    assert outcome.kept_alive == CROWD.kept_opaque + CROWD.websockets
    assert outcome.renewals >= 2
    assert outcome.proofs >= 2
    assert outcome.changes >= 3
    # Half a minute says nothing of memory: the heap is still finding its size.
    assert not [problem for problem in outcome.problems if "grew" not in problem]
    report = as_json(outcome)
    assert report["calls"] == tally.calls.total() > 500
