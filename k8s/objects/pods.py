"""What is read of a Pod: who it is, where it is, and whether it takes traffic. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from k8s.objects import lenient, names
from k8s.objects.fields import JsonObject, child, flag, integer, objects, text, texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The controller of a pod, such as a ReplicaSet."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    """A port that a container says it listens on; ``protocol``: TCP, UDP or SCTP."""

    name: str
    port: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container, or an init container that runs on beside them (``restarts``)."""

    name: str
    ports: tuple[ContainerPort, ...] = ()
    restarts: bool = False


class SidecarProgress(Enum):
    """How far the sidecar's container is, by the kubelet's word."""

    NOT_BEGUN = auto()
    BEGUN = auto()
    """It runs, or ran: what it wants before it is ready is not there yet."""
    STARTED = auto()
    """It was ready, and so the app's containers may run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod as the API serves it. ``addresses``: IPs, the primary first, none before it has any. ``redirect_failure``:
    with what status its redirect ended last, 0 for none or a good one. No mesh is another by that and ``sidecar``, so
    pods that differ in nothing else are equal."""

    namespace: str
    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    service_account: str = "default"
    node: str = ""
    addresses: tuple[str, ...] = ()
    phase: str = ""
    ready: bool = False
    deleting: bool = False
    host_network: bool = False
    owner: Owner | None = None
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    sidecar: SidecarProgress = field(default=SidecarProgress.NOT_BEGUN, compare=False)
    redirect_failure: int = field(default=0, compare=False)

    @property
    def meshed(self) -> bool:
        """Whether it has a sidecar of ours: its container, and not a label alone, which anybody may write."""
        return not self.host_network and any(
            one.name == names.SIDECAR_CONTAINER for one in (*self.init_containers, *self.containers)
        )

    @property
    def ended(self) -> bool:
        """Whether it will never run again; its address may be another pod's by now."""
        return self.phase in ("Succeeded", "Failed")

    def ports(self) -> tuple[ContainerPort, ...]:
        """Every declared port of the containers that run on, the sidecar's left out."""
        running = (*self.containers, *(one for one in self.init_containers if one.restarts))
        return tuple(port for one in running if one.name != names.SIDECAR_CONTAINER for port in one.ports)


def read_pod(document: JsonObject) -> Pod:
    """From the API's JSON. Raises MalformedObjectError."""
    metadata, spec, status = (child(document, key) for key in ("metadata", "spec", "status"))
    return Pod(
        namespace=text(metadata, "namespace", "metadata"),
        name=text(metadata, "name", "metadata"),
        uid=text(metadata, "uid", "metadata"),
        labels=texts(metadata, "labels", "metadata"),
        annotations=texts(metadata, "annotations", "metadata"),
        service_account=text(spec, "serviceAccountName", "spec") or "default",
        node=text(spec, "nodeName", "spec"),
        addresses=_addresses(status),
        phase=text(status, "phase", "status"),
        ready=_ready(status),
        deleting=metadata.get("deletionTimestamp") is not None,
        host_network=flag(spec, "hostNetwork", "spec"),
        owner=read_owner(metadata),
        containers=read_containers(spec, "containers"),
        init_containers=read_containers(spec, "initContainers"),
        sidecar=_progress(status),
        redirect_failure=_redirect_failure(status),
    )


def read_owner(metadata: JsonObject) -> Owner | None:
    """The one owner that controls the object; None if nobody does."""
    for path, one in objects(metadata, "ownerReferences", "metadata"):
        if flag(one, "controller", path):
            return Owner(
                api_version=text(one, "apiVersion", path),
                kind=text(one, "kind", path),
                name=text(one, "name", path),
                uid=text(one, "uid", path),
            )
    return None


def read_containers(spec: JsonObject, key: str) -> tuple[Container, ...]:
    """``containers`` or ``initContainers`` of a pod's spec."""
    return tuple(
        Container(
            name=text(one, "name", path),
            restarts=text(one, "restartPolicy", path) == "Always",
            ports=tuple(
                ContainerPort(
                    name=text(port, "name", where),
                    port=integer(port, "containerPort", where),
                    protocol=text(port, "protocol", where) or "TCP",
                )
                for where, port in objects(one, "ports", path)
            ),
        )
        for path, one in objects(spec, key, "spec")
    )


def _addresses(status: JsonObject) -> tuple[str, ...]:
    primary = text(status, "podIP", "status")
    all_of_them = (text(one, "ip", path) for path, one in objects(status, "podIPs", "status"))
    return tuple(dict.fromkeys(address for address in (primary, *all_of_them) if address))


def _progress(status: JsonObject) -> SidecarProgress:
    told = _container_status(status, names.SIDECAR_CONTAINER)
    if lenient.at(told, "started") is True:
        return SidecarProgress.STARTED
    ran = (
        lenient.at(told, *path) for path in (("state", "running"), ("state", "terminated"), ("lastState", "terminated"))
    )
    return SidecarProgress.NOT_BEGUN if all(one is None for one in ran) else SidecarProgress.BEGUN


def _redirect_failure(status: JsonObject) -> int:
    told = _container_status(status, names.REDIRECT_CONTAINER)
    if lenient.at(told, "state", "terminated") is not None:
        return lenient.integer(told, "state", "terminated", "exitCode") or 0
    return lenient.integer(told, "lastState", "terminated", "exitCode") or 0


def _container_status(status: JsonObject, name: str) -> JsonObject:
    several = (*lenient.objects(status, "initContainerStatuses"), *lenient.objects(status, "containerStatuses"))
    return next((one for one in several if lenient.text(one, "name") == name), {})


def _ready(status: JsonObject) -> bool:
    return any(
        text(one, "type", path) == "Ready" and text(one, "status", path) == "True"
        for path, one in objects(status, "conditions", "status")
    )
