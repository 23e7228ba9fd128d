"""``ringfence policy graph`` on files: its formats and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from controlplane.policy.commands import policy

SHOP = Path(__file__).parents[2] / "examples" / "shop"


def graph(*arguments: str) -> Result:
    return CliRunner().invoke(policy, ["graph", "--mesh", str(SHOP / "mesh.yaml"), *arguments])


def test_text_shows_who_may_call_whom() -> None:
    result = graph()

    assert result.exit_code == 0
    assert "shop/ledger\n  from shop/payments\n    7000  [shop/ledger-callers/payments-books]\n" in result.stdout


def test_each_format_is_what_it_says() -> None:
    assert graph("--format", "dot").stdout.startswith("digraph policy {\n")
    assert graph("--format", "mermaid").stdout.startswith("flowchart LR\n")
    document = json.loads(graph("--format", "json").stdout)
    assert document == json.loads(graph("--json").stdout)
    assert {"shop/web", "shop/ledger"} <= {node["name"] for node in document["nodes"]}
    books = next(edge for edge in document["edges"] if edge["to"]["name"] == "shop/ledger")
    assert (books["from"]["name"], books["grants"][0]["place"]["line"]) == ("shop/payments", 8)


def test_bad_input_ends_with_2(tmp_path: Path) -> None:
    assert graph("--format", "svg").exit_code == 2
    result = graph("--policy", str(tmp_path / "gone.yaml"))
    assert result.exit_code == 2
    assert "gone.yaml:1:1: cannot be read" in result.stderr
