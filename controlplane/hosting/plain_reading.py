"""A reading as plain values for JSON, and back: as much of it as decides about calls. Pure.

Where workloads are, and what they are called, is left out: whoever asks about policy need not know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import (
    AccessLog,
    ControlPlaneAddresses,
    IdentityLifetimes,
    Instance,
    Mesh,
    Service,
    ServicePort,
)
from ringfence.platform import Reading, WrittenDocument
from ringfence.policy.labels import Labels
from ringfence.snapshot import PortMode, Protocol
from ringfence.spiffe import SpiffeId, TrustDomain

_NOWHERE = "0.0.0.0"  # nobody dials it


def plain_reading(platform: str, reading: Reading) -> dict[str, Any]:
    """``reading`` of ``platform``."""
    mesh = reading.mesh
    return {
        "platform": platform,
        "mesh": {
            "name": mesh.name,
            "trust_domain": mesh.trust_domain.name,
            "root_namespace": mesh.root_namespace,
            "services": [_plain_service(service) for service in mesh.services],
        },
        "documents": [
            {"name": one.name, "version": one.version, "text": one.content.decode()} for one in reading.documents
        ],
    }


def _plain_service(service: Service) -> dict[str, Any]:
    return {
        "namespace": service.namespace,
        "name": service.name,
        "identities": [str(one) for one in service.identities],
        "labels": dict(service.labels),
        "apart": [
            {"labels": [list(label) for label in one.labels], "identities": [str(known) for known in one.identities]}
            for one in service.apart
        ],
        "ports": [
            {"port": number, "protocol": port.protocol.value, "mode": port.mode.value}
            for number, port in sorted(service.workload_ports().items())
        ],
    }


def reading_of(document: Mapping[str, Any]) -> Reading:
    """What ``plain_reading`` made; raises ValueError, KeyError, TypeError or AttributeError for anything else."""
    mesh = document["mesh"]
    return Reading(
        mesh=Mesh(
            name=str(mesh["name"]),
            trust_domain=TrustDomain.parse(mesh["trust_domain"]),
            policies="",
            control_plane=ControlPlaneAddresses(),
            identities=IdentityLifetimes(),
            services=tuple(_service(one) for one in mesh["services"]),
            root_namespace=str(mesh["root_namespace"]),
        ),
        documents=tuple(
            WrittenDocument(name=str(one["name"]), content=one["text"].encode(), version=str(one["version"]))
            for one in document["documents"]
        ),
    )


def _service(plain: Mapping[str, Any]) -> Service:
    ports = tuple(
        ServicePort(port=int(one["port"]), protocol=Protocol(one["protocol"]), mode=PortMode(one["mode"]))
        for one in plain["ports"]
    )
    first, *_ = identities = [SpiffeId.parse(one) for one in plain["identities"]]
    workloads: list[tuple[SpiffeId, Labels]] = [(one, ()) for one in identities]
    for one in plain.get("apart", ()):
        labels = tuple(sorted((str(name), str(value)) for name, value in one["labels"]))
        workloads += [(SpiffeId.parse(known), labels) for known in one["identities"]]
    return Service(
        name=str(plain["name"]),
        namespace=str(plain["namespace"]),
        service_account=first.service_account or "",
        spiffe_id=first,
        access_log=AccessLog(),
        ports=ports,
        upstreams=(),
        instances=tuple(
            Instance(
                name=str(number),
                address=_NOWHERE,
                mesh_port=1,
                signals=None,
                apps=tuple(SocketAddress(_NOWHERE, port.port) for port in ports),
                listens=(),
                run=None,
                spiffe_id=one,
                labels=labels,
            )
            for number, (one, labels) in enumerate(workloads)
        ),
        labels=tuple(sorted((str(name), str(value)) for name, value in plain["labels"].items())),
    )
