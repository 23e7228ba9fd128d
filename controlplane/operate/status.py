"""What ``GET /status`` tells, as plain values for JSON. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from controlplane.intake.configuration import Configuration, RefusedChange
from controlplane.push.revisions import Catalog
from controlplane.push.sessions import Session, Standing
from ringfence.policy.problems import Problem
from ringfence.spiffe import SpiffeId


def status_document(
    *,
    configuration: Configuration,
    held_since: float,
    refused: RefusedChange | None,
    catalog: Catalog,
    sessions: Mapping[SpiffeId, list[Session]],
    now: float,
    monotonic: float,
    acknowledgement_seconds: float,
) -> dict[str, object]:
    """The state of the mesh; all times in Unix seconds.

    ``now`` is sent along, so that a reader on another clock can still say how long an identity has left.
    """
    mesh = configuration.document.mesh
    services = {service.spiffe_id: service for service in mesh.services}
    workloads: list[dict[str, object]] = []
    for spiffe_id, snapshot in sorted(catalog.snapshots.items(), key=lambda item: services[item[0]].full_name):
        workloads.append(
            {
                "service": services[spiffe_id].full_name,
                "spiffe_id": str(spiffe_id),
                "revision": snapshot.revision,
                "sidecars": [
                    _sidecar(session, monotonic, acknowledgement_seconds)
                    for session in sorted(sessions.get(spiffe_id, ()), key=lambda session: session.instance)
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
            "allowlists": sum(len(listed) for listed in configuration.allowlists.values()),
            "refused": _refused(refused),
        },
        "workloads": workloads,
    }


def standings(
    sessions: Mapping[SpiffeId, list[Session]], monotonic: float, acknowledgement_seconds: float
) -> dict[Standing, int]:
    """How many sidecars stand where."""
    return Counter(
        session.standing(monotonic, acknowledgement_seconds) for found in sessions.values() for session in found
    )


def _sidecar(session: Session, monotonic: float, acknowledgement_seconds: float) -> dict[str, object]:
    return {
        "instance": session.instance,
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


def _refused(refused: RefusedChange | None) -> dict[str, object] | None:
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
        "text": str(problem),
    }
