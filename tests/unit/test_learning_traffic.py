"""How many observed calls two policies judge otherwise."""

from __future__ import annotations

from dataclasses import replace

from ringfence.policy.learning.flow import Verdict
from ringfence.policy.learning.told import traffic_document, traffic_lines
from ringfence.policy.learning.traffic import changed_traffic
from ringfence.policy.model import AuthenticatedCallers, Denylist, PolicySet, Rule, TokenMatch
from tests.learning_shop import CART, flow, permitted, service_of, world_of

ANYONE = (AuthenticatedCallers(),)
READS = Rule(name="reads", callers=ANYONE, methods=("GET",), paths=("/orders/{id}",))
SEEN = [
    permitted(path="/orders/{id}", count=7),
    permitted(path="/orders/{id}", count=2, caller=CART, method="DELETE"),
    flow(verdict=Verdict.DENY, path="/admin", count=5),
    flow(verdict=Verdict.DENY, path="", reason="path_ambiguous", count=3),
]


def test_calls_whose_verdict_changes_are_counted_and_those_with_most_calls_told_first() -> None:
    old = world_of(service_of(READS, Rule(name="deletes", callers=ANYONE, methods=("DELETE",))))
    new = world_of(service_of(Rule(name="admin", callers=ANYONE, paths=("/admin",))))
    found = changed_traffic(SEEN, old, new, now=1000.0)
    assert (found.judged, found.untold) == (14, 3)
    assert [one.path for one in found.permitted] == ["/admin"]
    assert [one.count for one in found.denied] == [7, 2]
    told = "\n".join(traffic_lines(found))
    assert "9 become denied" in told
    assert "5 become permitted" in told
    assert "3 more cannot be judged" in told
    document = traffic_document(found)
    assert (document["permitted"], document["denied"]) == (5, 9)


def test_what_a_flow_does_not_show_changes_nothing() -> None:
    old = world_of(service_of(READS))
    asking = replace(READS, token=TokenMatch(scopes=("read",)), when="now > now")
    denylist = Denylist(namespace="shop", name="no", rules=(Rule(name="no", callers=ANYONE, when="true"),))
    policy = PolicySet(allowlists=service_of(asking).policy.allowlists, denylists=(denylist,))
    found = changed_traffic(SEEN, old, world_of(service_of(policy=policy)), now=1000.0)
    assert (found.permitted, found.denied) == ((), ())


def test_observing_lets_calls_pass_until_its_end_and_a_service_that_is_gone_takes_none() -> None:
    observed = world_of(service_of(policy=PolicySet(observe_until=2000.0)))
    none = replace(observed, services=())
    assert sum(one.count for one in changed_traffic(SEEN, observed, none, now=1000.0).denied) == 14
    assert changed_traffic(SEEN, observed, none, now=3000.0).denied == ()
