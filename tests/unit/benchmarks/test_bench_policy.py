from __future__ import annotations

import pytest

from benchmarks.policy import ASKED, KINDS, SHAPES, Judge, Shape, _megabytes
from benchmarks.works import BenchmarkError


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("count", [10, 2000])
def test_each_shape_asks_for_distinct_paths_that_its_policy_permits(shape: Shape, count: int) -> None:
    paths = shape.paths(count, 0) + shape.paths(count, ASKED)

    assert len(set(paths)) == 2 * ASKED
    Judge(shape, count)  # raises unless every path is permitted and another method denied


def test_rules_of_one_caller_are_all_the_callers() -> None:
    many, one = SHAPES

    assert len({rule.callers for rule in many.allowlist(50).rules}) == 50
    assert len({rule.callers for rule in one.allowlist(50).rules}) == 1
    assert len({rule.paths for rule in one.allowlist(50).rules}) == 50


def test_a_policy_that_denies_what_is_asked_gives_no_figure() -> None:
    shape = SHAPES[1]
    foreign = Shape(name="foreign", rule=shape.rule, path=lambda _, number: f"/other/{number}", caller=shape.caller)

    with pytest.raises(BenchmarkError, match="permitted"):
        Judge(foreign, 10)


def test_every_kind_of_decision_is_timed_and_fresh_paths_are_fresh() -> None:
    judge = Judge(SHAPES[0], 10)

    assert all(time_one(judge) > 0 for time_one in KINDS.values())
    assert next(judge._numbers) == 2 * ASKED  # one thousand at the start, one for the fresh ones


def test_more_rules_hold_more_memory() -> None:
    assert _megabytes(SHAPES[1], 500) > _megabytes(SHAPES[1], 10)
