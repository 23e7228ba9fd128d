"""A cluster as a mesh: each Service with its meshed pods, and the pods of no Service under the name of their workload.
Pure, but for what it remembers: parts of which nothing changed are the same objects again.

An unmeshed pod never becomes an instance: to the mesh it is an address outside. A Service with such pods only is a
destination outside the mesh, too; one without pods at all is part of it where its namespace is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypedDict

from k8s.objects import names
from k8s.objects.pods import Pod
from k8s.objects.services import Service
from k8s.translate.cluster import Cluster, Index
from k8s.translate.ports import Ports, declared, mode_of, targets_of
from k8s.translate.workloads import lasting_labels, workload_of
from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import (
    AccessLog,
    AccessLogMode,
    ControlPlaneAddresses,
    IdentityLifetimes,
    Instance,
    Mesh,
)
from ringfence.mesh import Service as MeshService
from ringfence.platform import identity_of
from ringfence.policy.labels import Labels
from ringfence.snapshot import Intercept
from ringfence.spiffe import SpiffeId, TrustDomain

NOBODY: Final = "_none"
"""The account of a service without pods. No account of a cluster can have that name, so nobody is ever taken for it."""
_Inputs = tuple[object, ...]
"""All that a service was made of."""
_INTERCEPT: Final = Intercept(inbound_port=names.INBOUND_PORT, outbound_port=names.OUTBOUND_PORT)


class _Identity(TypedDict):
    service_account: str
    spiffe_id: SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """What a cluster does not say of itself. ``name``: of the mesh."""

    trust_domain: TrustDomain
    name: str = "cluster"
    root_namespace: str = names.SYSTEM_NAMESPACE
    control_plane: ControlPlaneAddresses = field(default_factory=ControlPlaneAddresses)
    identities: IdentityLifetimes = field(default_factory=IdentityLifetimes)


class Translator:
    """Makes meshes of one cluster as it changes; equal clusters give equal meshes, whatever came before."""

    def __init__(self, settings: MeshSettings) -> None:
        self._settings = settings
        self._made: dict[str, tuple[_Inputs, MeshService]] = {}
        self._identities: dict[tuple[str, str], SpiffeId] = {}

    def mesh(self, cluster: Cluster) -> Mesh:
        index = Index.of(cluster, self._settings.root_namespace)
        services = sorted(cluster.services, key=lambda one: (one.namespace, one.name))
        behind = {}
        for service in services:
            pods = index.behind(service)
            if self._belongs(service, pods, index):
                behind[_full_name(service)] = (service, pods)
        led: dict[str, set[int]] = {}
        for service, pods in behind.values():
            for pod in pods.values():
                led.setdefault(_full_name(pod), set()).update(targets_of(service, pod))
        made: dict[str, tuple[_Inputs, MeshService]] = {}
        for full_name, (service, pods) in behind.items():
            meshed = [pod for pod in pods.values() if index.is_meshed(pod)]
            others = [pod for pod in pods.values() if not index.is_meshed(pod)]
            made[full_name] = self._service(service, (meshed, others), led, index)
        loose = (pod for key, pod in index.meshed.items() if key not in led)
        for name, members in _workloads(loose, frozenset(_full_name(one) for one in services)).items():
            made[name] = self._workload(name, members, index)
        self._made = made
        settings = self._settings
        return Mesh(
            name=settings.name,
            trust_domain=settings.trust_domain,
            policies="",
            control_plane=settings.control_plane,
            identities=settings.identities,
            services=tuple(made[name][1] for name in sorted(made)),
            root_namespace=settings.root_namespace,
        )

    def _belongs(self, service: Service, behind: Mapping[str, Pod], index: Index) -> bool:
        if service.external_name or service.namespace == self._settings.root_namespace:
            return False
        if behind:
            return any(index.is_meshed(pod) for pod in behind.values())
        namespace = index.namespaces.get(service.namespace)
        labelled = namespace is not None and namespace.labels.get(names.INJECT) == names.ENABLED
        return labelled and bool(service.selector)

    def _service(
        self, service: Service, behind: tuple[list[Pod], list[Pod]], led: Mapping[str, set[int]], index: Index
    ) -> tuple[_Inputs, MeshService]:
        """``behind``: the pods of the mesh that it leads to, and those that are not in it."""
        full_name = _full_name(service)
        pods = sorted(behind[0], key=lambda pod: pod.name)
        ready = tuple(index.is_ready(service, pod) for pod in pods)
        # A rollout into the mesh, or out of it: until a pod of the mesh is ready, those outside serve, and whoever
        # dials the Service's address must reach them as before.
        led_outside = not any(ready) and any(index.is_ready(service, pod) for pod in behind[1])
        elsewhere = tuple(frozenset(led.get(_full_name(pod), ())) for pod in pods)
        namespace = _annotations(index, service.namespace)
        key = (service, tuple(pods), ready, elsewhere, namespace.get(names.MODE), led_outside)
        held = self._made.get(full_name)
        if held is not None and held[0] == key:
            return held
        extras = {
            pod.name: {number: one for number, one in declared(pod).items() if number not in taken}
            for pod, taken in zip(pods, elsewhere, strict=True)
        }
        ports = Ports(service.ports, extras)
        shared = _shared([lasting_labels(pod.labels) for pod in pods] or [lasting_labels(service.selector)])
        labels = _labels({**lasting_labels(service.labels), **shared})
        return key, MeshService(
            name=service.name,
            namespace=service.namespace,
            **self._identity(service.namespace, pods),
            access_log=_access_log(pods),
            ports=ports.mesh_ports(mode_of(pods, service.annotations, namespace)),
            upstreams=(),
            instances=self._instances(pods, ready, ports, labels),
            virtual_addresses=() if led_outside else tuple(sorted(service.cluster_ips)),
            intercept=_INTERCEPT,
            labels=labels,
            pinned=True,
        )

    def _workload(self, full_name: str, pods: Sequence[Pod], index: Index) -> tuple[_Inputs, MeshService]:
        namespace, _, name = full_name.partition("/")
        annotations = _annotations(index, namespace)
        pods = sorted(pods, key=lambda pod: pod.name)
        key = (tuple(pods), annotations.get(names.MODE))
        held = self._made.get(full_name)
        if held is not None and held[0] == key:
            return held
        ports = Ports((), {pod.name: declared(pod) for pod in pods})
        labels = _labels(_shared([lasting_labels(pod.labels) for pod in pods]))
        return key, MeshService(
            name=name,
            namespace=namespace,
            **self._identity(namespace, pods),
            access_log=_access_log(pods),
            ports=ports.mesh_ports(mode_of(pods, {}, annotations)),
            upstreams=(),
            instances=self._instances(pods, tuple(pod.ready and not pod.deleting for pod in pods), ports, labels),
            intercept=_INTERCEPT,
            labels=labels,
            pinned=True,
        )

    def _identity(self, namespace: str, pods: Sequence[Pod]) -> _Identity:
        """Of a service: that of the first account among its pods, by name."""
        account = min((pod.service_account for pod in pods), default=NOBODY)
        return {"service_account": account, "spiffe_id": self._spiffe_id(namespace, account)}

    def _instances(
        self, pods: Sequence[Pod], ready: Sequence[bool], ports: Ports, labels: Labels
    ) -> tuple[Instance, ...]:
        """``labels``: those of the service, which each has."""
        held = frozenset(labels)
        own = min((pod.service_account for pod in pods), default=NOBODY)
        return tuple(
            Instance(
                name=pod.name,
                address=pod.addresses[0],
                mesh_port=names.MESH_PORT,
                signals=SocketAddress(pod.addresses[0], names.SIGNALS_PORT),
                apps=tuple(SocketAddress(pod.addresses[0], target) for target in targets),
                listens=(),
                run=None,
                targets=targets,
                spiffe_id=(None if pod.service_account == own else self._spiffe_id(pod.namespace, pod.service_account)),
                ready=fit,
                also=pod.addresses[1:],
                labels=tuple(one for one in _labels(lasting_labels(pod.labels)) if one not in held),
            )
            for pod, fit in zip(pods, ready, strict=True)
            for targets in (ports.targets(pod),)
        )

    def _spiffe_id(self, namespace: str, account: str) -> SpiffeId:
        found = self._identities.get((namespace, account))
        if found is None:
            found = identity_of(namespace, account, self._settings.trust_domain.name)
            self._identities[namespace, account] = found
        return found


def _full_name(one: Service | Pod) -> str:
    return f"{one.namespace}/{one.name}"


def _workloads(pods: Iterable[Pod], taken: frozenset[str]) -> dict[str, list[Pod]]:
    """Pods of no Service by the full name of their workload; where a Service has that name, or a workload of another
    kind, with its kind before it."""
    by_workload: dict[tuple[str, str, str], list[Pod]] = {}
    for pod in pods:
        by_workload.setdefault((pod.namespace, *workload_of(pod)), []).append(pod)
    times: dict[tuple[str, str], int] = {}
    for namespace, _, name in by_workload:
        times[namespace, name] = times.get((namespace, name), 0) + 1
    found: dict[str, list[Pod]] = {}
    for (namespace, kind, name), members in sorted(by_workload.items(), key=lambda one: one[0]):
        full_name = f"{namespace}/{name}"
        if full_name in taken or times[namespace, name] > 1:
            full_name = f"{namespace}/{kind}-{name}"
        while full_name in taken or full_name in found:
            full_name += "-pods"
        found[full_name] = members
    return found


def _annotations(index: Index, namespace: str) -> Mapping[str, str]:
    held = index.namespaces.get(namespace)
    return held.annotations if held is not None else {}


def _shared(several: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What all of them have."""
    first, *others = several
    return {name: value for name, value in first.items() if all(one.get(name) == value for one in others)}


def _labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _access_log(pods: Sequence[Pod]) -> AccessLog:
    """One for all instances of a service: all requests where each pod asks for it."""
    asked = {pod.annotations.get(names.ACCESS_LOG, "") for pod in pods}
    return AccessLog(mode=AccessLogMode.ALL if asked == {AccessLogMode.ALL.value} else AccessLogMode.DENIED)
