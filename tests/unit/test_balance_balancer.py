"""The balancer: whither calls go, who is left out and comes back, what may be repeated. A clock that stands still."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from ringfence.routing.model import CircuitBreaker, Outliers, Retries, Route
from ringfence.snapshot import Endpoint
from ringfence.spiffe import SpiffeId
from sidecar.balance import Balancer, Member, Outcome

API = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/api")


def endpoints(count: int) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(mesh_host=f"10.0.0.{number}", mesh_port=15008, address=f"10.0.0.{number}", spiffe_id=API)
        for number in range(1, count + 1)
    )


def balancer(count: int = 3, route: Route | None = None, *, now: float = 0.0, seed: int = 1) -> Balancer:
    return Balancer(endpoints=endpoints(count), route=route, now=now, random=Random(seed))


def fail(balance: Balancer, member: Member, times: int = 5, now: float = 0.0) -> bool:
    ejected = False
    for _ in range(times):
        balance.begun(member)
        ejected = balance.ended(member, 0.001, Outcome.FAILED, now)
    return ejected


def shares(balance: Balancer, calls: int = 3000, seconds: float = 0.001, now: float = 0.0) -> list[float]:
    """Of calls one after the other, each endpoint's share."""
    seen: Counter[int] = Counter()
    members = list(balance)
    for _ in range(calls):
        member = balance.choose(now)
        assert member is not None
        balance.begun(member)
        seen[members.index(member)] += 1
        balance.ended(member, seconds, Outcome.ANSWERED, now)
    return [seen[at] / calls for at in range(len(members))]


