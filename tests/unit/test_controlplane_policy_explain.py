"""``ringfence policy explain`` on files: what it prints, its JSON and its exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from controlplane.policy.commands import policy

SHOP = Path(__file__).parents[2] / "examples" / "shop"


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(policy, ["explain", "--mesh", str(SHOP / "mesh.yaml"), *arguments])


def test_a_permitted_call_ends_with_0_and_names_file_and_line() -> None:
    result = explain("--from", "web", "--to", "orders", "--path", "/orders/7")

    assert result.exit_code == 0
    assert "permitted: spiffe://shop.example/ns/shop/sa/web → GET /orders/7 on shop/orders port 8080" in result.stdout
    assert "by rule shop/orders-callers/web-reads" in result.stdout
    assert "policies/orders.yaml:8)" in result.stdout


def test_a_denied_call_ends_with_1_and_says_what_would_have_to_differ() -> None:
    result = explain("--from", "web", "--to", "orders", "--path", "/orders/7", "--method", "PUT")

    assert result.exit_code == 1
    assert "reason: method_not_allowed" in result.stdout
    assert "method: is PUT; the rule takes GET" in result.stdout


def test_json_holds_verdict_rule_and_differences() -> None:
    result = explain("--from", "web", "--to", "ledger", "--json")
    document = json.loads(result.stdout)

    assert result.exit_code == 1
    assert (document["verdict"], document["reason"]) == ("deny", "caller_not_allowed")
    assert document["nearest"][0]["differences"][0]["dimension"] == "caller"
    assert document["nearest"][0]["place"]["line"] == 8


def test_policies_given_stand_in_for_the_folder_of_the_mesh(tmp_path: Path) -> None:
    one = tmp_path / "orders.yaml"
    one.write_text(
        "apiVersion: ringfence.io/v1alpha1\nkind: Allowlist\nmetadata: {name: all, namespace: shop}\n"
        "spec:\n  service: orders\n  rules:\n    - name: shop\n      from: [{namespace: shop}]\n"
    )
    words = ("--from", "web", "--to", "orders", "--method", "PUT")

    assert explain(*words, "--policy", str(tmp_path)).exit_code == 0
    assert explain(*words, "--policy", str(one)).exit_code == 0
    assert explain(*words, "--policy", str(one), "--policy", str(tmp_path)).exit_code == 0
    assert explain(*words).exit_code == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from", "wbe", "--to", "orders"], "--from: there is no service 'wbe' (did you mean web?)"),
        (["--from", "web", "--to", "orders", "--port", "99999"], "--port: port 99999 is not from 1 to 65535"),
        (["--from", "web", "--to", "orders", "--scope", "a"], "--issuer: shop/orders believes 0 token issuers"),
        (["--from", "web", "--to", "orders", "--time", "today"], "'today' is no moment"),
        (["--from", "web", "--to", "orders", "--time", "2026-03-01T12:00:00"], "write it with its zone"),
        (["--from", "web", "--to", "orders", "--header", "x-team"], "'x-team' has no ':'"),
        (["--from", "web", "--to", "orders", "--policy", "/none/such.yaml"], "/none/such.yaml:1:1: cannot be read"),
    ],
)
def test_bad_input_ends_with_2_and_one_line_with_the_mend(words: list[str], told: str) -> None:
    result = explain(*words)

    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""


def test_bad_files_are_told_whole_with_their_lines(tmp_path: Path) -> None:
    one = tmp_path / "orders.yaml"
    one.write_text(
        "apiVersion: ringfence.io/v1alpha1\nkind: Allowlist\nmetadata: {name: all, namespace: shop}\n"
        "spec:\n  service: order\n  rules:\n    - name: shop\n      form: [{namespace: shop}]\n"
    )
    result = explain("--from", "web", "--to", "orders", "--policy", str(one))

    assert result.exit_code == 2
    assert f"{one}:5:12: namespace shop has no service 'order'" in result.stderr
    assert f"{one}:8:7: unknown field 'form'" in result.stderr


def test_who_only_asks_needs_no_secret_of_the_control_plane(tmp_path: Path) -> None:
    (tmp_path / "pol").mkdir()
    mesh = tmp_path / "mesh.yaml"
    text = (SHOP / "mesh.yaml").read_text()
    hosts = "  tokenIssuers: {allowedHosts: [old.shop.example]}\n  policies: pol\n"
    mesh.write_text(text.replace("  policies: policies\n", hosts))
    (tmp_path / "pol" / "issuer.yaml").write_text(
        "apiVersion: ringfence.io/v1alpha1\nkind: TokenIssuer\nmetadata: {name: legacy, namespace: shop}\nspec:\n"
        "  issuer: https://old.shop.example\n  audiences: [orders]\n  introspection:\n"
        "    url: https://old.shop.example/introspect\n    clientId: orders\n    secretFile: /run/none/such\n"
    )
    words = ["explain", "--mesh", str(mesh), "--from", "web", "--to", "orders", "--scope", "a"]

    result = CliRunner().invoke(policy, words)
    assert result.exit_code == 1, result.output
    assert "caller_not_allowed" in result.stdout
    assert "/run/none/such" in CliRunner().invoke(policy, ["check", "--mesh", str(mesh)]).output
    assert CliRunner().invoke(policy, ["check", "--mesh", str(mesh), "--no-secrets"]).exit_code == 0
