"""What a Service asks of the cluster's network that the mesh does not do for its callers in it. Pure.

A caller's sidecar chooses among all pods of a Service by itself, in the place of the node's proxy. And it carries TCP
alone: the rest goes from app to app as before, which nobody judges.
"""

from __future__ import annotations

from collections.abc import Iterator

from k8s.objects.lenient import Json, labels, objects, text
from k8s.ramp.finding import Code, Finding, Weight
from k8s.ramp.openings import members_behind
from k8s.ramp.snapshot import Cluster, subject_of

_TOPOLOGY = ("service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints")


def service_findings(cluster: Cluster) -> Iterator[Finding]:
    """Notices alone: what somebody chose, and what becomes of it."""
    for service in cluster.kind("Service"):
        if not members_behind(cluster, service):
            continue
        if asked := _choosing(service):
            yield Finding(
                code=Code.SERVICE_CHOICE,
                weight=Weight.NOTICE,
                subject=subject_of(service),
                what=f"it asks for {', '.join(asked)}, but callers of the mesh spread their calls over all its pods",
                mend="leave it, if no call depends on which pod answers",
            )
        ports = [one for one in objects(service, "spec", "ports") if text(one, "protocol") not in ("", "TCP")]
        if ports:
            told = ", ".join(f"{text(one, 'protocol')} {one.get('port')}" for one in ports)
            yield Finding(
                code=Code.NOT_CARRIED,
                weight=Weight.NOTICE,
                subject=subject_of(service),
                what=f"the mesh carries TCP alone, so {told} goes past it: unencrypted, and judged by nobody",
                mend="say by a NetworkPolicy who may reach it",
            )


def _choosing(service: Json) -> list[str]:
    asked = []
    if text(service, "spec", "sessionAffinity") == "ClientIP":
        asked.append("sessionAffinity ClientIP")
    if text(service, "spec", "internalTrafficPolicy") == "Local":
        asked.append("internalTrafficPolicy Local")
    if distribution := text(service, "spec", "trafficDistribution"):
        asked.append(f"trafficDistribution {distribution[:40]}")
    held = labels(service, "metadata", "annotations")
    asked += [name for name in _TOPOLOGY if held.get(name, "").lower() == "auto"]
    return asked
