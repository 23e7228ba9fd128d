"""What a soak makes of what it saw."""

from __future__ import annotations

import pytest

from benchmarks.soak.memory import course
from benchmarks.soak.shop import changing_permitted, policy
from benchmarks.soak.tally import Changes, Expected, Seen, Tally


def tally(*moments: tuple[float, bool]) -> Tally:
    changes = Changes(settle_seconds=3.0)
    for moment, permitted in moments:
        changes.saved(moment, permitted)
    return Tally(changes)


def count(found: Tally, expected: Expected, seen: Seen, began: float = 0.0, ended: float = 0.0) -> tuple[int, int]:
    found.count("HTTP", expected, seen, "500", began=began, ended=ended)
    return found.failed_permitted, found.permitted_forbidden


@pytest.mark.parametrize(
    ("expected", "seen", "wrong"),
    [
        (Expected.PERMITTED, Seen.SERVED, (0, 0)),
        (Expected.PERMITTED, Seen.REFUSED, (1, 0)),
        (Expected.PERMITTED, Seen.FAILED, (1, 0)),
        (Expected.PERMITTED, Seen.CUT, (1, 0)),
        (Expected.FORBIDDEN, Seen.REFUSED, (0, 0)),
        (Expected.FORBIDDEN, Seen.CUT, (0, 1)),
        (Expected.FORBIDDEN, Seen.SERVED, (0, 1)),
        (Expected.FORBIDDEN, Seen.FAILED, (1, 0)),
    ],
)
def test_a_call_that_is_not_answered_as_expected_is_told(
    expected: Expected, seen: Seen, wrong: tuple[int, int]
) -> None:
    found = tally()
    assert count(found, expected, seen) == wrong
    assert len(found.samples) == sum(wrong)
    assert found.by_kind() == {"HTTP": {f"{expected} {seen}": 1}}


@pytest.mark.parametrize(
    ("began", "ended", "verdict"),
    [
        (5.0, 6.0, True),
        (9.0, 10.5, None),  # saved meanwhile
        (12.9, 13.0, None),  # may not have settled
        (13.1, 14.0, False),
        (9.0, 25.0, None),  # two changes meanwhile
        (23.5, 24.0, True),
    ],
)
def test_what_changes_is_judged_by_the_revision_of_its_moment(began: float, ended: float, verdict: bool | None) -> None:
    found = tally((0.0, True), (10.0, False), (20.0, True))
    assert found.changes.verdict(began, ended) is verdict
    assert count(found, Expected.CHANGING, Seen.SERVED, began, ended) == (0, 1 if verdict is False else 0)
    found = tally((0.0, True), (10.0, False), (20.0, True))
    assert count(found, Expected.CHANGING, Seen.REFUSED, began, ended) == (1 if verdict else 0, 0)


def test_an_answer_that_is_neither_is_wrong_even_during_a_change() -> None:
    assert count(tally((0.0, True)), Expected.CHANGING, Seen.FAILED, 1.0, 2.0) == (1, 0)


def test_a_stream_may_be_cut_by_the_change_that_denies_it_and_at_no_other_time() -> None:
    moments = ((0.0, True), (10.0, False))
    assert count(tally(*moments), Expected.CHANGING, Seen.CUT, 9.9, 10.1) == (0, 0)
    assert count(tally(*moments), Expected.CHANGING, Seen.CUT, 5.0, 5.1) == (1, 0)
    assert count(tally(*moments), Expected.CHANGING, Seen.CUT, 15.0, 15.1) == (0, 1)


def test_memory_that_grows_in_the_last_half_is_not_flat() -> None:
    def at(size: float) -> list[tuple[float, float]]:
        return [(60.0 * number, 50.0 + size * number) for number in range(20)]

    still, growing = course("sidecar", at(0.0)), course("sidecar", at(0.5))
    assert (still.flat, still.slope_per_minute, still.growth) == (True, 0.0, 0.0)
    assert not growing.flat
    assert growing.slope_per_minute == pytest.approx(0.5)
    with pytest.raises(ValueError, match="tell nothing"):
        course("sidecar", at(0.0)[:5])


def test_every_revision_of_the_policy_is_another_and_only_every_second_permits_what_changes() -> None:
    texts = [str(policy(revision)) for revision in range(4)]
    assert len(set(texts)) == 4
    assert ["/changing" in text for text in texts] == [changing_permitted(revision) for revision in range(4)]
