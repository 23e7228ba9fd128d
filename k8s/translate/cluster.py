"""What is known of a cluster at one moment, found by what is asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from k8s.objects import names
from k8s.objects.namespaces import Namespace
from k8s.objects.pods import Pod
from k8s.objects.services import EndpointSlice, Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The objects, in any order."""

    namespaces: Iterable[Namespace] = ()
    services: Iterable[Service] = ()
    slices: Iterable[EndpointSlice] = ()
    pods: Iterable[Pod] = ()


@dataclass(slots=True)
class Index:
    """The pods of a cluster by what selects them, and what slices say of them. Made anew for each reading."""

    namespaces: Mapping[str, Namespace]
    meshed: dict[str, Pod] = field(default_factory=dict)
    """By namespace and name."""
    unmeshed: dict[str, Pod] = field(default_factory=dict)
    by_label: dict[tuple[str, str, str], list[Pod]] = field(default_factory=dict)
    """By namespace, name and value of a label: meshed or not, but none that has ended."""
    ready: dict[tuple[str, str], dict[str, bool]] = field(default_factory=dict)
    """By namespace and Service: by pod, whether a slice has it ready."""

    @classmethod
    def of(cls, cluster: Cluster, root_namespace: str) -> Index:
        index = cls(namespaces={one.name: one for one in cluster.namespaces})
        by_address: dict[str, Pod] = {}
        for pod in cluster.pods:
            if pod.ended or not pod.addresses:
                continue
            for label in pod.labels.items():
                index.by_label.setdefault((pod.namespace, *label), []).append(pod)
            if not pod.meshed or pod.namespace in names.NEVER_MESHED or pod.namespace == root_namespace:
                index.unmeshed[f"{pod.namespace}/{pod.name}"] = pod
                continue
            held = by_address.get(pod.addresses[0])
            by_address[pod.addresses[0]] = pod if held is None else max(pod, held, key=_likelier)
        index.meshed = {f"{pod.namespace}/{pod.name}": pod for pod in by_address.values()}
        for one in cluster.slices:
            told = index.ready.setdefault((one.namespace, one.service), {})
            for endpoint in one.endpoints:
                if endpoint.pod:
                    # A pod with two addresses stands in two slices.
                    told[endpoint.pod] = told.get(endpoint.pod, False) or endpoint.ready
        return index

    def behind(self, service: Service) -> dict[str, Pod]:
        """The pods that a Service selects, or that its slices name, by name; meshed or not."""
        told = self.ready.get((service.namespace, service.name), {})
        found = {}
        for name in told:
            key = f"{service.namespace}/{name}"
            pod = self.meshed.get(key) or self.unmeshed.get(key)
            if pod is not None:
                found[name] = pod
        if service.selector:
            rarest = min(
                (self.by_label.get((service.namespace, *label), []) for label in service.selector.items()), key=len
            )
            wanted = service.selector.items()
            found |= {pod.name: pod for pod in rarest if wanted <= pod.labels.items()}
        return found

    def is_meshed(self, pod: Pod) -> bool:
        return f"{pod.namespace}/{pod.name}" in self.meshed

    def is_ready(self, service: Service, pod: Pod) -> bool:
        """Whether calls of the Service should go to a pod: as its slice says; before there is one, as the pod does."""
        told = self.ready.get((service.namespace, service.name), {}).get(pod.name)
        return told if told is not None else (pod.ready and not pod.deleting) or service.publish_not_ready


def _likelier(pod: Pod) -> tuple[bool, bool, str]:
    """Of two pods with one address one is gone, and the API has not heard of it yet."""
    return (not pod.deleting, pod.phase == "Pending", pod.name)
