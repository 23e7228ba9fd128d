"""What ``GET /status`` tells, as plain values for JSON. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from controlplane.intake.configuration import Configuration, RefusedChange
from controlplane.push.readiness import ReadinessBoard
from controlplane.push.revisions import Catalog
from controlplane.push.sessions import Session, Standing
from controlplane.push.workload_key import WorkloadKey
from ringfence.policy.problems import Problem
from ringfence.snapshot import Snapshot

_WARNINGS_TOLD: Final = 200


def status_document(
    *,
    configuration: Configuration,
    held_since: float,
    refused: RefusedChange | None,
    catalog: Catalog,
    sessions: Mapping[WorkloadKey, list[Session]],
    readiness: ReadinessBoard,
    now: float,
    monotonic: float,
    acknowledgement_seconds: float,
) -> dict[str, object]:
    """The state of the mesh; all times in Unix seconds.

    ``now`` is sent along, so that a reader on another clock can still say how long an identity has left.
    """
    mesh = configuration.document.mesh
    workloads: list[dict[str, object]] = []

    def name(item: tuple[WorkloadKey, Snapshot]) -> tuple[str, str]:
        return item[1].workload.full_name, item[0].instance

    for workload, snapshot in sorted(catalog.snapshots.items(), key=name):
        verdict = readiness.verdict(workload, monotonic)
        workloads.append(
            {
                "service": snapshot.workload.full_name,
                "instance": workload.instance or None,
                "spiffe_id": str(workload.spiffe_id),
                "revision": snapshot.revision,
                "ready": verdict.ready,
                "not_ready": {"reason": verdict.reason, "ports": sorted(verdict.refused_ports)}
                if not verdict.ready
                else None,
                "sidecars": [
                    _sidecar(session, monotonic, acknowledgement_seconds)
                    for session in sorted(sessions.get(workload, ()), key=lambda session: session.process)
                ],
            }
        )
    return {
        "now": now,
        "mesh": mesh.name,
        "trust_domain": mesh.trust_domain.name,
        "revision": catalog.revision,
        "configuration": {
            "file": configuration.document.file,
            "in_force_since": held_since,
            "allowlists": sum(len(bound.policy.allowlists) for bound in configuration.policies.values()),
            "warnings": [problem_document(problem) for problem in configuration.warnings[:_WARNINGS_TOLD]],
            "refused": refused_document(refused),
        },
        "workloads": workloads,
    }


def standings(
    sessions: Mapping[WorkloadKey, list[Session]], monotonic: float, acknowledgement_seconds: float
) -> dict[Standing, int]:
    """How many sidecars stand where."""
    return Counter(
        session.standing(monotonic, acknowledgement_seconds) for found in sessions.values() for session in found
    )


def _sidecar(session: Session, monotonic: float, acknowledgement_seconds: float) -> dict[str, object]:
    return {
        "process": session.process,
        "version": session.version,
        "peer": session.peer,
        "connected": session.connected,
        "subscribed_at": session.since,
        "standing": session.standing(monotonic, acknowledgement_seconds).value,
        "enforced_revision": session.enforced_revision,
        "offered_revision": session.offered_revision,
        "error": session.error,
        "identity": {"serial": session.svid_serial, "not_after": session.svid_not_after},
    }


def refused_document(refused: RefusedChange | None) -> dict[str, object] | None:
    """Why the files as they are now are not in force; None when they are."""
    if refused is None:
        return None
    return {"at": refused.at, "problems": [problem_document(problem) for problem in refused.problems]}


def problem_document(problem: Problem) -> dict[str, object]:
    """A problem with its parts, and as the line that commands print."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "mend": problem.mend,
        "severity": problem.severity.value,
        "text": str(problem),
    }
