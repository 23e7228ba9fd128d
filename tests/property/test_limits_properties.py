"""The arithmetic of limits: never more than the rate and the burst, and after the time that was told it is allowed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringfence.routing.model import Rate
from sidecar.limits.gcra import SECOND_NS, Bucket, a_second_of

rates = st.builds(Rate, amount=st.integers(1, 10_000), seconds=st.sampled_from([1, 60, 3600]))
buckets = st.builds(Bucket, rates, st.integers(1, 50))
steps = st.lists(st.integers(0, 2 * SECOND_NS), max_size=60)


@given(buckets, steps, st.integers(0, 2**62))
def test_no_stretch_of_time_sees_more_than_burst_and_rate_allow(bucket: Bucket, gaps: list[int], now: int) -> None:
    state, allowed = 0, []
    for gap in gaps:
        now += gap
        state, wait = bucket.ask(state, now)
        if not wait:
            allowed.append(now)
    for number, start in enumerate(allowed):
        for count, end in enumerate(allowed[number:], 1):
            assert bucket.cost_ns(1) * (count - bucket.burst) <= end - start


@given(buckets, steps)
def test_what_is_refused_uses_nothing_up_and_is_allowed_after_just_the_time_told(
    bucket: Bucket, gaps: list[int]
) -> None:
    state, now = 0, 10**15
    for gap in gaps:
        now += gap
        state, wait = bucket.ask(state, now)
        if wait:
            assert bucket.ask(state, now + wait - 1)[1] == 1
            now += wait
            state, wait = bucket.ask(state, now)
            assert wait == 0


@given(buckets, st.integers(0, 2**64 - 1), st.integers(0, 2**62))
def test_no_state_however_wrong_locks_a_caller_out_for_longer_than_one_unit_takes(
    bucket: Bucket, state: int, now: int
) -> None:
    after, wait = bucket.ask(state, now)
    assert wait <= bucket.cost_ns(1)
    assert bucket.ask(after, now + wait)[1] <= bucket.cost_ns(1)


@given(rates, st.lists(st.integers(1, 1_000_000), min_size=1, max_size=30))
def test_bytes_are_paused_for_until_all_are_paid_for(rate: Rate, sizes: list[int]) -> None:
    bucket = Bucket(rate, a_second_of(rate))
    state, now, start = 0, 10**15, 10**15
    for size in sizes:
        state, wait = bucket.charge(state, now, size)
        now += wait
    limit = bucket.tolerance_ns + (now - start)
    assert bucket.cost_ns(sum(sizes)) <= limit + len(sizes) or now - start >= 600 * SECOND_NS


def test_without_a_burst_a_second_of_the_rate_is_allowed_at_once() -> None:
    assert a_second_of(Rate(amount=100, seconds=1)) == 100
    assert a_second_of(Rate(amount=6000, seconds=60)) == 100
    assert a_second_of(Rate(amount=50, seconds=3600)) == 1