@pytest.mark.parametrize("seed", range(5))
def test_equal_endpoints_get_equal_shares(seed: int) -> None:
    assert shares(balancer(seed=seed)) == pytest.approx([1 / 3] * 3, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_latencies_that_differ_by_noise_alone_leave_the_shares_equal(seed: int) -> None:
    balance, noise = balancer(seed=seed), Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(3000):
        member = balance.choose(0.0)
        assert member is not None
        balance.begun(member)
        seen[member.endpoint.address] += 1
        balance.ended(member, noise.choice([0.0003, 0.0006, 0.004]), Outcome.ANSWERED, 0.0)
    assert [count / 3000 for count in seen.values()] == pytest.approx([1 / 3] * 3, rel=0.1)


def test_calls_in_flight_are_spread_and_the_least_loaded_of_two_is_taken() -> None:
    balance = balancer(2)
    for _ in range(100):
        member = balance.choose(0.0)
        assert member is not None
        balance.begun(member)
    assert [member.outstanding for member in balance] == [50, 50]


def test_connections_count_as_load() -> None:
    balance = balancer(2)
    first, second = balance
    balance.joined(first)
    assert balance.choose(0.0) is second
    balance.left(first)
    balance.joined(second)
    assert balance.choose(0.0) is first


def test_a_slow_endpoint_gets_less_and_is_tried_again_when_time_has_passed() -> None:
    balance = balancer(2)
    slow, fast = balance
    now = 0.0
    for _ in range(20):
        now += 1.0
        balance.begun(slow)
        balance.ended(slow, 1.0, Outcome.ANSWERED, now)
        balance.begun(fast)
        balance.ended(fast, 0.01, Outcome.ANSWERED, now)
    assert all(balance.choose(now) is fast for _ in range(100))
    for _ in range(200):
        balance.begun(fast)  # many in hand are worth a slow one
    assert balance.choose(now) is slow
    for _ in range(200):
        balance.ended(fast, 0.01, Outcome.ANSWERED, now)
    assert {balance.choose(now + 60.0) for _ in range(100)} == {slow, fast}


@pytest.mark.parametrize("at_once", [1, 10])
def test_a_cold_start_is_not_held_against_an_endpoint(at_once: int) -> None:
    """Its first answers come late, all that were asked for before the first one came: then it is as fast as others."""
    balance = balancer()
    cold, *_ = balance
    for _ in range(at_once):
        balance.begun(cold)
    for number in range(at_once):
        balance.ended(cold, 0.2 + number / 1000, Outcome.ANSWERED, 0.2 + number / 1000)
    assert shares(balance, now=0.3) == pytest.approx([1 / 3] * 3, rel=0.1)


def test_one_slow_answer_is_chance_and_two_in_a_row_are_not() -> None:
    balance = balancer(2)
    one, other = balance
    for now in (1.0, 2.0, 3.0):
        for member in (one, other):
            balance.begun(member)
            balance.ended(member, 0.001, Outcome.ANSWERED, now)
    for now, seen in ((4.0, {one, other}), (5.0, {other})):
        balance.begun(one)
        balance.ended(one, 0.9, Outcome.ANSWERED, now)
        assert {balance.choose(now) for _ in range(100)} == seen


def test_an_endpoint_that_fails_at_once_does_not_look_the_fastest() -> None:
    balance = balancer(2)
    broken, sound = balance
    fail(balance, broken, times=1)
    for _ in range(5):
        balance.begun(sound)
        balance.ended(sound, 0.008, Outcome.ANSWERED, 0.0)
    assert all(balance.choose(0.0) is sound for _ in range(50))


def test_one_endpoint_is_always_chosen_unless_it_is_to_be_avoided() -> None:
    balance = balancer(1)
    (only,) = balance
    fail(balance, only, times=100)
    assert balance.choose(0.0) is only
    assert balance.single is only
    assert balance.choose(0.0, avoid=(only,)) is None
    assert Balancer(endpoints=(), route=None, now=0.0, random=Random(1)).choose(0.0) is None


def test_what_is_to_be_avoided_is_not_chosen_even_if_the_rest_is_left_out() -> None:
    balance = balancer(3)
    first, second, third = balance
    assert {balance.choose(0.0, avoid=(first,)) for _ in range(50)} == {second, third}
    fail(balance, third)
    assert {balance.choose(0.0, avoid=(first, second)) for _ in range(5)} == {third}
    assert balance.choose(0.0, avoid=(first, second, third)) is None


def test_failures_in_a_row_leave_an_endpoint_out_until_its_time_is_over() -> None:
    balance = balancer()
    bad, *_ = balance
    assert not fail(balance, bad, times=4)
    assert fail(balance, bad, times=1)
    assert balance.ejections == 1
    assert all(balance.choose(29.9) is not bad for _ in range(100))
    assert bad in {balance.choose(30.0) for _ in range(100)}


def test_an_answer_between_failures_is_no_row() -> None:
    balance = balancer()
    bad, *_ = balance
    for _ in range(10):
        assert not fail(balance, bad, times=4)
        balance.learned(bad, 0.001, Outcome.ANSWERED, 0.0)
    assert balance.ejections == 0


def test_failures_longer_apart_than_the_interval_are_no_row() -> None:
    balance = balancer(route=Route(name="r", outliers=Outliers(consecutive=2, interval_seconds=10)))
    bad, *_ = balance
    assert not any(fail(balance, bad, times=1, now=now) for now in (0.0, 11.0, 22.0))
    assert fail(balance, bad, times=1, now=31.0)


def test_each_ejection_in_a_row_is_longer_and_the_first_is_short_again_after_a_good_time() -> None:
    balance = balancer(route=Route(name="r", outliers=Outliers(consecutive=1, ejection_seconds=10)))
    bad, *_ = balance
    ends = []
    now = 0.0
    for _ in range(12):
        assert fail(balance, bad, times=1, now=now)
        ends.append(bad.ejected_until - now)
        now = bad.ejected_until
    assert ends == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100, 100]
    balance.learned(bad, 0.001, Outcome.ANSWERED, now + 50)
    assert fail(balance, bad, times=1, now=now + 50)
    assert bad.ejected_until - (now + 50) == 100
    now = bad.ejected_until
    balance.learned(bad, 0.001, Outcome.ANSWERED, now + 101)
    assert fail(balance, bad, times=1, now=now + 101)
    assert bad.ejected_until - (now + 101) == 10


def test_never_more_than_the_share_is_left_out() -> None:
    balance = balancer(4, Route(name="r", outliers=Outliers(consecutive=1, max_ejected_percent=50), panic_percent=0))
    assert [fail(balance, member, times=1) for member in balance] == [True, True, False, False]
    none = balancer(4, Route(name="r", outliers=Outliers(consecutive=1, max_ejected_percent=0)))
    assert not any(fail(none, member, times=9) for member in none)


def test_below_the_panic_threshold_all_are_used_and_that_is_counted() -> None:
    route = Route(name="r", outliers=Outliers(consecutive=1, max_ejected_percent=100), panic_percent=50)
    balance = balancer(4, route)
    members = list(balance)
    for member in members[:2]:
        fail(balance, member, times=1)
    assert {balance.choose(0.0) for _ in range(100)} == set(members[2:])
    assert not balance.panicking
    fail(balance, members[2], times=1)
    assert balance.panicking
    assert balance.panics == 1
    assert len({balance.choose(0.0) for _ in range(200)}) > 1
    balance.choose(31.0)
    assert not balance.panicking


