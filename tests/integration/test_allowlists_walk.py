"""docs/allowlists.md, done: each of its commands ends well and prints what the page says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.walks import Step, matches, steps_of, walk

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "allowlists.md"
SECONDS = 240.0


@pytest.mark.timeout(SECONDS + 30)
def test_the_walk_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    home = tmp_path / "home"
    home.mkdir()
    steps = steps_of(PAGE.read_text())
    assert len(steps) > 20
    binaries = Path(sys.executable).parent
    environment = {"HOME": str(home), "PATH": f"{binaries}:{os.environ['PATH']}"}
    flaws = walk(steps, tmp_path, environment, SECONDS)
    if flaws and (tmp_path / "shop" / "up.log").exists():
        flaws.append((tmp_path / "shop" / "up.log").read_text()[-3000:])
    assert not flaws, "\n\n".join(flaws)


@pytest.mark.parametrize(
    "command, output, flaw",
    [
        ("echo one", ["two"], "should say"),
        ("false", [], "ended with status 1"),
        ("exit 0", [], "was not done"),
        ("printf 'a\\nb\\nc\\n'", ["a", "c"], "should say"),
        ("printf 'a\\nb\\nc\\n'", ["a", "…", "b"], "should say"),
    ],
)
def test_a_walk_that_goes_otherwise_is_told(command: str, output: list[str], flaw: str, tmp_path: Path) -> None:
    told = walk([Step(line=1, command=[command], output=output)], tmp_path, {}, 20)
    assert len(told) == 1
    assert flaw in told[0]


def test_what_a_page_leaves_open_may_be_anything() -> None:
    assert matches(["a … c", "…", "z"], ["a b c", "1", "2", "z"])
    assert matches(["a", "…"], ["a"])
    assert not matches(["a … c"], ["a b d"])
