"""``ringfence policy test``: what it prints, its JSON and its exit statuses; and the example of the shop."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from controlplane.policy.commands import policy

SHOP = Path(__file__).parents[2] / "examples" / "shop"
HEAD = "apiVersion: ringfence.io/v1alpha1\nkind: PolicyTest\nmetadata: {name: t, namespace: shop}\nspec:\n  cases:\n"
READS = "    - {name: web reads, call: {from: web, to: orders, path: /orders/7}, expect: permit}\n"
WRITES = "    - {name: web writes, call: {from: web, to: orders, method: PUT, path: /orders/7}, expect: permit}\n"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(policy, ["test", *map(str, arguments)])


def test_the_cases_of_the_shop_pass_and_exercise_every_rule() -> None:
    result = run(SHOP / "policy-tests.yaml", "--require-coverage", 100)

    assert result.exit_code == 0, result.output
    assert "0 failed" in result.stdout
    assert "exercised (100 %)" in result.stdout


def test_a_failed_case_ends_with_1_and_says_what_came_instead(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(HEAD + READS + WRITES)
    result = run(file, "--mesh", SHOP / "mesh.yaml")

    assert result.exit_code == 1
    assert (
        f"FAILED  web writes ({file}:7): expected permit; got deny, method_not_allowed, shop/orders-callers/web-reads"
        in (result.stdout)
    )
    assert "2 cases: 1 passed, 1 failed" in result.stdout
    assert "no case speaks to shop/orders-callers/health (" in result.stdout


def test_too_few_exercised_rules_end_with_1(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(HEAD + READS)

    assert run(file, "--mesh", SHOP / "mesh.yaml").exit_code == 0
    assert run(file, "--mesh", SHOP / "mesh.yaml", "--require-coverage", 20).exit_code == 0
    result = run(file, "--mesh", SHOP / "mesh.yaml", "--require-coverage", 21)
    assert result.exit_code == 1
    assert "(20 %), fewer than 21 %" in result.stdout


def test_json_holds_each_case_and_the_coverage(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(HEAD + READS + WRITES)
    document = json.loads(run(file, "--mesh", SHOP / "mesh.yaml", "--json").stdout)

    assert (document["passed"], document["failed"]) == (1, 1)
    reads, writes = document["cases"]
    assert (reads["passed"], reads["got"]["rule"]) == (True, "shop/orders-callers/web-reads")
    assert writes["expected"]["verdict"] == "permit"
    assert writes["got"] == {
        "verdict": "deny", "reason": "method_not_allowed", "rule": "shop/orders-callers/web-reads",
    }  # fmt: skip
    assert (document["coverage"]["rules"], document["coverage"]["exercised"]) == (5, 1)
    assert len(document["coverage"]["unexercised"]) == 4


def test_bad_cases_are_told_whole_and_end_with_2(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(HEAD + READS.replace("from: web", "form: web") + WRITES.replace("expect: permit", "expect: yes"))
    gone = tmp_path / "gone.yaml"
    result = run(file, gone, "--mesh", SHOP / "mesh.yaml")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{file}:6:" in result.stderr
    assert f"{file}:7:" in result.stderr
    assert f"{gone}:1:1: cannot be read" in result.stderr


def test_a_file_without_cases_is_no_success(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("# nothing yet\n")

    result = run(file, "--mesh", SHOP / "mesh.yaml")
    assert result.exit_code == 2
    assert "there is no case (add a document of kind PolicyTest)" in result.stderr