def test_an_answer_of_5xx_counts_only_where_a_route_names_outliers() -> None:
    plain, routed = balancer(), balancer(route=Route(name="r", outliers=Outliers(consecutive=2)))
    for balance, ejected in ((plain, 0), (routed, 1)):
        first, *_ = balance
        for _ in range(10):
            balance.learned(first, 0.001, Outcome.ERROR, 0.0)
        assert balance.ejections == ejected


def test_what_says_nothing_of_the_endpoint_is_not_counted() -> None:
    balance = balancer()
    first, *_ = balance
    for _ in range(100):
        balance.begun(first)
        assert not balance.ended(first, 0.0, Outcome.UNKNOWN, 0.0)
    assert (first.failures, first.latency_seconds, first.outstanding) == (0, 0.0, 0)


def test_an_unready_endpoint_is_chosen_only_where_none_is_ready() -> None:
    one, two, three = endpoints(3)
    balance = balancer()
    balance.update((replace(one, ready=False), two, replace(three, ready=False)), None, 0.0)
    first, second, third = balance
    assert {balance.choose(0.0) for _ in range(50)} == {second}
    assert not first.usable
    balance.update(tuple(replace(end, ready=False) for end in endpoints(3)), None, 0.0)
    assert {balance.choose(0.0) for _ in range(50)} == {first, second, third}


def test_what_was_learned_stays_with_an_endpoint_that_stays() -> None:
    balance = balancer()
    first, second, _ = balance
    fail(balance, first)
    balance.begun(second)
    balance.update(endpoints(2), None, 0.0)
    assert list(balance) == [first, second]
    assert first.ejected_until == 30.0
    assert second.outstanding == 1


def test_an_endpoint_that_is_gone_is_not_chosen_and_not_kept_by_a_connection() -> None:
    balance = balancer()
    *_, third = balance
    assert third.usable
    balance.update(endpoints(2), None, 0.0)
    assert third.gone
    assert not third.usable
    assert third not in {balance.choose(0.0) for _ in range(100)}
    assert not fail(balance, third)


def test_an_ejected_endpoint_is_no_place_to_stay() -> None:
    balance = balancer()
    first, second, _ = balance
    fail(balance, first)
    assert not first.usable
    assert second.usable
    balance.choose(31.0)
    assert first.usable


def test_retries_stay_within_their_budget() -> None:
    balance = balancer(route=Route(name="r", retries=Retries(budget_percent=20)))
    (member, *_) = balance
    retried = 0
    for _ in range(1000):
        balance.begun(member)
        retried += balance.budget.withdraw(balance.calls, 0.0)
        balance.ended(member, 0.0, Outcome.UNKNOWN, 0.0)
    assert 200 <= retried <= 210  # a fifth, and the reserve


def test_a_quiet_service_may_retry_now_and_then() -> None:
    budget = balancer().budget
    assert sum(budget.withdraw(0, 0.0) for _ in range(100)) == 10
    assert sum(budget.withdraw(0, 5.0) for _ in range(100)) == 5
    assert sum(budget.withdraw(0, 9999.0) for _ in range(100)) == 10


def test_much_traffic_does_not_save_up_without_end() -> None:
    budget = balancer().budget
    assert sum(budget.withdraw(1_000_000, 0.0) for _ in range(1000)) == 100


def test_a_budget_of_nothing_permits_nothing() -> None:
    balance = balancer(route=Route(name="r", retries=Retries(budget_percent=0)))
    assert not balance.budget.withdraw(1_000_000, 1e6)


def test_a_circuit_opens_at_its_limit_and_closes_below_it() -> None:
    limits = CircuitBreaker(connections=1, pending=2, requests=1)
    circuit = balancer(route=Route(name="r", circuit_breaker=limits)).circuit
    assert [circuit.try_connection(), circuit.try_connection()] == [True, False]
    assert [circuit.try_pending() for _ in range(3)] == [True, True, False]
    assert [circuit.try_request(), circuit.try_request()] == [True, False]
    circuit.requests -= 1
    assert circuit.try_request()
    unlimited = balancer().circuit
    assert all(unlimited.try_request() and unlimited.try_connection() for _ in range(10_000))
