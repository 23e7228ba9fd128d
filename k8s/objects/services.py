"""What is read of a Service and of an EndpointSlice. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from k8s.objects.fields import JsonObject, MalformedObjectError, child, flag, integer, objects, text, texts

SLICE_SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A port of a Service. ``target``: the pods' port by number, or by the name that their containers give it; 0 and
    empty: the same number. ``protocol``: TCP, UDP or SCTP; ``app_protocol``: what is spoken, if it is said."""

    port: int
    name: str = ""
    target: int = 0
    target_name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service as the API serves it. ``cluster_ips``: none where it is headless or a mere name; ``selector``: empty
    where somebody else says who stands behind it; ``external_name``: the name that it is an alias of."""

    namespace: str
    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    cluster_ips: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    external_name: str = ""
    publish_not_ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceEndpoint:
    """One place behind a Service. ``pod``: the pod that it is, of the slice's namespace; empty where it is none. Where
    a pod is, its own status says."""

    ready: bool
    pod: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """A part of what stands behind a Service, named by ``service``."""

    namespace: str
    name: str
    service: str
    endpoints: tuple[SliceEndpoint, ...] = ()


def read_service(document: JsonObject) -> Service:
    """From the API's JSON. Raises MalformedObjectError."""
    metadata, spec = child(document, "metadata"), child(document, "spec")
    is_name = text(spec, "type", "spec") == "ExternalName"
    return Service(
        namespace=text(metadata, "namespace", "metadata"),
        name=text(metadata, "name", "metadata"),
        uid=text(metadata, "uid", "metadata"),
        labels=texts(metadata, "labels", "metadata"),
        annotations=texts(metadata, "annotations", "metadata"),
        selector={} if is_name else texts(spec, "selector", "spec"),
        cluster_ips=() if is_name else _cluster_ips(spec),
        ports=tuple(_port(port, path) for path, port in objects(spec, "ports", "spec")),
        external_name=text(spec, "externalName", "spec") if is_name else "",
        publish_not_ready=flag(spec, "publishNotReadyAddresses", "spec"),
    )


def _port(port: JsonObject, path: str) -> ServicePort:
    target = port.get("targetPort")
    named = isinstance(target, str)
    return ServicePort(
        port=integer(port, "port", path),
        name=text(port, "name", path),
        target=0 if named else integer(port, "targetPort", path),
        target_name=text(port, "targetPort", path) if named else "",
        protocol=text(port, "protocol", path) or "TCP",
        app_protocol=text(port, "appProtocol", path),
    )


def _cluster_ips(spec: JsonObject) -> tuple[str, ...]:
    several = spec.get("clusterIPs")
    if several is not None and not (isinstance(several, list) and all(isinstance(one, str) for one in several)):
        raise MalformedObjectError("spec.clusterIPs: not a list of addresses (see kubectl explain)")
    all_of_them = (text(spec, "clusterIP", "spec"), *(several or ()))
    return tuple(dict.fromkeys(one for one in all_of_them if one and one != "None"))


def read_endpoint_slice(document: JsonObject) -> EndpointSlice | None:
    """From the API's JSON; None for one of no Service, or of names. Raises MalformedObjectError."""
    metadata = child(document, "metadata")
    service = texts(metadata, "labels", "metadata").get(SLICE_SERVICE_LABEL, "")
    if not service or text(document, "addressType") == "FQDN":
        return None
    return EndpointSlice(
        namespace=text(metadata, "namespace", "metadata"),
        name=text(metadata, "name", "metadata"),
        service=service,
        endpoints=tuple(_endpoint(one, path) for path, one in objects(document, "endpoints")),
    )


def _endpoint(endpoint: JsonObject, path: str) -> SliceEndpoint:
    conditions = child(endpoint, "conditions", path)
    target = child(endpoint, "targetRef", path)
    return SliceEndpoint(
        # Whoever writes slices and says nothing of readiness means ready, as the API has it.
        ready=conditions.get("ready") is None or flag(conditions, "ready", f"{path}.conditions"),
        pod=text(target, "name", f"{path}.targetRef") if text(target, "kind", f"{path}.targetRef") == "Pod" else "",
    )
