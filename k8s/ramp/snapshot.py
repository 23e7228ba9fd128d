"""The objects of a cluster as ``k8s check`` looks at them, by kind, and the workloads that run or would. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from k8s.objects.lenient import Json, integer, labels, mapping, objects, text
from k8s.objects.names import (
    DISABLED,
    ENABLED,
    INJECT,
    INJECTED,
    NEVER_MESHED,
    SIDECAR_CONTAINER,
    SYSTEM_NAMESPACE,
    TRUE,
)
from k8s.objects.selectors import has_labels

# Kind: where its pod template stands.
_NEVER: Final = NEVER_MESHED | {SYSTEM_NAMESPACE}
_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


def name_of(one: Json) -> str:
    return text(one, "metadata", "name")


def namespace_of(one: Json) -> str:
    """The namespace; ``default`` where a manifest names none."""
    return text(one, "metadata", "namespace") or "default"


def subject_of(one: Json) -> str:
    """``Kind namespace/name``, or ``Kind name`` for what stands in no namespace."""
    kind = text(one, "kind") or "object"
    cluster_wide = kind in _CLUSTER_WIDE
    return f"{kind} {name_of(one)}" if cluster_wide else f"{kind} {namespace_of(one)}/{name_of(one)}"


_CLUSTER_WIDE: Final = frozenset(
    {
        "APIService",
        "ClusterRole",
        "CustomResourceDefinition",
        "IngressClass",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "ValidatingWebhookConfiguration",
    }
)


@dataclass(frozen=True, kw_only=True, eq=False)
class PodView:
    """A pod, or the pod that a template would make. ``owner``: who made it, or the template's kind and name."""

    namespace: str
    owner_kind: str
    owner_name: str
    pod: Json = field(repr=False)
    is_template: bool

    @property
    def name(self) -> str:
        return name_of(self.pod)

    @property
    def owner(self) -> str:
        return f"{self.owner_kind} {self.namespace}/{self.owner_name}"

    @cached_property
    def labels(self) -> dict[str, str]:
        return labels(self.pod, "metadata", "labels")

    @cached_property
    def annotations(self) -> dict[str, str]:
        return labels(self.pod, "metadata", "annotations")

    @property
    def spec(self) -> Json:
        return mapping(self.pod, "spec")

    @property
    def containers(self) -> list[Json]:
        return objects(self.pod, "spec", "containers")

    @property
    def is_injected(self) -> bool:
        return self.labels.get(INJECTED) == TRUE

    @property
    def host_network(self) -> bool:
        return self.spec.get("hostNetwork") is True

    @property
    def ports(self) -> list[Json]:
        """What its containers, those of them that run on, say that they listen on; the sidecar's own left out."""
        beside = (one for one in objects(self.pod, "spec", "initContainers") if text(one, "restartPolicy") == "Always")
        running = [one for one in (*self.containers, *beside) if text(one, "name") != SIDECAR_CONTAINER]
        return [port for one in running for port in objects(one, "ports")]

    def port_number(self, name: str) -> int | None:
        """The number of the container port of that name."""
        return next((integer(port, "containerPort") for port in self.ports if text(port, "name") == name), None)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What is known. ``namespaces``: those that were asked for; empty for all that are in the mesh, or, while none is,
    for all that could be. ``version``: as the API server tells it; empty where only manifests are read."""

    items: tuple[Json, ...]
    namespaces: frozenset[str] = frozenset()
    version: str = ""
    gates: Mapping[str, bool] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        return bool(self.version)

    @cached_property
    def by_kind(self) -> Mapping[str, list[Json]]:
        found: dict[str, list[Json]] = {}
        for one in self.items:
            found.setdefault(text(one, "kind"), []).append(one)
        return found

    def kind(self, *kinds: str) -> Iterator[Json]:
        for kind in kinds:
            yield from self.by_kind.get(kind, ())

    @cached_property
    def namespace_labels(self) -> Mapping[str, dict[str, str]]:
        found = {name: {"kubernetes.io/metadata.name": name} for name in map(namespace_of, self.items)}
        for one in self.kind("Namespace"):
            name = name_of(one)
            found[name] = {"kubernetes.io/metadata.name": name, **labels(one, "metadata", "labels")}
        return found

    @cached_property
    def labelled(self) -> frozenset[str]:
        """The namespaces whose pods are injected."""
        return frozenset(name for name, held in self.namespace_labels.items() if held.get(INJECT) == ENABLED)

    @cached_property
    def chosen(self) -> frozenset[str]:
        """The namespaces that are checked as members of the mesh."""
        if self.namespaces:
            return self.namespaces
        if self.labelled:
            return self.labelled
        return frozenset(self.namespace_labels) - _NEVER

    @cached_property
    def pods(self) -> tuple[PodView, ...]:
        """Pods that live, and of each template without one the pod that it would make."""
        living = [_pod_view(one) for one in self.kind("Pod") if text(one, "status", "phase") not in _ENDED]
        owners = {(view.namespace, view.owner_kind, view.owner_name) for view in living}
        made = []
        for kind, path in _TEMPLATES.items():
            for one in self.kind(kind):
                view = PodView(
                    namespace=namespace_of(one),
                    owner_kind=kind,
                    owner_name=name_of(one),
                    pod=mapping(one, *path),
                    is_template=True,
                )
                owned = bool(objects(one, "metadata", "ownerReferences")) and kind in ("ReplicaSet", "Job")
                if not owned and (view.namespace, kind, view.owner_name) not in owners and view.containers:
                    made.append(view)
        return (*living, *made)

    @cached_property
    def members(self) -> tuple[PodView, ...]:
        """The pods that are in the mesh, or would be: of the chosen namespaces, not opted out, not of the host."""
        return tuple(one for one in self.pods if self.is_member(one))

    def is_member(self, view: PodView) -> bool:
        """A pod's own label wins over its namespace's."""
        own = view.labels.get(INJECT)
        if view.host_network or own == DISABLED:
            return False
        return own == ENABLED or view.namespace in self.chosen

    def owners(self, views: Iterable[PodView]) -> dict[str, PodView]:
        """One pod for each workload: all of them are alike."""
        found: dict[str, PodView] = {}
        for view in views:
            found.setdefault(view.owner, view)
        return found

    def backing(self, service: Json) -> list[PodView]:
        """The pods that a Service leads to."""
        selector = labels(service, "spec", "selector")
        if not selector:
            return []
        return [one for one in self.pods_of.get(namespace_of(service), ()) if has_labels(selector, one.labels)]

    @cached_property
    def pods_of(self) -> Mapping[str, list[PodView]]:
        """By namespace."""
        found: dict[str, list[PodView]] = {}
        for view in self.pods:
            found.setdefault(view.namespace, []).append(view)
        return found

    @cached_property
    def services_of(self) -> Mapping[str, dict[str, Json]]:
        """By namespace, by name."""
        found: dict[str, dict[str, Json]] = {}
        for one in self.kind("Service"):
            found.setdefault(namespace_of(one), {})[name_of(one)] = one
        return found

    def service(self, namespace: str, name: str) -> Json | None:
        return self.services_of.get(namespace, {}).get(name)

    def mesh_name(self, view: PodView) -> str:
        """The service of the mesh that a pod stands for: its first Service, or else its workload."""
        for name, one in sorted(self.services_of.get(view.namespace, {}).items()):
            selector = labels(one, "spec", "selector")
            if selector and has_labels(selector, view.labels):
                return name
        return view.owner_name

    def first(self, wanted: Callable[[PodView], bool]) -> PodView | None:
        return next((one for one in self.pods if wanted(one)), None)


_ENDED: Final = frozenset({"Succeeded", "Failed"})


def _pod_view(pod: Json) -> PodView:
    kind, name = "Pod", name_of(pod)
    for owner in objects(pod, "metadata", "ownerReferences"):
        if owner.get("controller") is not True:
            continue
        kind, name = text(owner, "kind"), text(owner, "name")
        suffix = "-" + labels(pod, "metadata", "labels").get("pod-template-hash", "")
        if kind == "ReplicaSet" and len(suffix) > 1 and name.endswith(suffix):
            kind, name = "Deployment", name.removesuffix(suffix)
    return PodView(namespace=namespace_of(pod), owner_kind=kind, owner_name=name, pod=pod, is_template=False)
