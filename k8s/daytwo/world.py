"""The mesh and its policy as the API server has them written, for questions that need no control plane."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from k8s.client import resources as known
from k8s.client.resources import Resource
from k8s.crds.definition import plural
from k8s.daytwo.cluster import Cluster, ClusterError
from k8s.objects.fields import MalformedObjectError
from k8s.objects.lenient import Json, at, objects, text, texts
from k8s.objects.names import GROUP, SIDECAR_CONTAINER
from k8s.objects.namespaces import read_namespace
from k8s.objects.pods import read_pod
from k8s.objects.services import read_endpoint_slice, read_service
from k8s.translate.cluster import Cluster as Objects
from k8s.translate.meshing import MeshSettings, Translator
from ringfence.mesh import Mesh
from ringfence.policy.analysis.world import Effect, World, WorldPort, WorldService
from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.bound import Binding, BoundPolicy
from ringfence.policy.documents import KINDS, read_documents
from ringfence.policy.problems import Problem
from ringfence.policy.services import MeshService
from ringfence.policy.written import PolicyDocument
from ringfence.snapshot import PortMode
from ringfence.spiffe import SpiffeIdError, TrustDomain

T = TypeVar("T")
_ID: Final = re.compile(r"spiffe://([^/\s]{1,255})/")
_DOMAIN_FLAG: Final = "--trust-domain"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenWorld:
    """``notes``: what is not in it, and why."""

    world: World
    notes: tuple[str, ...]


async def written_world(cluster: Cluster, trust_domain: str, system_namespace: str, now: float) -> WrittenWorld:
    """Raises ClusterError. ``trust_domain``: empty to find it by the pods."""
    namespaces = await cluster.objects(known.NAMESPACES)
    pods = await cluster.objects(known.PODS)
    domain = _domain(trust_domain or trust_domain_of(pods))
    notes: list[str] = []
    objects_of = Objects(
        namespaces=_read(read_namespace, namespaces, notes),
        services=_read(read_service, await cluster.objects(known.SERVICES), notes),
        slices=[one for one in _read(read_endpoint_slice, await cluster.objects(known.ENDPOINT_SLICES), notes) if one],
        pods=_read(read_pod, pods, notes),
    )
    settings = MeshSettings(trust_domain=domain, root_namespace=system_namespace)
    mesh = Translator(settings).mesh(objects_of)
    documents: list[PolicyDocument] = []
    for kind in KINDS:
        resource = Resource(group=GROUP, version="v1alpha1", plural=plural(kind), kind=kind)
        for one in await cluster.objects(resource):
            found, problems = read_documents(content_of(one), _file(one))
            notes += [f"left out: {problem}" for problem in problems]
            documents += found if not problems else []
    binding, left_out = bound(documents, mesh, now)
    return WrittenWorld(world=world_of(mesh, binding), notes=(*notes, *left_out))


def _read(reader: Callable[[Mapping[str, object]], T], found: Iterable[Json], notes: list[str]) -> list[T]:
    read = []
    for one in found:
        try:
            read.append(reader(one))
        except MalformedObjectError as error:
            notes.append(f"left out: {text(one, 'kind')} {text(one, 'metadata', 'name')}: {error}")
    return read


def trust_domain_of(pods: Iterable[Json]) -> str:
    """As a sidecar, or else the control plane, has it in its settings; empty where no pod tells."""
    flagged = ""
    for pod in pods:
        for container in (*objects(pod, "spec", "initContainers"), *objects(pod, "spec", "containers")):
            if text(container, "name") == SIDECAR_CONTAINER:
                for variable in objects(container, "env"):
                    found = _ID.match(text(variable, "value"))
                    if text(variable, "name") == "RINGFENCE_SIDECAR_SPIFFE_ID" and found is not None:
                        return found[1]
            for word in texts(container, "args"):
                if word.startswith(f"{_DOMAIN_FLAG}=") and "init" in texts(container, "args"):
                    flagged = word.partition("=")[2]
    return flagged


def _domain(name: str) -> TrustDomain:
    if not name:
        raise ClusterError("no pod tells the trust domain (give --trust-domain)")
    try:
        return TrustDomain(name)
    except (SpiffeIdError, ValueError) as error:
        raise ClusterError(f"trust domain {name[:80]!a}: {error}") from error


def _file(one: Json) -> str:
    return f"{text(one, 'kind')}/{text(one, 'metadata', 'namespace')}/{text(one, 'metadata', 'name')}"


def content_of(one: Json) -> str:
    """A document as a policy folder would have it: without what the API server adds."""
    metadata: dict[str, Any] = {name: text(one, "metadata", name) for name in ("name", "namespace")}
    document = {"apiVersion": f"{GROUP}/v1alpha1", "kind": text(one, "kind"), "metadata": metadata}
    return json.dumps({**document, "spec": at(one, "spec")})


def bound(documents: list[PolicyDocument], mesh: Mesh, now: float) -> tuple[Binding, list[str]]:
    """The policy of each service; documents that cannot be bound are left out, each by itself, as the control plane
    does it."""
    surroundings = Surroundings(
        services=_services(mesh),
        lenient=True,
        trust_domain=mesh.trust_domain,
        root_namespace=mesh.root_namespace,
        now=now,
    )
    notes: list[str] = []
    left = list(documents)
    while True:
        binding = bind(left, surroundings)
        wrong = {problem.file for problem in binding.errors}
        if not wrong:
            return binding, notes
        kept = [one for one in left if one.header.place.file not in wrong]
        if len(kept) == len(left):
            raise ClusterError(f"the documents cannot be bound: {binding.errors[0]}")
        notes += [f"left out: {_first(binding.errors, file)}" for file in sorted(wrong)]
        left = kept


def _first(problems: Iterable[Problem], file: str) -> Problem:
    return next(one for one in problems if one.file == file)


def _services(mesh: Mesh) -> dict[str, MeshService]:
    return {
        service.full_name: MeshService(
            ports={number: port.protocol for number, port in service.workload_ports().items()},
            permissive=frozenset(
                number for number, port in service.workload_ports().items() if port.mode is PortMode.PERMISSIVE
            ),
            spiffe_id=service.identities[0],
            labels=service.labels,
            other_ids=service.identities[1:],
        )
        for service in mesh.services
    }


def world_of(mesh: Mesh, binding: Binding) -> World:
    """The world that questions are asked of."""
    nothing = BoundPolicy()
    services = []
    for service in mesh.services:
        policy = binding.policies.get(service.full_name, nothing)
        services.append(
            WorldService(
                namespace=service.namespace,
                name=service.name,
                spiffe_id=service.identities[0],
                labels=service.labels,
                ports=tuple(
                    WorldPort(port=number, protocol=port.protocol, permissive=port.mode is PortMode.PERMISSIVE)
                    for number, port in sorted(service.workload_ports().items())
                ),
                policy=policy.policy,
                shadow=policy.shadow,
                token_issuers=policy.issuers,
            )
        )
    return World(
        trust_domain=mesh.trust_domain,
        services=tuple(sorted(services, key=lambda one: one.full_name)),
        root_namespace=mesh.root_namespace,
        places={(Effect(effect), name): place for (effect, name), place in binding.places.items()},
    )
