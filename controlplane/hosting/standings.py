"""What became of each document of a platform: accepted or why not, and at how many workloads it is enforced. Pure.

A workload enforces a document once it acknowledged a revision whose snapshot holds it. A snapshot bears the revision at
which it changed last, but most changes are of endpoints and not of policy. So it is remembered since which revision the
policy of each workload is what it is: whoever enforces that one, or a later one, enforces all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from controlplane.hosting.judging import DOCUMENT_LIMIT, Judged
from controlplane.hosting.parsing import Name, Parsed
from controlplane.push.readiness import Verdict
from controlplane.push.revisions import Catalog
from controlplane.push.sessions import Session, Standing
from controlplane.push.workload_key import WorkloadKey
from ringfence.mesh import Mesh
from ringfence.platform import DocumentStanding, SidecarStanding
from ringfence.policy.labels import Labels
from ringfence.policy.problems import Problem, errors
from ringfence.policy.services import Services, labels_beside
from ringfence.policy.written import (
    CallerSetDocument,
    DenylistDocument,
    MeshSelector,
    NamespaceSelector,
    RoleDocument,
    ServiceSelector,
)
from ringfence.routing.documents import RouteDocument
from ringfence.snapshot import Snapshot

WAITING_TOLD: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySince:
    """Since which revision the policy of each workload is what it is."""

    revisions: Mapping[WorkloadKey, int] = field(default_factory=dict)
    snapshots: Mapping[WorkloadKey, Snapshot] = field(default_factory=dict)

    def after(self, catalog: Catalog) -> PolicySince:
        """With the snapshots of ``catalog`` in force."""
        revisions: dict[WorkloadKey, int] = {}
        for key, snapshot in catalog.snapshots.items():
            before = self.snapshots.get(key)
            same = before is not None and (before is snapshot or _same_policy(before, snapshot))
            revisions[key] = self.revisions[key] if same else snapshot.revision
        return PolicySince(revisions=revisions, snapshots=catalog.snapshots)


def _same_policy(one: Snapshot, other: Snapshot) -> bool:
    return (
        one.allowlists == other.allowlists
        and one.denylists == other.denylists
        and one.observe_until == other.observe_until
        and one.shadow == other.shadow
        and one.token_issuers == other.token_issuers
        and one.egress == other.egress
        and one.workload.ports == other.workload.ports
        and one.workload.labels == other.workload.labels
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """Where each workload stands: ``waiting`` has those that do not enforce their policy, and why."""

    workloads: Mapping[str, tuple[tuple[WorkloadKey, Labels], ...]]
    """By full name of the service; beside each the labels that it has and its service has not."""
    waiting: Mapping[WorkloadKey, str]

    @classmethod
    def of(
        cls,
        mesh: Mesh,
        since: PolicySince,
        sessions: Mapping[WorkloadKey, Iterable[Session]],
        monotonic: float,
        acknowledgement_seconds: float,
    ) -> Enforcement:
        """By what sidecars said."""
        workloads: dict[str, list[tuple[WorkloadKey, Labels]]] = {}
        for service, instance in mesh.workloads:
            key = WorkloadKey(service.identity_of(instance), instance.name)
            workloads.setdefault(service.full_name, []).append((key, instance.labels))
        waiting = {
            key: reason
            for key, revision in since.revisions.items()
            if (reason := _reason(list(sessions.get(key, ())), revision, monotonic, acknowledgement_seconds))
        }
        return cls(workloads={name: tuple(keys) for name, keys in workloads.items()}, waiting=waiting)


def _reason(sessions: list[Session], revision: int, monotonic: float, acknowledgement_seconds: float) -> str:
    """Why no sidecar of a workload enforces its policy; empty where one does."""
    connected = [session for session in sessions if session.connected]
    if any(session.enforced_revision >= revision for session in connected):
        return ""
    if not connected:
        return "its sidecar is not connected" if sessions else "its sidecar has not come yet"
    session = connected[0]
    standing = session.standing(monotonic, acknowledgement_seconds)
    if standing is Standing.REFUSED:
        return f"its sidecar refused it: {session.error}"
    return "its sidecar has not answered in time" if standing is Standing.OVERDUE else "its sidecar was just told"


def sidecar_standing(
    sessions: Iterable[Session], verdict: Verdict, monotonic: float, acknowledgement_seconds: float
) -> SidecarStanding:
    """Of one workload: while one process replaces another, one that enforces what it was told is enough."""
    connected = [session for session in sessions if session.connected]
    standings = [session.standing(monotonic, acknowledgement_seconds) for session in connected]
    stuck = not {Standing.CURRENT, Standing.PENDING} & set(standings)
    refused = next((one.error for one, how in zip(connected, standings, strict=True) if how is Standing.REFUSED), "")
    return SidecarStanding(
        connected=bool(connected),
        refused=refused if stuck else "",
        overdue=stuck and Standing.OVERDUE in standings,
        unready="" if verdict.ready else verdict.reason,
    )


def standings_of(judged: Judged, enforcement: Enforcement) -> dict[str, DocumentStanding]:
    """By name of the document, of all of a reading."""
    services = judged.services
    found = {
        name: _standing(judged, one, _speaks_of(judged.in_force(name), services), enforcement)
        for name, one in judged.written.items()
    }
    for name in judged.over:
        problem = Problem(name, 1, 1, f"there are more than {DOCUMENT_LIMIT} documents", "remove some")
        found[name] = DocumentStanding(accepted=False, problems=(problem,))
    return found


def tally(judged: Judged) -> Mapping[str, int]:
    """How many documents stand how, by the words of a metric's label."""
    found = Counter(in_force=0, stood_in=0, left_out=len(judged.over))
    for name, wanted in judged.written.items():
        held = judged.in_force(name)
        if held is None:
            found["left_out"] += 1
        else:
            found["in_force" if held.written.content == wanted.written.content else "stood_in"] += 1
    return found


