"""What ``GET /policy`` tells: which documents each sidecar enforces, and why one enforces others. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controlplane.intake.configuration import Configuration, RefusedChange
from controlplane.operate.status import refused_document
from controlplane.push.distributor import Distributor
from controlplane.push.sessions import Session, Standing
from controlplane.push.told import Told
from controlplane.push.workload_key import WorkloadKey
from ringfence.policy.written import RoleBindingDocument

# Where a sidecar surely does not enforce what it should, and will not by itself.
FAILED = frozenset({Standing.REFUSED, Standing.OVERDUE})


def policy_status(
    *,
    configuration: Configuration,
    refused: RefusedChange | None,
    distributor: Distributor,
    now: float,
    monotonic: float,
    acknowledgement_seconds: float,
) -> dict[str, object]:
    """For each workload the documents that it is told, and for each sidecar those that it enforces; times in Unix
    seconds. ``settled``: nobody refused, nobody is overdue, and the files as they are now are in force."""
    bindings = {
        document.header.full_name for document in configuration.documents if isinstance(document, RoleBindingDocument)
    }
    sessions = distributor.sessions()

    def sidecar(workload: WorkloadKey, session: Session) -> dict[str, object]:
        told = distributor.told.of(workload, session.enforced_revision)
        standing = session.standing(monotonic, acknowledgement_seconds)
        return {
            "process": session.process,
            "standing": standing.value,
            "enforced_revision": session.enforced_revision,
            "error": session.error,
            "policy": _policy(told, bindings, now) if told is not None else None,
        }

    workloads = []
    for workload, snapshot in sorted(
        distributor.catalog.snapshots.items(), key=lambda item: (item[1].workload.full_name, item[0].instance)
    ):
        told = distributor.told.of(workload, snapshot.revision)
        workloads.append(
            {
                "service": snapshot.workload.full_name,
                "instance": workload.instance or None,
                "spiffe_id": str(workload.spiffe_id),
                "revision": snapshot.revision,
                "policy": _policy(told, bindings, now) if told is not None else None,
                "sidecars": [
                    sidecar(workload, session)
                    for session in sorted(sessions.get(workload, ()), key=lambda session: session.process)
                ],
            }
        )
    standings = [one.standing(monotonic, acknowledgement_seconds) for found in sessions.values() for one in found]
    return {
        "now": now,
        "revision": distributor.catalog.revision,
        "settled": refused is None and not FAILED & set(standings),
        "refused": refused_document(refused),
        "warnings": len(configuration.warnings),
        "workloads": workloads,
    }


def _policy(told: Told, bindings: Iterable[str], now: float) -> dict[str, Any]:
    observes = told.observe_until is not None and told.observe_until > now
    return {
        "posture": "observe" if observes else "enforce",
        "observe_until": told.observe_until if observes else None,
        "documents": [
            *_documents("Allowlist", "enforce", told.allowlists, bindings),
            *_documents("Denylist", "enforce", told.denylists, ()),
            *_documents("Allowlist", "shadow", told.shadow_allowlists, bindings),
            *_documents("Denylist", "shadow", told.shadow_denylists, ()),
        ],
        "token_issuers": list(told.token_issuers),
    }


def _documents(kind: str, mode: str, names: Iterable[str], bindings: Iterable[str]) -> Iterator[Mapping[str, str]]:
    """A role binding is enforced as an allowlist of its name; its author knows it as what it wrote."""
    for name in names:
        yield {"kind": "RoleBinding" if name in bindings else kind, "name": name, "mode": mode}
