"""What a run leaves out is what nobody named, and it is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import left_out

_ROOT = Path(__file__).parents[2]
_CLUSTER = _ROOT / "tests" / "cluster"
_LONG = _CLUSTER / "test_long_lives.py"


def _config(*arguments: str) -> Any:
    return SimpleNamespace(args=list(arguments), invocation_params=SimpleNamespace(dir=_ROOT))


def _told(*arguments: str) -> list[str]:
    lines: list[str] = []
    reporter: Any = SimpleNamespace(section=lambda title, **_: lines.append(title), write=None, line=lines.append)
    left_out.pytest_terminal_summary(reporter, _config(*arguments))
    return lines


@pytest.mark.parametrize(
    "arguments", [["tests"], ["tests/unit"], ["tests/unit/test_left_out.py::test_x"], [str(_ROOT)]]
)
def test_without_a_word_about_it_nothing_runs_on_a_cluster(arguments: list[str]) -> None:
    assert left_out.pytest_ignore_collect(_CLUSTER, _config(*arguments)) is True
    assert _told(*arguments)[0] == "LEFT OUT"
    assert "make test-cluster`" in _told(*arguments)[1]


def test_of_the_cluster_tests_the_long_ones_run_by_their_name_alone() -> None:
    assert _LONG.is_file()
    for path, ignored in ((_CLUSTER, None), (_CLUSTER / "test_shop.py", None), (_LONG, True)):
        assert left_out.pytest_ignore_collect(path, _config("tests/cluster")) is ignored
    assert "ARGS=tests/cluster/test_long_lives.py`" in _told("tests/cluster")[1]
    assert _told("tests/cluster/test_long_lives.py") == []
    assert _told("tests/cluster/test_shop.py::test_x") == []
