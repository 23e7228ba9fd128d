"""docs/threat-model.md: each claim names a test that there is, and what is not covered stands there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)))


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    assert name in names_in(file)


def test_every_row_names_a_test() -> None:
    tables = PAGE.partition("## At the callee")[2]
    rows = [
        line for line in tables.splitlines() if line.startswith("| ") and not line.startswith(("| kept", "| not kept"))
    ]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []


@pytest.mark.parametrize("uncovered", ["UDP", "QUIC", "NET_ADMIN", "CAP_SETUID", "The node", "etcd", "Administrators"])
def test_what_is_not_covered_is_said(uncovered: str) -> None:
    assert uncovered in PAGE.partition("## Not covered")[2]
