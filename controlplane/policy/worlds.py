"""From a configuration to the world that questions are asked of. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.intake.configuration import Configuration
from controlplane.intake.sources import SourceFiles
from controlplane.mesh.model import DirectService, Service
from ringfence.policy.analysis.world import Effect, World, WorldPort, WorldService
from ringfence.policy.documents import KIND, AllowlistDocument, read_allowlist
from ringfence.policy.envelope import read_kinds
from ringfence.policy.model import PolicySet
from ringfence.policy.problems import Place
from ringfence.snapshot import PortMode


def world_of(configuration: Configuration, places: Mapping[tuple[Effect, str], Place]) -> World:
    """The mesh of ``configuration`` as its policy sees it."""
    mesh = configuration.document.mesh
    return World(
        trust_domain=mesh.trust_domain,
        services=(
            *(_service(one, configuration) for one in mesh.services),
            *(_direct(one) for one in mesh.direct_services),
        ),
        places=places,
    )


def _service(service: Service, configuration: Configuration) -> WorldService:
    return WorldService(
        namespace=service.namespace,
        name=service.name,
        spiffe_id=service.spiffe_id,
        ports=tuple(
            WorldPort(port=port.port, protocol=port.protocol.value, permissive=port.mode is PortMode.PERMISSIVE)
            for port in service.ports
        ),
        policy=PolicySet(allowlists=configuration.allowlists.get(service.full_name, ())),
    )


def _direct(service: DirectService) -> WorldService:
    return WorldService(
        namespace=service.namespace,
        name=service.name,
        spiffe_id=service.spiffe_id,
        ports=tuple(WorldPort(port=port.port, protocol=port.protocol.value) for port in service.ports),
        has_sidecar=False,
    )


def places_of(files: SourceFiles) -> dict[tuple[Effect, str], Place]:
    """Where each rule of the files stands."""
    places: dict[tuple[Effect, str], Place] = {}
    for file in files.policies.files if files.policies is not None else ():
        documents, _ = read_kinds(file.content, str(file.path), {KIND: read_allowlist})
        for document in documents:
            if isinstance(document, AllowlistDocument):
                for rule, place in zip(document.allowlist.rules, document.places, strict=True):
                    places[Effect.ALLOW, f"{document.allowlist.full_name}/{rule.name}"] = place.name
    return places
