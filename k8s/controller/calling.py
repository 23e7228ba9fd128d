"""Whom workloads of a cluster may call, until the control plane chooses by policy: everybody. Pure."""

from __future__ import annotations

from dataclasses import replace

from ringfence.mesh import Mesh, UpstreamReference


def calling_all(mesh: Mesh) -> Mesh:
    """Each service calls each port of every Service: nobody says beforehand whom a pod calls, and its callee judges."""
    references = tuple(
        UpstreamReference(service=one.full_name, port=port.port, protocol=port.protocol)
        for one in mesh.services
        if one.virtual_addresses
        for port in one.ports
    )
    nowhere = (None,) * len(references)
    services = tuple(
        replace(one, upstreams=references, instances=tuple(replace(each, listens=nowhere) for each in one.instances))
        for one in mesh.services
    )
    return replace(mesh, services=services)
