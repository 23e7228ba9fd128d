"""The table of ``ringfence policy status``."""

from __future__ import annotations

from typing import Any

from controlplane.operate.policy_table import policy_lines

UNTIL = 1_800_000_000.0


def sidecar(
    process: str, revision: int, *, standing: str = "current", error: str = "", **policy: Any
) -> dict[str, Any]:
    told = {"posture": "enforce", "observe_until": None, "documents": [], "token_issuers": [], **policy}
    return {
        "process": process,
        "standing": standing,
        "enforced_revision": revision,
        "error": error,
        "policy": told if policy.get("known", True) and revision else None,
    }


def workload(service: str, revision: int, *sidecars: dict[str, Any], instance: str | None = None) -> dict[str, Any]:
    return {"service": service, "instance": instance, "revision": revision, "sidecars": list(sidecars)}


def document(*workloads: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"refused": None, "warnings": 0, "workloads": workloads, **more}


def test_each_sidecar_is_a_line_with_what_it_enforces() -> None:
    documents = [
        {"kind": "Allowlist", "name": "shop/orders", "mode": "enforce"},
        {"kind": "RoleBinding", "name": "shop/readers", "mode": "shadow"},
    ]
    lines = policy_lines(
        document(
            workload("shop/orders", 7, sidecar("a1", 7, documents=documents, observe_until=UNTIL), instance="a"),
            workload(
                "shop/web",
                7,
                sidecar("b1", 5, standing="refused", error="port 15008 is taken", known=False),
                sidecar("b2", 0, standing="pending"),
                sidecar("b3", 7),
                sidecar("b4", 7, observe_until=UNTIL),
            ),
            workload("shop/new", 7),
        )
    )
    found = [" | ".join(part.strip() for part in line.split("  ") if part) for line in lines]
    assert found == [
        "SERVICE | SIDECAR | REVISION | POSTURE | ENFORCES | STATE",
        "shop/orders/a | a1 | 7 of 7 | observe until 2027-01-15 08:00:00Z | Allowlist shop/orders, RoleBinding "
        "shop/readers (shadow) | up to date",
        "shop/web | b1 | 5 of 7 | ? | a revision that is not known here any more | refused: port 15008 is taken",
        "shop/web | b2 | - of 7 | ? | nothing yet: it refuses everybody | being told",
        "shop/web | b3 | 7 of 7 | enforce | no document: it refuses everybody | up to date",
        "shop/web | b4 | 7 of 7 | observe until 2027-01-15 08:00:00Z | no document: it lets everybody in | up to date",
        "shop/new | - | - of 7 | - | nothing: no sidecar ever came | never seen",
    ]


def test_files_that_were_refused_and_warnings_stand_below() -> None:
    refused = {"at": UNTIL, "problems": [{"text": "a.yaml:1:1: no"}]}
    lines = list(policy_lines(document(refused=refused, warnings=2)))
    assert lines[1:] == [
        "",
        "2 warnings: see `ringfence policy check`, or configuration.warnings of /status",
        "",
        "the files were changed at 2027-01-15 08:00:00Z and refused; what is above stays in force:",
        "  a.yaml:1:1: no",
    ]
