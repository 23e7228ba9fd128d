"""From what was named to pods of the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from k8s.client.resources import (
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)
from k8s.daytwo.cluster import Cluster, ClusterError, Place
from k8s.daytwo.references import Reference, parse_reference
from k8s.objects.lenient import Json, labels, mapping, objects, text
from k8s.objects.names import SIDECAR_CONTAINER
from k8s.objects.selectors import has_labels, selects

_RESOURCES: Final[Mapping[str, Resource]] = {
    "Deployment": DEPLOYMENTS,
    "StatefulSet": STATEFUL_SETS,
    "DaemonSet": DAEMON_SETS,
    "Job": JOBS,
    "Service": SERVICES,
}


async def pods_of(cluster: Cluster, said: str, namespace: str) -> list[Json]:
    """The pods that ``said`` names, which all have a sidecar. Raises NoReferenceError, ClusterError."""
    reference = parse_reference(said, namespace or cluster.namespace)
    found = await _named(cluster, reference)
    if not found:
        raise ClusterError(f"{reference} has no pods")
    meshed = [one for one in found if has_sidecar(one)]
    if not meshed:
        raise ClusterError(f"{reference} has no sidecar (`ringfence k8s check -n {reference.namespace}` tells why)")
    return meshed


async def _named(cluster: Cluster, reference: Reference) -> list[Json]:
    if reference.kind == "Pod":
        return [await cluster.get(PODS, reference.name, reference.namespace)]
    owner = await cluster.get(_RESOURCES[reference.kind], reference.name, reference.namespace)
    pods = await cluster.objects(PODS, reference.namespace)
    if reference.kind == "Service":
        wanted = labels(owner, "spec", "selector")
        return [one for one in pods if wanted and has_labels(wanted, labels(one, "metadata", "labels"))]
    selector = mapping(owner, "spec", "selector")
    return [one for one in pods if selector and selects(selector, labels(one, "metadata", "labels"))]


def has_sidecar(pod: Json) -> bool:
    """Whether its spec has one, whatever its labels say."""
    listed = [*objects(pod, "spec", "initContainers"), *objects(pod, "spec", "containers")]
    return any(text(one, "name") == SIDECAR_CONTAINER for one in listed)


def sidecar_of(pod: Json) -> Place:
    """Where commands for it run."""
    return Place(
        namespace=text(pod, "metadata", "namespace"),
        pod=text(pod, "metadata", "name"),
        container=SIDECAR_CONTAINER,
    )
