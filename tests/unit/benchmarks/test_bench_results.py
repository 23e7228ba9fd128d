from __future__ import annotations

import json

import pytest

from benchmarks.results import Bar, Pair, Row, all_met, as_json, as_table, compare


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
                "met": True,
            }
        ],
        "met": True,
    }


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
    assert lines[2].split() == ["c=8", "45.0", "100.0", "0.45", "0.40–0.50", "0.45", "met"]
    assert lines[3].split() == ["c=32", "29.0", "157.0", "0.18", "0.10", "MISSED"]
    assert "9,000" in lines[7]
