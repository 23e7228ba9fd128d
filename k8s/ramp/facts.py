"""What the cluster itself must be able to do, and webhooks that could hold up all of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from k8s.objects.lenient import Json, mapping, objects, text, texts
from k8s.objects.selectors import selects
from k8s.ramp.finding import Code, Finding, Weight
from k8s.ramp.snapshot import Cluster, name_of, subject_of

# Native sidecars (restartPolicy of init containers) are on by default since then, and cannot be turned off since 1.33.
OLDEST_KUBELET: Final = (1, 29)
# What the chart needs of the API server beside: admission policies in CEL.
OLDEST: Final = (1, 30)
_VERSION: Final = re.compile(r"v?(\d{1,4})\.(\d{1,4})")


def version_of(said: str) -> tuple[int, int] | None:
    """Major and minor of ``v1.36.3+k3s1`` and the like."""
    found = _VERSION.match(said)
    return (int(found[1]), int(found[2])) if found else None


def cluster_findings(cluster: Cluster) -> Iterator[Finding]:
    yield from _versions(cluster)
    yield from _gates(cluster)
    yield from _nodes(cluster)
    for one in cluster.kind("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        yield from _held_up(cluster, one)


def _versions(cluster: Cluster) -> Iterator[Finding]:
    version = version_of(cluster.version)
    if cluster.version and (version is None or version < OLDEST):
        yield Finding(
            code=Code.CLUSTER_VERSION,
            subject="Cluster",
            what=f"its version is {cluster.version[:40]}: "
            + (
                "it has no native sidecars, so nothing can be injected"
                if version is None or version < OLDEST_KUBELET
                else "it has native sidecars, but not the admission policies that the chart needs"
            ),
            mend=f"upgrade it to {OLDEST[0]}.{OLDEST[1]} or newer before you install",
        )


def _gates(cluster: Cluster) -> Iterator[Finding]:
    if cluster.gates.get("SidecarContainers") is False:
        yield Finding(
            code=Code.FEATURE_GATE,
            subject="Cluster",
            what="the feature gate SidecarContainers is off, so nothing can be injected",
            mend="turn it on for the API server and every kubelet",
        )
    if cluster.is_live and cluster.gates.get("ClusterTrustBundle") is False:
        yield Finding(
            code=Code.FEATURE_GATE,
            weight=Weight.NOTICE,
            subject="Cluster",
            what="the feature gate ClusterTrustBundle is off",
            mend="nothing: first trust comes by a ConfigMap in each namespace",
        )


def _nodes(cluster: Cluster) -> Iterator[Finding]:
    for node in cluster.kind("Node"):
        said = text(node, "status", "nodeInfo", "kubeletVersion")
        version = version_of(said)
        system = text(node, "status", "nodeInfo", "operatingSystem")
        if system == "windows":
            yield Finding(
                code=Code.NODE,
                weight=Weight.NOTICE,
                subject=subject_of(node),
                what="it runs Windows, where no sidecar can stand",
                mend="keep its pods out of labelled namespaces",
            )
        elif said and (version is None or version < OLDEST_KUBELET):
            yield Finding(
                code=Code.NODE,
                subject=subject_of(node),
                what=f"its kubelet is {said[:40]}, which starts no native sidecars",
                mend=f"upgrade it to {OLDEST_KUBELET[0]}.{OLDEST_KUBELET[1]} or newer, or keep the mesh's pods off it",
            )


def _held_up(cluster: Cluster, config: Json) -> Iterator[Finding]:
    system = {"kubernetes.io/metadata.name": "kube-system", **cluster.namespace_labels.get("kube-system", {})}
    for webhook in objects(config, "webhooks"):
        if text(webhook, "failurePolicy") == "Ignore" or not _asks_of_pods(webhook):
            continue  # Fail is the default
        if not selects(mapping(webhook, "namespaceSelector"), system) or mapping(webhook, "objectSelector"):
            continue
        service = mapping(webhook, "clientConfig", "service")
        served = cluster.service(text(service, "namespace"), text(service, "name"))
        in_mesh = served is not None and any(cluster.is_member(one) for one in cluster.backing(served))
        yield Finding(
            code=Code.WEBHOOK_HOLDS_SYSTEM,
            weight=Weight.FINDING if in_mesh or "ringfence" in name_of(config) else Weight.NOTICE,
            subject=subject_of(config),
            what=f"webhook {text(webhook, 'name')} with failurePolicy Fail asks for pods of kube-system too"
            + (", and is served from the mesh: while it is away nothing of the cluster restarts" if in_mesh else ""),
            mend="leave kube-system out by its namespaceSelector",
        )


def _asks_of_pods(webhook: Json) -> bool:
    for rule in objects(webhook, "rules"):
        groups, resources = texts(rule, "apiGroups"), texts(rule, "resources")
        if ("" in groups or "*" in groups) and any(one in ("*", "pods", "*/*") for one in resources):
            return True
    return False


def gates_of(metrics: str) -> dict[str, bool]:
    """The feature gates of an API server, from its ``/metrics``."""
    found = re.findall(r'^kubernetes_feature_enabled\{[^}]*\bname="(\w{1,80})"[^}]*\} ([01])', metrics, re.MULTILINE)
    return {name: value == "1" for name, value in found}
