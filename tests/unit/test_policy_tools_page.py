"""docs/policy-tools.md: its commands print what it says, and its JSON has the keys that commands write."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from controlplane.policy.commands import policy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy-tools.md").read_text()
SHOP = ROOT / "examples" / "shop"
CONSOLE = re.findall(r"```console\n\$ ringfence policy (.*)\n((?:.*\n)*?)\[(\d)\]\n```", PAGE)
EXPLAIN, TEST, GRAPH, DIFF, PROVE = (json.loads(text) for text in re.findall(r"```json\n((?:.*\n)*?)```", PAGE))

VIOLATED = """\
apiVersion: ringfence.io/v1alpha1
kind: Invariant
metadata: {name: i, namespace: shop}
spec: {service: ledger, noPath: {from: [web]}}
"""


@pytest.mark.parametrize(("words", "output", "status"), CONSOLE, ids=[words for words, _, _ in CONSOLE])
def test_a_command_prints_what_the_page_says(
    words: str, output: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(SHOP)
    result = CliRunner().invoke(policy, shlex.split(words))

    assert (result.output, result.exit_code) == (output, int(status))


def test_the_page_has_its_examples() -> None:
    assert len(CONSOLE) == PAGE.count("```console") == 6


def keys(shown: Any, found: Any) -> None:
    """Every object that the page shows has the keys of the one that is written, as far as it shows any."""
    if isinstance(shown, dict) and shown and isinstance(found, dict):
        assert shown.keys() == found.keys()
        for name, value in shown.items():
            keys(value, found[name])
    elif isinstance(shown, list) and shown and isinstance(found, list) and isinstance(shown[0], dict) and found:
        keys(shown[0], found[0])


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (EXPLAIN, ["explain", "--from", "web", "--to", "orders", "--method", "PUT"]),
        (TEST, ["test", "policy-tests.yaml"]),
        (GRAPH, ["graph"]),
        (DIFF, ["diff", "policies", "policies/orders.yaml"]),
        (PROVE, ["prove", "{violated}", "--mesh", "mesh.yaml"]),
    ],
    ids=["explain", "test", "graph", "diff", "prove"],
)
def test_json_has_the_keys_that_the_page_shows(
    shown: dict[str, Any], words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(SHOP)
    violated = tmp_path / "violated.yaml"
    violated.write_text(VIOLATED)
    words = [word.format(violated=violated) for word in words]
    found = json.loads(CliRunner().invoke(policy, [*words, "--json"]).stdout)
    # What the shop has none of is shown by example.
    for name in ("denying", "notes"):
        shown.pop(name, None)
        found.pop(name, None)
    if "coverage" in found:
        shown["coverage"]["unexercised"] = []
    if "call" in shown:
        shown["call"]["token"] = None

    assert all(found[name] for name in ("nearest", "cases", "nodes", "edges", "changes", "invariants") if name in shown)
    keys(shown, found)


def test_every_dimension_is_on_the_page() -> None:
    from ringfence.policy.analysis.differing import Dimension

    assert [one for one in Dimension if f"`{one}`" not in PAGE] == []


def test_every_claim_is_on_the_page() -> None:
    from ringfence.policy.analysis.invariants import FORMS

    assert [one for one in FORMS if f"| `{one}: " not in PAGE] == []
