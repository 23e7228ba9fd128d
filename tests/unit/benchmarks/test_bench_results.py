from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.results import Bar, Pair, Row, against_bar, all_met, as_json, as_table, compare, percentile, renewed


def pairs(*values: tuple[float, float]) -> list[Pair]:
    return [Pair(ours=ours, theirs=theirs) for ours, theirs in values]


def row(bar: Bar | None = Bar(limit=0.30)) -> Row:  # noqa: B008 - frozen
    return compare("http1", "c=32", "cpu_us_per_request", "envoy 1.40.0", pairs((29.1, 157.0)), bar)


def test_ratio_is_the_median_of_ratios_within_a_round_not_the_ratio_of_medians() -> None:
    found = compare("w", "l", "m", "p", pairs((10, 100), (30, 60), (20, 50)))

    assert found.ratio == pytest.approx(0.4)
    assert (found.ours, found.theirs) == (20, 60)
    assert found.spread == (pytest.approx(0.1), pytest.approx(0.5))
    assert found.rounds == 3


def test_one_slow_round_for_both_leaves_the_ratio_as_it_was() -> None:
    calm = compare("w", "l", "m", "p", pairs((10, 50), (10, 50), (10, 50)))
    disturbed = compare("w", "l", "m", "p", pairs((10, 50), (40, 200), (10, 50)))

    assert disturbed.ratio == pytest.approx(calm.ratio)


@pytest.mark.parametrize(
    ("bar", "ratio", "met"),
    [
        (Bar(limit=0.3), 0.3, True),
        (Bar(limit=0.3), 0.301, False),
        (Bar(limit=3.0, at_least=True), 3.0, True),
        (Bar(limit=3.0, at_least=True), 2.9, False),
    ],
)
def test_a_bar_is_met_up_to_and_including_its_limit(bar: Bar, ratio: float, met: bool) -> None:
    assert compare("w", "l", "m", "p", pairs((ratio, 1.0)), bar).met is met


def test_a_metric_without_a_bar_is_neither_met_nor_missed() -> None:
    found = row(bar=None)

    assert found.bar is None
    assert found.met is None
    assert all_met([found])


def test_one_missed_bar_misses_the_whole_and_an_empty_report_meets_nothing() -> None:
    assert all_met([row()])
    assert not all_met([row(), row(Bar(limit=0.1))])
    assert not all_met([])


@pytest.mark.parametrize("measured", [[], pairs((1, 0)), pairs((1, 1), (1, 0))])
def test_a_ratio_to_nothing_is_refused(measured: list[Pair]) -> None:
    with pytest.raises(ValueError, match="measured"):
        compare("w", "l", "m", "p", measured)


def test_json_has_the_shape_that_all_works_share() -> None:
    report = json.loads(json.dumps(as_json({"cores": 2}, [row()])))

    assert report == {
        "machine": {"cores": 2},
        "rows": [
            {
                "work": "http1",
                "level": "c=32",
                "metric": "cpu_us_per_request",
                "ours": 29.1,
                "peer": "envoy 1.40.0",
                "theirs": 157.0,
                "ratio": 0.1854,
                "spread": [0.1854, 0.1854],
                "rounds": 1,
                "bar": 0.3,
                "at_least": False,
                "met": True,
            }
        ],
        "failed": {},
        "met": True,
    }
    assert as_json({}, [row()], {"tcp": "nginx died"})["met"] is False


def test_table_groups_levels_under_their_metric_and_names_a_missed_bar() -> None:
    three = [
        compare("http1", "c=8", "cpu_us_per_request", "envoy", pairs((50, 100), (40, 100)), Bar(limit=0.45)),
        compare("http1", "c=8", "requests_per_second", "envoy", pairs((9000, 3000))),
        compare("http1", "c=32", "cpu_us_per_request", "envoy", pairs((29, 157)), Bar(limit=0.1)),
    ]

    lines = as_table(three).splitlines()

    headings = [line for line in lines if line.startswith("http1")]
    assert headings == [
        "http1: cpu_us_per_request, ours against envoy",
        "http1: requests_per_second, ours against envoy",
    ]
    assert lines[2].split() == ["c=8", "45.0", "100.0", "0.45", "0.40–0.50", "≤", "0.45", "met"]
    assert lines[3].split() == ["c=32", "29.0", "157.0", "0.18", "≤", "0.10", "MISSED"]
    assert "9,000" in lines[7]


def test_table_says_of_a_bar_whether_more_or_less_is_better() -> None:
    more = compare("tcp", "c=8", "m", "envoy", pairs((300, 100)), Bar(limit=3.0, at_least=True))

    assert as_table([more]).splitlines()[2].split() == ["c=8", "300.0", "100.0", "3.00", "≥", "3.00", "met"]
    assert as_json({}, [more])["rows"][0]["at_least"] is True  # type: ignore[index]


def test_a_number_may_stand_in_the_peers_place() -> None:
    found = against_bar("start", "by token", "seconds", [0.8, 0.5, 1.2], 1.0)

    assert (found.ours, found.theirs, found.ratio, found.bar, found.met) == (0.8, 1.0, 0.8, 1.0, True)
    assert found.spread == (0.5, 1.2)
    assert found.rounds == 3


@pytest.mark.parametrize(
    ("values", "at_least", "share", "met"),
    [
        ([90.0] * 99 + [500.0], False, 99, True),
        ([90.0] * 98 + [500.0] * 2, False, 99, False),
        ([90.0] * 98 + [500.0] * 2, False, None, True),
        ([500.0], True, None, True),
        ([99.0], True, None, False),
    ],
)
def test_a_number_is_reached_by_the_median_or_by_a_percentile(
    values: list[float], at_least: bool, share: float | None, met: bool
) -> None:
    assert against_bar("w", "l", "m", values, 100.0, at_least=at_least, share=share).met is met


def test_nothing_measured_reaches_no_number() -> None:
    with pytest.raises(ValueError, match="measured"):
        against_bar("w", "l", "m", [], 1.0)


@pytest.mark.parametrize(("share", "value"), [(50, 2), (75, 3), (99, 4), (100, 4), (1, 1)])
def test_percentile_is_the_nearest_rank(share: float, value: int) -> None:
    assert percentile([1, 2, 3, 4], share) == value


MACHINE = {"cpu": "c", "cores": 2, "python": "3.11.7", "load_average": [0.1, 0.2, 0.3]}


def report(*rows: Row, **machine: object) -> dict[str, Any]:
    return json.loads(json.dumps(as_json({**MACHINE, **machine}, rows)))  # type: ignore[no-any-return]


def measured(work: str, value: float) -> Row:
    return compare(work, "l", "m", "p", pairs((value, 1.0)), Bar(limit=1.0))


def test_a_work_that_is_measured_again_takes_the_place_of_its_rows_alone() -> None:
    earlier = report(measured("a", 0.5), measured("b", 2.0), measured("c", 0.7))
    found = renewed(earlier, report(measured("b", 0.9), load_average=[5.0, 5.0, 5.0]), ["a", "b", "c"])
    assert [(row["work"], row["ours"]) for row in found["rows"]] == [("a", 0.5), ("b", 0.9), ("c", 0.7)]
    assert (earlier["met"], found["met"]) == (False, True)
    assert found["machine"] == {**MACHINE, "again": {"b": [5.0, 5.0, 5.0]}}


def test_rows_of_another_machine_are_not_put_into_a_report() -> None:
    with pytest.raises(ValueError, match="cores is 64, and was 2"):
        renewed(report(measured("a", 0.5)), report(measured("a", 0.4), cores=64), ["a"])
