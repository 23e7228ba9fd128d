"""What is written of a document: in force or not and why, by how many, since when; nothing where nothing changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from k8s.controller.documents import RESOURCES, read_document
from k8s.controller.statuses import status_of
from ringfence.platform import DocumentStanding
from ringfence.policy.problems import Problem, Severity

_NOW = 1_800_000_000.0
_WRONG = Problem("Allowlist/shop/cart", 7, 3, "unknown field frm", "use from")


def conditions(status: dict[str, Any] | None) -> dict[str, tuple[str, str, str]]:
    assert status is not None
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in status["conditions"]}


def test_one_that_is_in_force_everywhere_is_ready() -> None:
    status = status_of(DocumentStanding(accepted=True, workloads=2, enforcing=2), 4, {}, _NOW)
    assert conditions(status) == {
        "Accepted": ("True", "Accepted", "it is in force"),
        "Enforced": ("True", "Enforced", "by 2 of 2 sidecars"),
        "Ready": ("True", "Enforced", "by 2 of 2 sidecars"),
    }
    assert status is not None
    assert (status["enforced"], status["observedGeneration"]) == ("2/2", 4)


def test_one_that_some_do_not_enforce_yet_says_who_and_is_not_stalled() -> None:
    standing = DocumentStanding(accepted=True, workloads=3, enforcing=1, waiting=("cart-1: its sidecar is gone",))
    found = conditions(status_of(standing, 1, {}, _NOW))
    assert found["Enforced"] == ("False", "Waiting", "by 1 of 3 sidecars; cart-1: its sidecar is gone")
    assert found["Ready"][0] == "False"
    assert "Stalled" not in found


def test_one_that_concerns_nobody_waits_for_nothing() -> None:
    assert conditions(status_of(DocumentStanding(accepted=True), 1, {}, _NOW))["Ready"][0] == "True"


def test_a_wrong_one_is_stalled_and_says_where_and_the_mend() -> None:
    found = conditions(status_of(DocumentStanding(accepted=False, problems=(_WRONG,)), 1, {}, _NOW))
    told = "it is not in force; Allowlist/shop/cart:7:3: unknown field frm (use from)"
    assert found["Accepted"] == ("False", "Invalid", told)
    assert found["Stalled"] == ("True", "Invalid", told)
    assert found["Enforced"][:2] == ("False", "NotAccepted")
    assert found["Ready"][0] == "False"


def test_where_an_earlier_version_stands_in_that_is_said() -> None:
    standing = DocumentStanding(accepted=False, problems=(_WRONG,), stands_in="uid-1/3", workloads=2, enforcing=2)
    found = conditions(status_of(standing, 4, {}, _NOW))
    assert found["Accepted"][:2] == ("False", "EarlierVersionInForce")
    assert found["Accepted"][2].startswith("generation 3 of it is still in force; ")


def test_warnings_are_told_of_one_that_is_accepted_and_errors_come_first() -> None:
    warning = Problem("a", 1, 1, "selects nobody", severity=Severity.WARNING)
    found = conditions(status_of(DocumentStanding(accepted=True, problems=(warning,)), 1, {}, _NOW))
    assert found["Accepted"] == ("True", "AcceptedWithWarnings", "a:1:1: warning: selects nobody")
    both = conditions(status_of(DocumentStanding(accepted=False, problems=(warning, _WRONG)), 1, {}, _NOW))
    assert both["Accepted"][2].index("unknown field") < both["Accepted"][2].index("selects nobody")


def test_many_problems_are_counted_and_long_ones_cut() -> None:
    problems = tuple(Problem("a", line, 1, "x" * 2000) for line in range(1, 9))
    told = conditions(status_of(DocumentStanding(accepted=False, problems=problems), 1, {}, _NOW))["Accepted"][2]
    assert len(told) <= 2048
    short = tuple(Problem("a", line, 1, "wrong") for line in range(1, 9))
    told = conditions(status_of(DocumentStanding(accepted=False, problems=short), 1, {}, _NOW))["Accepted"][2]
    assert told.endswith("; and 3 more")


def test_nothing_is_written_where_the_cluster_says_it_already() -> None:
    standing = DocumentStanding(accepted=True, workloads=2, enforcing=1, waiting=("a: b",))
    first = status_of(standing, 1, {}, _NOW)
    assert first is not None
    held = json.loads(json.dumps(first))
    assert status_of(standing, 1, held, _NOW + 60) is None
    assert status_of(standing, 2, held, _NOW + 60) is not None


def test_a_condition_keeps_the_moment_of_its_last_change() -> None:
    waiting = status_of(DocumentStanding(accepted=True, workloads=1), 1, {}, _NOW)
    assert waiting is not None
    done = status_of(DocumentStanding(accepted=True, workloads=1, enforcing=1), 1, waiting, _NOW + 60)
    assert done is not None
    since = {one["type"]: one["lastTransitionTime"] for one in done["conditions"]}
    before = {one["type"]: one["lastTransitionTime"] for one in waiting["conditions"]}
    assert since["Accepted"] == before["Accepted"] == "2027-01-15T08:00:00Z"
    assert since["Enforced"] == since["Ready"] == "2027-01-15T08:01:00Z"


@pytest.mark.parametrize("held", [{"conditions": "x"}, {"conditions": [7, {}]}, {"conditions": None}, {"other": 1}])
def test_a_status_that_somebody_broke_is_written_over(held: dict[str, Any]) -> None:
    assert status_of(DocumentStanding(accepted=True), 1, held, _NOW) is not None


def test_a_document_is_what_its_author_wrote() -> None:
    resource = next(one for one in RESOURCES if one.kind == "Allowlist")
    body = {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Allowlist",
        "metadata": {
            "name": "cart",
            "namespace": "shop",
            "uid": "u",
            "generation": 3,
            "resourceVersion": "9",
            "managedFields": [{}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
        },
        "spec": {"service": "cart", "rules": [{"name": "é\u2028x", "frm": 1}]},
        "status": {"enforced": "1/1"},
    }
    held = read_document(resource, body)
    assert held.written.name == "Allowlist/shop/cart"
    assert held.written.version == "u/3"
    assert held.status == {"enforced": "1/1"}
    assert json.loads(held.written.content) == {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Allowlist",
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"service": "cart", "rules": [{"name": "é\u2028x", "frm": 1}]},
    }
    assert held.written == read_document(resource, {**body, "status": {}}).written


def test_each_kind_of_the_policy_reference_is_watched() -> None:
    assert {"Allowlist", "Denylist", "Posture", "Role", "RoleBinding", "CallerSet", "Route"} <= {
        one.kind for one in RESOURCES
    }
