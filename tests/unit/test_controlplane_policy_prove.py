"""``ringfence policy prove``: what it prints, its JSON and its exit statuses; and the invariants of the shop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from controlplane.policy.commands import policy

SHOP = Path(__file__).parents[2] / "examples" / "shop"
HEAD = "apiVersion: ringfence.io/v1alpha1\nkind: Invariant\nmetadata: {name: i, namespace: shop}\nspec:\n"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(policy, ["prove", *map(str, arguments)])


def prove(tmp_path: Path, spec: str, *arguments: object, policies: Path | None = None) -> Result:
    file = tmp_path / "i.yaml"
    file.write_text(HEAD + "".join(f"  {line}\n" for line in spec.splitlines()))
    more = ["--policy", policies] if policies is not None else []
    return run(file, "--mesh", SHOP / "mesh.yaml", *more, *arguments)


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    return shutil.copytree(SHOP / "policies", tmp_path / "policies")


def test_the_invariants_of_the_shop_hold() -> None:
    result = run(SHOP / "invariants.yaml")

    assert result.exit_code == 0, result.output
    assert "0 violated" in result.stdout
    assert "proved means: for every call, whatever conditions (when) come to" in result.stdout


def test_a_way_that_should_not_be_is_shown_call_by_call_with_its_rules(tmp_path: Path) -> None:
    result = prove(tmp_path, "service: ledger\nnoPath: {from: [web]}")

    assert result.exit_code == 1
    assert [line.strip().partition(" (")[0] for line in result.stdout.splitlines()][:7] == [
        "VIOLATED  shop/i",
        "spiffe://shop.example/ns/shop/sa/web calls shop/orders:8080 GET /healthz",
        "permitted by shop/orders-callers/health",
        "spiffe://shop.example/ns/shop/sa/orders calls shop/payments:8080 GET /payments",
        "permitted by shop/payments-callers/orders-pays",
        "spiffe://shop.example/ns/shop/sa/payments calls shop/ledger:7000 opaque TCP",
        "permitted by shop/ledger-callers/payments-books",
    ]
    assert f"({tmp_path / 'i.yaml'}:3): there is a way" in result.stdout
    assert "ledger.yaml:8)" in result.stdout


def test_a_way_by_whom_it_may_be_is_none(tmp_path: Path) -> None:
    assert prove(tmp_path, "service: ledger\nnoPath: {from: [web], exceptThrough: [orders]}").exit_code == 0
    assert prove(tmp_path, "service: ledger\nnoPath: {from: [{namespace: other}]}").exit_code == 0


def test_a_call_without_a_token_is_shown_where_one_is_required(tmp_path: Path) -> None:
    result = prove(tmp_path, "service: payments\nrequires: {token: any}", "--json")

    assert result.exit_code == 1
    document = json.loads(result.stdout)
    (invariant,) = document["invariants"]
    assert (document["holds"], invariant["why"]) == (False, "a call is permitted without such a token")
    (hop,) = invariant["counterexample"]
    assert (hop["call"]["token"], hop["decision"]["rule"]) == (None, "shop/payments-callers/orders-pays")
    assert (hop["decision"]["place"]["line"], invariant["place"]["line"]) == (8, 3)


def test_a_claim_that_hangs_on_a_condition_is_not_proved(tmp_path: Path, policies: Path) -> None:
    with (policies / "ledger.yaml").open("a") as ledger:
        ledger.write("    - name: web-at-night\n      from: [web]\n      when: now.getHours() < 5\n")
    result = prove(tmp_path, "service: ledger\nonly: {from: [payments]}", policies=policies)

    assert result.exit_code == 1
    assert "another caller is permitted" in result.stdout
    assert "permitted by shop/ledger-callers/web-at-night" in result.stdout
    assert "if 'now.getHours() < 5' is true" in result.stdout


def test_what_passes_while_observed_is_permitted_unless_asked_otherwise(tmp_path: Path, policies: Path) -> None:
    posture = "apiVersion: ringfence.io/v1alpha1\nkind: Posture\nmetadata: {name: p, namespace: shop}\n"
    (policies / "observed.yaml").write_text(f"{posture}spec: {{service: ledger, posture: observe, until: {soon()}}}\n")
    spec = "service: ledger\nonly: {from: [payments]}"

    result = prove(tmp_path, spec, policies=policies)
    assert result.exit_code == 1
    assert "permitted while observed, would be denied: caller_not_allowed" in result.stdout
    assert prove(tmp_path, spec, "--enforced", policies=policies).exit_code == 0


def soon() -> str:
    """A moment that posture may name: a week from now."""
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) + timedelta(days=7)).isoformat(timespec="seconds")


def test_a_permission_that_is_claimed_must_be_of_calls_that_there_can_be(tmp_path: Path) -> None:
    permitted = "service: orders\npermitted: {from: [web], to: {methods: [%s], paths: [/orders], ports: [%s]}}"

    assert prove(tmp_path, permitted % ("GET, POST", "8080")).exit_code == 0
    denied = prove(tmp_path, permitted % ("PUT", "8080"))
    assert denied.exit_code == 1
    assert "denied: method_not_allowed (nearest shop/orders-callers/web-" in denied.stdout
    nobody = prove(tmp_path, "service: ledger\npermitted: {to: {methods: [GET]}}")
    assert (nobody.exit_code, "there is no such call" in nobody.stdout) == (1, True)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("service: ledgr\ndenied: {}", "5:12: namespace shop has no service 'ledgr' (did you mean ledger?)"),
        ("labels: {data: pii}\ndenied: {from: [web]}", "5:11: selects nothing, and of nothing everything holds"),
        ("service: ledger\nnoPath: {from: [web], exceptThrough: [ordrs]}", "6:41: there is no service 'shop/ordrs'"),
        ("service: ledger\nnoPath: {exceptThrough: [orders]}", "6:11: noPath lacks from"),
        ("service: ledger\ndenied: {from: [wbe]}", "6:19: there is no service 'shop/wbe' (did you mean shop/web?)"),
        ("service: ledger\nforbidden: {}", "unknown field 'forbidden' in spec"),
        ("service: ledger\nonly: {from: [payments]}\ndenied: {}", "denied"),
        ("service: ledger\nrequires: {token: yes}", "6:21: token is neither any nor a mapping"),
        ("service: ledger\nrequires: {token: {issuers: [corp]}}", "6:32: there is no token issuer 'shop/corp'"),
        ("service: ledger\nrequires: {authenticated: false}", "6:29: authenticated must be true, not false"),
        ("service: ledger\nrequires: {}", "6:13:"),
        ("service: ledger\ndenied: {to: {paths: [orders]}}", "6:25: path template does not start with '/'"),
        ("service: ledger\ndenied: {to: {ports: [7001]}}", "6:25: no service here has port 7001"),
        ("service: ledger\ndenied: {to: {}}", "6:16: to is empty"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_nothing_is_proved(tmp_path: Path, spec: str, problem: str) -> None:
    result = prove(tmp_path, spec)

    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr


def test_a_file_without_an_invariant_and_a_name_that_comes_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    result = run(tmp_path / "empty.yaml", "--mesh", SHOP / "mesh.yaml")
    assert result.exit_code == 2
    assert "there is no invariant (add a document of kind Invariant)" in result.stderr

    one = HEAD + "  service: ledger\n  only: {from: [payments]}\n"
    (tmp_path / "two.yaml").write_text(f"{one}---\n{one}")
    result = run(tmp_path / "two.yaml", "--mesh", SHOP / "mesh.yaml")
    assert (result.exit_code, "duplicate invariant shop/i (first given at " in result.stderr) == (2, True)
