"""The performance page: each number of it is the committed result file's, and a plot is what its numbers say."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.plot import Bars, chart
from benchmarks.report import DOCS, PLOTS, drawn, main, page

RESULTS = sorted((Path(__file__).parents[3] / "benchmarks" / "results").glob("*.json"))

ROW: dict[str, Any] = {
    "work": "http1",
    "level": "c=8",
    "metric": "cpu_us_per_request",
    "ours": 75.6,
    "peer": "envoy 1.40.0",
    "theirs": 187.2,
    "ratio": 0.4,
    "spread": [0.31, 0.43],
    "rounds": 3,
    "bar": 0.45,
    "at_least": False,
    "met": True,
}
REPORT: dict[str, Any] = {
    "machine": {
        "cpu": "a processor",
        "cpu_features": ["aes", "avx2"],
        "cores": 2,
        "memory_gib": 8,
        "kernel": "6.1",
        "load_average": [0.1, 0.2, 0.3],
        "python": "3.11",
        "python_call_ns": 45,
        "packages": {"uvloop": "1", "absent": None},
        "programs": {"nginx": "1.2"},
    },
    "rows": [ROW, ROW | {"level": "c=32", "ours": 42.0, "bar": 0.1, "met": False}],
    "failed": {"tcp": "nginx died"},
    "met": False,
}


def test_the_page_is_what_the_committed_result_file_gives() -> None:
    [file] = RESULTS
    report = json.loads(file.read_text())
    assert (DOCS / "performance.md").read_text() == page(report, file.name)
    plots = drawn(report)
    assert {plot.name: plot.read_text() for plot in (DOCS / PLOTS).glob("*.svg")} == plots


def test_a_missed_bar_and_a_work_without_figures_are_said() -> None:
    text = page(REPORT, "some.json")
    assert (
        "| http1 | cpu µs per request | c=8 | 75.6 | 187.2 | envoy 1.40.0 | 0.40 | 0.31–0.43 | ≤ 0.45 | met |" in text
    )
    assert "≤ 0.10 | **missed** |" in text
    assert "`tcp` gave no figure: nginx died" in text
    assert "absent" not in text
    assert "- for AES-GCM the processor has: aes, avx2\n" in text
    assert "- Python 3.11 (a call of a function: 45 ns); uvloop 1; nginx 1.2\n" in text


def test_bars_are_as_tall_as_their_values_and_the_text_is_escaped() -> None:
    text = chart(Bars(title="a < b", labels=["x", "y"], values=[(50, 100), (25, 100)], names=("us", "them")))
    root = ET.fromstring(text)
    heights = [
        float(rect.attrib["height"])
        for rect in root.iter("{http://www.w3.org/2000/svg}rect")
        if rect.attrib["height"] not in ("10", "300")
    ]
    assert [round(height / heights[1], 2) for height in heights] == [0.5, 1.0, 0.25, 1.0]


def test_a_wide_range_is_drawn_logarithmically_and_says_so() -> None:
    text = chart(Bars(title="t", labels=["x"], values=[(1, 1000)], names=("us", "them")))
    assert "(logarithmic)" in text


@pytest.mark.parametrize("values", [[], [(0.0, 1.0)]])
def test_nothing_is_no_chart(values: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        chart(Bars(title="t", labels=["x"] * len(values), values=values, names=("us", "them")))


def test_the_command_writes_the_page_and_removes_plots_of_before(tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    file.write_text(json.dumps(REPORT))
    stale = tmp_path / "docs" / PLOTS / "gone.svg"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    done = CliRunner().invoke(main, [str(file), "--docs", str(tmp_path / "docs")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "docs" / "performance.md").read_text() == page(REPORT, "some.json")
    assert [plot.name for plot in stale.parent.iterdir()] == ["http1.svg"]
