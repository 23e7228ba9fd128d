from __future__ import annotations

import json
import re

import pytest

from benchmarks import applying
from benchmarks.policy import KINDS
from benchmarks.policy_peer import configuration
from benchmarks.policy_shapes import ASKED, ONE_CALLER, SHAPES, Judge, Shape, megabytes
from benchmarks.works import BenchmarkError
from ringfence.policy.documents import read_documents


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
    assert megabytes(SHAPES[1], 500) > megabytes(SHAPES[1], 10)


@pytest.mark.parametrize("count", [1, 10])
def test_envoy_is_told_the_rules_that_ours_judges_by(count: int) -> None:
    [listener] = configuration(1234, count)["static_resources"]["listeners"]  # type: ignore[index]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    policies = manager["http_filters"][0]["typed_config"]["rules"]["policies"]
    assert len(policies) == count
    patterns = [
        re.compile(part["url_path"]["path"]["safe_regex"]["regex"])
        for one in policies.values()
        for part in one["permissions"][0]["and_rules"]["rules"]
        if "url_path" in part
    ]
    for path in ONE_CALLER.paths(count, 0):
        assert sum(pattern.fullmatch(path.decode()) is not None for pattern in patterns) == 1


def test_without_rules_envoy_judges_nothing() -> None:
    assert "rbac" not in json.dumps(configuration(1234, 0))


def test_each_change_that_is_timed_alters_the_policy_of_every_sidecar() -> None:
    before, after = applying._files(1), applying._files(2)
    assert len(before) == applying.SIDECARS
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)
    for name, text in after.items():
        documents, problems = read_documents(text, name)
        assert (len(documents), problems) == (1, [])
