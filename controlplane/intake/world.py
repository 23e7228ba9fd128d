"""A configuration as the tools of policy see it: services with all that decides about calls to them. Pure."""

from __future__ import annotations

from controlplane.intake.configuration import Configuration
from ringfence.policy.analysis.world import World, WorldPort, WorldService
from ringfence.policy.bound import BoundPolicy
from ringfence.snapshot import PortMode


def world_of(configuration: Configuration) -> World:
    """The world that ``configuration`` makes; services without a sidecar are in it, as callers have them, too."""
    mesh = configuration.document.mesh
    nothing = BoundPolicy()

    def bound(name: str) -> BoundPolicy:
        return configuration.policies.get(name, nothing)

    services = [
        WorldService(
            namespace=service.namespace,
            name=service.name,
            spiffe_id=service.identities[0],
            other_ids=service.identities[1:],
            labels=service.labels,
            ports=tuple(
                WorldPort(port=number, protocol=port.protocol, permissive=port.mode is PortMode.PERMISSIVE)
                for number, port in sorted(service.workload_ports().items())
            ),
            policy=bound(service.full_name).policy,
            shadow=bound(service.full_name).shadow,
            token_issuers=bound(service.full_name).issuers,
            partly=bound(service.full_name).partly,
        )
        for service in mesh.services
    ]
    services += [
        WorldService(
            namespace=direct.namespace,
            name=direct.name,
            spiffe_id=direct.spiffe_id,
            labels=direct.labels,
            ports=tuple(
                WorldPort(port=port.port, protocol=port.protocol)
                for port in sorted(direct.ports, key=lambda port: port.port)
            ),
            has_sidecar=False,
        )
        for direct in mesh.direct_services
    ]
    return World(
        trust_domain=mesh.trust_domain,
        services=tuple(sorted(services, key=lambda service: service.full_name)),
        root_namespace=mesh.root_namespace,
        places=configuration.places,
    )
