"""When renewals and retries happen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.identity.schedule import call_deadline, renew_after, retry_after

draws = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)


@given(left=st.floats(min_value=10.0, max_value=86_400.0), draw=draws)
def test_renewal_is_due_about_half_way(left: float, draw: float) -> None:
    assert 0.45 * left - 1e-6 <= renew_after(left, lambda: draw) <= 0.55 * left + 1e-6


def test_two_sidecars_started_together_do_not_renew_together() -> None:
    assert renew_after(3600.0, lambda: 0.1) != renew_after(3600.0, lambda: 0.9)


@given(left=st.floats(min_value=-5.0, max_value=2.0), draw=draws)
def test_a_dying_identity_does_not_make_a_tight_loop(left: float, draw: float) -> None:
    assert renew_after(left, lambda: draw) >= 1.0


@given(attempt=st.integers(0, 1000), left=st.floats(min_value=0.0, max_value=86_400.0), draw=draws)
def test_retries_are_bounded_on_both_sides(attempt: int, left: float, draw: float) -> None:
    assert 0.0 < retry_after(attempt, left, lambda: draw) <= 30.0


@given(draw=draws)
def test_a_ten_second_identity_gets_several_tries_in_its_second_half(draw: float) -> None:
    left, tries = 5.0, 0
    while left > 0.0:
        left -= retry_after(tries, left, lambda: draw)
        tries += 1
    assert tries >= 4


def test_a_ca_that_is_down_for_long_is_asked_seldom() -> None:
    assert retry_after(20, 3000.0, lambda: 0.99) > 25.0
    assert retry_after(20, 0.0, lambda: 0.99) > 25.0


@given(left=st.floats(min_value=3.0, max_value=86_400.0))
def test_one_call_leaves_time_for_another(left: float) -> None:
    assert call_deadline(left) <= max(1.0, left / 3.0)
    assert call_deadline(left) <= 10.0
