"""``ringfence k8s status``: the pods of the mesh, each with revision, identity, readiness and what it waits for."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import click

from k8s.client.resources import DEPLOYMENTS, EVENTS, NAMESPACES, PODS
from k8s.daytwo.cluster import Cluster, ClusterError, Ran
from k8s.daytwo.finding_pods import has_sidecar, sidecar_of
from k8s.daytwo.inside import run_in_each
from k8s.daytwo.options import Asked, asks_of_all, plain
from k8s.daytwo.planes import plane_statuses
from k8s.daytwo.standing import PodStanding, by_planes, is_ready, of_sidecar, standing_lines
from k8s.daytwo.waiting import pod_waits_for
from k8s.objects.lenient import Json, text
from k8s.objects.names import SYSTEM_NAMESPACE
from k8s.ramp.injected import current_images, newer
from k8s.ramp.injected import version_of as sidecar_version
from k8s.ramp.snapshot import Cluster as Snapshot

SIDECARS_ASKED: Final = 500
_ENDED: Final = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """``silent``: why somebody who could tell more did not."""

    standings: tuple[PodStanding, ...]
    silent: tuple[str, ...]


async def mesh_status(cluster: Cluster, namespace: str, system_namespace: str) -> Status:
    """Of all pods with a sidecar that have not ended, in one namespace or, without a name, in all."""
    pods = [
        one
        for one in await cluster.objects(PODS, namespace)
        if has_sidecar(one) and text(one, "status", "phase") not in _ENDED
    ]
    documents, silent = await plane_statuses(cluster, system_namespace)
    known = by_planes(documents)
    unknown = [one for one in pods if _key(one) not in known or known[_key(one)].waits_for]
    asked = {_key(one): sidecar_of(one) for one in unknown[:SIDECARS_ASKED] if not pod_waits_for(one)}
    if len(unknown) > SIDECARS_ASKED:
        silent.append(f"{len(unknown) - SIDECARS_ASKED} more sidecars were not asked (give a namespace)")
    answers = await run_in_each(cluster, list(asked.values()), ["ringfence", "proxy", "status", "--json"])
    told = dict(zip(asked, (answer for _, answer in answers), strict=True))
    events = await _events(cluster, namespace) if len(asked) < len(unknown) else {}
    standings = tuple(_standing(one, known.get(_key(one)), told.get(_key(one)), events) for one in pods)
    return Status(standings=await _with_versions(cluster, system_namespace, pods, standings), silent=tuple(silent))


def _key(pod: Json) -> tuple[str, str]:
    return text(pod, "metadata", "namespace"), text(pod, "metadata", "name")


async def _events(cluster: Cluster, namespace: str) -> dict[tuple[str, str], list[Json]]:
    found: dict[tuple[str, str], list[Json]] = {}
    try:
        events = await cluster.objects(EVENTS, namespace)
    except ClusterError:
        return found  # they would only say more
    for one in events:
        if text(one, "involvedObject", "kind") == "Pod":
            key = (text(one, "involvedObject", "namespace"), text(one, "involvedObject", "name"))
            found.setdefault(key, []).append(one)
    return found


def _standing(
    pod: Json,
    known: PodStanding | None,
    answer: Ran | ClusterError | None,
    events: dict[tuple[str, str], list[Json]],
) -> PodStanding:
    own = _own(pod, answer)
    if known is not None and own is not None:
        # Both were asked, since something is amiss: who is nearest knows what the sidecar waits for.
        return replace(known, ready=own.ready and known.ready, waits_for=own.waits_for or known.waits_for)
    if known is not None or own is not None:
        return known or own  # type: ignore[return-value]
    waits = pod_waits_for(pod, events.get(_key(pod), ()))
    if isinstance(answer, ClusterError):
        waits = [f"an answer of its sidecar: {answer}"]
    elif isinstance(answer, Ran):
        waits = [f"an answer of its sidecar: {(answer.stderr.strip().splitlines() or ['it says no more'])[-1]}"]
    namespace, name = _key(pod)
    return PodStanding(namespace=namespace, pod=name, ready=is_ready(pod), waits_for=tuple(waits))


def _own(pod: Json, answer: Ran | ClusterError | None) -> PodStanding | None:
    if not isinstance(answer, Ran) or answer.status:
        return None
    try:
        told = json.loads(answer.stdout)
    except ValueError:
        return None
    return of_sidecar(pod, told) if isinstance(told, dict) else None


async def _with_versions(
    cluster: Cluster, system_namespace: str, pods: Sequence[Json], standings: Sequence[PodStanding]
) -> tuple[PodStanding, ...]:
    """The version that each has by its own pod where nobody told, and the one that it would get now."""
    items: list[Json] = [*pods]
    for resource, namespace in ((DEPLOYMENTS, system_namespace), (NAMESPACES, "")):
        try:
            items += await cluster.objects(resource, namespace)
        except ClusterError:
            continue  # then nothing counts as outdated
    snapshot = Snapshot(items=tuple(items))
    images = current_images(snapshot)
    views = {(one.namespace, one.name): one for one in snapshot.pods if not one.is_template}
    found = []
    for one in standings:
        view = views[one.namespace, one.pod]
        version = one.version or sidecar_version(view)
        found.append(replace(one, version=version, expected=newer(snapshot, view, images)))
    return tuple(found)


@click.command(
    name="status",
    epilog="""\b
Example:
  ringfence k8s status -n shop
  ringfence k8s status --outdated --json
""",
)
@click.option("--outdated", is_flag=True, help="Only pods whose sidecar is of another version than the injector's.")
@click.option("--system-namespace", default=SYSTEM_NAMESPACE, show_default=True, metavar="N", help="The mesh's own.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@asks_of_all
def command(*, outdated: bool, system_namespace: str, as_json: bool, asked: Asked) -> None:
    """Show the pods of the mesh: ready or not, the revision enforced, how long the identity lasts, and what each waits
    for.

    Without --namespace of all namespaces. The control plane is asked; while it is away each sidecar is, by itself.
    Exit status 1: a pod is not ready, or with --outdated: there are some.
    """
    status = asked.run(lambda cluster: mesh_status(cluster, asked.namespace, system_namespace))
    shown = [one for one in status.standings if one.expected or not outdated]
    if as_json:
        document = {"pods": [one.document() for one in shown], "silent": list(status.silent)}
        click.echo(json.dumps(document, indent=2))
    else:
        for line in standing_lines(shown):
            click.echo(plain(line))
        for line in status.silent:
            click.echo(plain(line), err=True)
    if (outdated and shown) or any(not one.ready for one in shown):
        sys.exit(1)
