"""Whatever happens in whatever order: what the balancer chooses, counts and leaves out stays within its rules."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ringfence.routing.model import Outliers, Retries, Route
from ringfence.snapshot import Endpoint
from ringfence.spiffe import SpiffeId
from sidecar.balance import Balancer, Member, Outcome
from sidecar.balance.budget import CAPACITY, RESERVE

API = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/api")
ENDPOINTS = tuple(
    Endpoint(mesh_host=f"10.0.0.{number}", mesh_port=15008, address=f"10.0.0.{number}", spiffe_id=API)
    for number in range(1, 6)
)
SHARES = st.sampled_from([0, 10, 34, 50, 100])


class Calls(RuleBasedStateMachine):
    """Calls over endpoints that come and go, answer and fail, while the clock goes on."""

    @initialize(seed=st.integers(0, 9), ejected=SHARES, panic=SHARES, consecutive=st.integers(1, 3), share=SHARES)
    def begin(self, seed: int, ejected: int, panic: int, consecutive: int, share: int) -> None:
        self.now = 0.0
        self.route = Route(
            name="r",
            outliers=Outliers(consecutive=consecutive, ejection_seconds=10, max_ejected_percent=ejected),
            panic_percent=panic,
            retries=Retries(budget_percent=share),
        )
        self.endpoints = ENDPOINTS[:3]
        self.balancer = Balancer(endpoints=self.endpoints, route=self.route, now=0.0, random=Random(seed))
        self.calls: list[Member] = []
        self.begun = self.retried = 0
        self.ejected_percent = ejected

    @rule(avoid=st.sets(st.integers(0, 4)))
    def call(self, avoid: set[int]) -> None:
        members = list(self.balancer)
        avoided = tuple(members[at] for at in avoid if at < len(members))
        chosen = self.balancer.choose(self.now, avoided)
        rest = [member for member in members if member not in avoided]
        assert (chosen is None) == (not rest)
        if chosen is None:
            return
        assert chosen in rest
        if not avoided:
            assert chosen.endpoint.ready or not any(member.endpoint.ready for member in members)
            if chosen.ejected_until > self.now:
                assert self.balancer.panicking or self.balancer.single is chosen
        self.balancer.begun(chosen)
        self.begun += 1
        self.calls.append(chosen)

    @precondition(lambda self: self.calls)
    @rule(at=st.integers(0, 99), outcome=st.sampled_from(Outcome), seconds=st.floats(0, 5))
    def end(self, at: int, outcome: Outcome, seconds: float) -> None:
        member = self.calls.pop(at % len(self.calls))
        before = self.balancer.ejections
        ejected = self.balancer.ended(member, seconds, outcome, self.now)
        assert self.balancer.ejections - before == int(ejected)
        if ejected:
            assert member.ejected_until > self.now
            out = sum(one.ejected_until > self.now for one in self.balancer)
            assert out * 100 <= self.ejected_percent * len(list(self.balancer))

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(there=st.lists(st.tuples(st.sampled_from(range(5)), st.booleans()), unique_by=lambda one: one[0]))
    def change(self, there: list[tuple[int, bool]]) -> None:
        self.endpoints = tuple(replace(ENDPOINTS[at], ready=ready) for at, ready in there)
        self.balancer.update(self.endpoints, self.route, self.now)

    @rule()
    def retry(self) -> None:
        self.retried += self.balancer.budget.withdraw(self.balancer.calls, self.now)

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "balancer"):
            return
        assert {member.endpoint for member in self.balancer} == set(self.endpoints)
        for member in self.balancer:
            assert member.outstanding == self.calls.count(member)
            assert member.latency(self.now) > 0
        share = self.route.retries.budget_percent
        assert self.retried <= (CAPACITY + self.begun * share / 100 + self.now + RESERVE if share else 0)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
