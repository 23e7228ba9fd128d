"""The keeper's list: what is left on it is killed, so nothing may come onto it by mistake."""

from __future__ import annotations

from controlplane.up.keeper import keep


def test_a_group_that_was_removed_is_not_kept() -> None:
    assert keep(["+100\n", "+200\n", "-100\n"]) == {200}


def test_group_zero_one_and_what_is_no_number_are_never_kept() -> None:
    assert keep(["+0\n", "+1\n", "+-5\n", "+x\n", "200\n", "+\n", "\n", "+²\n"]) == set()


def test_a_line_cut_by_the_supervisor_s_death_keeps_what_it_says_so_far_only_if_it_is_whole() -> None:
    assert keep(["+123"]) == set()
