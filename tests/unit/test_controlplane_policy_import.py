"""``ringfence policy import``: its outputs and exit statuses, and that what it makes is judged as it was there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from controlplane.policy.commands import policy
from controlplane.policy.loading import load
from ringfence.policy.analysis.calls import Call, Judge
from ringfence.policy.analysis.naming import CallWords, call_of
from tests.mesh_files import MeshFolder

HEAD = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: orders, namespace: shop}\n"
READS = f"""{HEAD}spec:
  selector: {{matchLabels: {{app: orders}}}}
  rules:
    - from:
        - source: {{principals: [cluster.local/ns/shop/sa/web]}}
      to:
        - operation: {{methods: [GET], paths: [/orders/*], notPaths: [/orders/secret*]}}
      when:
        - {{key: "request.headers[x-team]", notValues: [red]}}
"""
DENIES = f"{HEAD}spec: {{action: DENY, rules: [{{from: [{{source: {{notIpBlocks: [10.0.0.0/8]}}}}]}}]}}\n"


def run(*arguments: object) -> Result:
    words = ["import", "--from", "istio", "--trust-domain", "shop.example", *map(str, arguments)]
    return CliRunner().invoke(policy, words)


@pytest.fixture
def reads(tmp_path: Path) -> Path:
    file = tmp_path / "istio.yaml"
    file.write_text(READS)
    return file


def test_what_is_imported_is_judged_as_it_was_there(reads: Path, tmp_path: Path) -> None:
    (tmp_path / "mesh").mkdir()
    files = MeshFolder(tmp_path / "mesh", "web", "orders")
    files.write_mesh(
        files.mesh_file.read_text().replace("- name: orders\n", "- name: orders\n      labels: {app: orders}\n")
    )
    assert run(reads, "--output", files.policies).exit_code == 0

    loaded = load([], mesh=files.mesh_file)
    assert loaded.world is not None, loaded.problems
    judge = Judge(loaded.world)
    call = call_of(CallWords(caller="web", service="orders", path="/orders/7", time=1.0), loaded.world)

    def passes(**changes: Any) -> bool:
        changed: Call = replace(call, **changes)
        return judge.judge(changed).permitted

    assert passes()
    assert passes(path="/orders/")
    assert passes(headers=(("x-team", "blue"),))
    assert not passes(path="/orders")
    assert not passes(path="/orders/secrets")
    assert not passes(method="PUT")
    assert not passes(headers=(("x-team", "red"),))
    assert not passes(caller=loaded.world.services[0].spiffe_id)


def test_documents_go_to_standard_output_and_what_is_not_said_to_standard_error(reads: Path) -> None:
    reads.write_text(READS + "    - when: [{key: connection.sni, values: [a]}]\n")
    result = run(reads)

    assert result.exit_code == 0
    assert result.stdout.startswith("---\napiVersion: ringfence.io/v1alpha1\nkind: Allowlist\n")
    assert f"not said (allow): {reads}:13:" in result.stderr


def test_a_deny_that_cannot_be_said_ends_with_1(reads: Path) -> None:
    reads.write_text(DENIES)

    result = run(reads, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["documents"], document["weaker"]) == ([], True)
    assert document["unsaid"][0]["weight"] == "deny"
    assert document["unsaid"][0]["place"]["line"] == 4


def test_no_file_that_is_there_is_written_over(reads: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert run(reads, "--output", folder).exit_code == 0
    (made,) = folder.iterdir()
    made.write_text("mine")

    result = run(reads, "--output", folder)
    assert result.exit_code == 2
    assert f"{made} is there already" in result.stderr
    assert made.read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "istio.yaml:2:1: not valid YAML"),
        ("kind: X\n", "document lacks metadata"),
        ("# nothing\n", "there is no object"),
    ],
)
def test_what_is_no_object_ends_with_2(reads: Path, text: str, told: str) -> None:
    reads.write_text(text)
    result = run(reads)

    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_a_trust_domain_that_is_none_ends_with_2(reads: Path) -> None:
    result = run(reads, "--trust-domain", "Shop_/x")

    assert result.exit_code == 2
    assert "--trust-domain: " in result.stderr
