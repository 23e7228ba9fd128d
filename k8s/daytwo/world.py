"""The mesh and its policy as the API server has them written, for questions that need no control plane."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from k8s.client import resources as known
from k8s.client.resources import Resource
from k8s.controller.history import LABEL
from k8s.crds.definition import plural
from k8s.daytwo.cluster import Cluster, ClusterError
from k8s.daytwo.refused import RefusedDocument, closing, may_stand_in, newest_revisions, told_refusal
from k8s.objects.fields import MalformedObjectError
from k8s.objects.lenient import Json, at, objects, text, texts
from k8s.objects.names import GROUP, SIDECAR_CONTAINER
from k8s.objects.namespaces import read_namespace
from k8s.objects.places import at_fields
from k8s.objects.pods import read_pod
from k8s.objects.services import read_endpoint_slice, read_service
from k8s.translate.cluster import Cluster as Objects
from k8s.translate.meshing import MeshSettings, Translator
from ringfence.mesh import Mesh
from ringfence.policy.analysis.world import Effect, World, WorldPort, WorldService
from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.bound import Binding, BoundPolicy
from ringfence.policy.closing import close
from ringfence.policy.documents import KINDS, read_documents
from ringfence.policy.problems import Place, Problem, errors
from ringfence.policy.services import MeshService
from ringfence.policy.written import PolicyDocument
from ringfence.snapshot import PortMode
from ringfence.spiffe import SpiffeIdError, TrustDomain

T = TypeVar("T")
_ID: Final = re.compile(r"spiffe://([^/\s]{1,255})/")
_DOMAIN_FLAG: Final = "--trust-domain"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenWorld:
    """``refused``: documents that are not in force as they are written; ``notes``: what else is not in it, and why."""

    world: World
    refused: tuple[RefusedDocument, ...] = ()
    notes: tuple[str, ...] = ()


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
    written: list[Json] = []
    for kind in KINDS:
        resource = Resource(group=GROUP, version="v1alpha1", plural=plural(kind), kind=kind)
        written += await cluster.objects(resource)
    binding, refused = bound(written, {}, mesh, now)
    if refused:
        kept = await _kept(cluster, notes)
        binding, refused = bound(written, kept, mesh, now)
    return WrittenWorld(world=world_of(mesh, binding, refused), refused=tuple(refused), notes=tuple(notes))


async def _kept(cluster: Cluster, notes: list[str]) -> dict[str, tuple[int, object]]:
    try:
        return newest_revisions(await cluster.objects(known.CONTROLLER_REVISIONS, labels=LABEL))
    except ClusterError as error:
        notes.append(f"earlier versions of documents cannot be read, of which some may be in force: {error}")
        return {}


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


def content_of(one: Json, spec: object) -> str:
    """A document as a policy folder would have it: without what the API server adds."""
    metadata: dict[str, Any] = {name: text(one, "metadata", name) for name in ("name", "namespace")}
    document = {"apiVersion": f"{GROUP}/v1alpha1", "kind": text(one, "kind"), "metadata": metadata}
    return json.dumps({**document, "spec": spec})


def bound(
    written: Iterable[Json], kept: Mapping[str, tuple[int, object]], mesh: Mesh, now: float
) -> tuple[Binding, list[RefusedDocument]]:
    """The policy of each service, and the documents that are not in force as written: in their place stands the newest
    revision that is kept, where that holds, as the control plane does it. ``kept``: number and spec, by file."""
    surroundings = Surroundings(
        services=_services(mesh),
        lenient=True,
        trust_domain=mesh.trust_domain,
        root_namespace=mesh.root_namespace,
        now=now,
    )
    by_file = {_file(one): one for one in written}
    chosen: dict[str, PolicyDocument] = {}
    refused: dict[str, RefusedDocument] = {}
    for file, one in by_file.items():
        document, error = _parsed(one, at(one, "spec"))
        error = error or told_refusal(one)
        if document is not None and not error:
            chosen[file] = document
        else:
            _refuse(one, error, kept, chosen, refused)
    while True:
        binding = bind(list(chosen.values()), surroundings)
        wrong = {problem.file: problem for problem in reversed(binding.errors)}
        if not wrong:
            return binding, [refused[file] for file in sorted(refused)]
        if not wrong.keys() & chosen.keys():
            raise ClusterError(f"the documents cannot be bound: {binding.errors[0]}")
        for file in sorted(wrong.keys() & chosen.keys()):
            del chosen[file]
            _refuse(by_file[file], _told(by_file[file], wrong[file]), kept, chosen, refused)


def _refuse(
    one: Json,
    error: str,
    kept: Mapping[str, tuple[int, object]],
    chosen: dict[str, PolicyDocument],
    refused: dict[str, RefusedDocument],
) -> None:
    """Have the kept version stand in, once; the first error is the one of what is written."""
    file = _file(one)
    before = refused.get(file)
    number, spec = kept.get(file, (0, None)) if before is None and may_stand_in(one) else (0, None)
    document = _parsed(one, spec)[0] if number else None
    if document is not None:
        chosen[file] = document
    refused[file] = RefusedDocument(
        kind=text(one, "kind"),
        namespace=text(one, "metadata", "namespace"),
        name=text(one, "metadata", "name"),
        error=before.error if before is not None else error,
        revision=number if document is not None else 0,
    )


def _parsed(one: Json, spec: object) -> tuple[PolicyDocument | None, str]:
    """The document with that spec, and the first error in it."""
    found, problems = read_documents(content_of(one, spec), _file(one))
    wrong = errors(problems)
    return (None, _told(one, wrong[0])) if wrong or len(found) != 1 else (found[0], "")


def _told(one: Json, problem: Problem) -> str:
    return at_fields(content_of(one, at(one, "spec")).encode("utf-8", "replace"), [problem])[0]


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
            apart=service.apart,
        )
        for service in mesh.services
    }


def world_of(mesh: Mesh, binding: Binding, refused: Sequence[RefusedDocument] = ()) -> World:
    """The world that questions are asked of; what stands in for a denylist that is refused closes services of it."""
    nothing = BoundPolicy()
    policies = dict(binding.policies)
    for service in mesh.services:
        lost = closing(refused, service.full_name, mesh.root_namespace)
        policies |= close(policies, [service.full_name], lost) if lost else {}
    services = []
    for service in mesh.services:
        policy = policies.get(service.full_name, nothing)
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
                partly=policy.partly,
            )
        )
    return World(
        trust_domain=mesh.trust_domain,
        services=tuple(sorted(services, key=lambda one: one.full_name)),
        root_namespace=mesh.root_namespace,
        places={(Effect(effect), name): place for (effect, name), place in binding.places.items()}
        | {(Effect.DENY, one.rule): Place(one.file, 1, 1) for one in refused if one.closes},
    )
