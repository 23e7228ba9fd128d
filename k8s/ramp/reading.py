"""Reads from a cluster what ``k8s check`` looks at. Secrets and the data of ConfigMaps are never asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from k8s.client import resources as known
from k8s.client.resources import resource
from k8s.daytwo.cluster import Cluster as Asked
from k8s.daytwo.cluster import ClusterError
from k8s.objects.lenient import Json
from k8s.ramp.facts import gates_of
from k8s.ramp.snapshot import Cluster

_METRICS_LIMIT_BYTES: Final = 32 << 20


ALLOWLISTS: Final = resource("ringfence.io/v1alpha1", "allowlists", "Allowlist")
EGRESSES: Final = resource("ringfence.io/v1alpha1", "egresses", "Egress")
POSTURES: Final = resource("ringfence.io/v1alpha1", "postures", "Posture")
_READ: Final = (
    known.NAMESPACES,
    known.NODES,
    known.PODS,
    known.SERVICES,
    known.ENDPOINT_SLICES,
    known.DEPLOYMENTS,
    known.STATEFUL_SETS,
    known.DAEMON_SETS,
    known.REPLICA_SETS,
    known.JOBS,
    known.CRON_JOBS,
    known.EVENTS,
    known.NETWORK_POLICIES,
    known.INGRESSES,
    known.MUTATING_WEBHOOKS,
    known.VALIDATING_WEBHOOKS,
    known.CUSTOM_RESOURCE_DEFINITIONS,
    ALLOWLISTS,
    EGRESSES,
    POSTURES,
    resource("apiregistration.k8s.io/v1", "apiservices", "APIService", namespaced=False),
    resource("gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute"),
    resource("gateway.networking.k8s.io/v1", "grpcroutes", "GRPCRoute"),
    resource("gateway.networking.k8s.io/v1alpha2", "tcproutes", "TCPRoute"),
    resource("gateway.networking.k8s.io/v1alpha2", "tlsroutes", "TLSRoute"),
    resource("monitoring.coreos.com/v1", "servicemonitors", "ServiceMonitor"),
    resource("monitoring.coreos.com/v1", "podmonitors", "PodMonitor"),
)
# A pod, a label or a posture that was not seen is taken for one that is not there: a namespace would be found clean, or
# be closed to callers, or be let out of the mesh, by what was not looked at.
_NEEDED: Final = frozenset(
    {
        known.NAMESPACES,
        known.PODS,
        known.SERVICES,
        known.DEPLOYMENTS,
        known.STATEFUL_SETS,
        known.DAEMON_SETS,
        POSTURES,
    }
)


async def read_cluster(asked: Asked, namespaces: Iterable[str]) -> tuple[Cluster, list[str]]:
    """What there is, and what could not be read. Raises ClusterError where that is what nothing can be told without."""
    version = await asked.version()
    items: list[Json] = []
    unread = []
    for one in _READ:
        try:
            items += await asked.objects(one)
        except ClusterError as error:
            if one in _NEEDED:
                raise ClusterError(
                    f"{one.plural} could not be read, and without them nothing can be told: {error} (ask by an "
                    "account that may list them in all namespaces)"
                ) from error
            unread.append(f"{one.plural} could not be read, so nothing is said of them: {error}")
    try:
        gates = gates_of(await asked.text("/metrics", {}, _METRICS_LIMIT_BYTES))
    except ClusterError as error:
        gates = {}
        unread.append(f"feature gates could not be read: {error}")
    cluster = Cluster(items=tuple(items), namespaces=frozenset(namespaces), version=version, gates=gates)
    return cluster, unread