def _standing(
    judged: Judged, wanted: Parsed, services: Iterable[tuple[str, Labels]], enforcement: Enforcement
) -> DocumentStanding:
    name = wanted.written.name
    in_force = judged.in_force(name)
    keys = {
        key
        for service, labels in services
        for key, own in enforcement.workloads.get(service, ())
        if set(labels) <= set(own)
    }
    waiting = sorted(f"{key}: {enforcement.waiting[key]}" for key in keys if key in enforcement.waiting)
    problems = judged.problems(name)
    is_wanted = in_force is not None and in_force.written.content == wanted.written.content
    return DocumentStanding(
        accepted=is_wanted and not errors(problems),
        problems=problems,
        stands_in=in_force.written.version if in_force is not None and not is_wanted else "",
        workloads=len(keys),
        enforcing=len(keys) - len(waiting),
        waiting=tuple(waiting[:WAITING_TOLD]),
    )


def _speaks_of(parsed: Parsed | None, services: Services) -> Iterable[tuple[str, Labels]]:
    """The services of which the version in force speaks, and the labels that a workload must have beside its service's
    to be among those that are meant."""
    if parsed is None:
        return ()
    document = parsed.document
    namespace = Name.of(parsed.written.name).namespace
    match document:
        case None | RoleDocument() | CallerSetDocument():
            return ()
        case RouteDocument():
            return ((document.service_full_name, ()),)
    match document.selector.value:
        case ServiceSelector(service=service):
            return ((f"{namespace}/{service}", ()),)
        case NamespaceSelector(labels=labels):
            prefix = f"{namespace}/"
            found = [(name, labels_beside(one, labels)) for name, one in services.items() if name.startswith(prefix)]
        case MeshSelector(labels=labels):
            found = [(name, labels_beside(one, labels)) for name, one in services.items()]
    denies = isinstance(document, DenylistDocument)
    return [(name, beside) for name, beside in found if denies or not beside]
