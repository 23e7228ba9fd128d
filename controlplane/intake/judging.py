"""Judges the files as a whole: all problems of all of them at once, or a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from controlplane.intake.configuration import Configuration
from controlplane.intake.sources import PolicyFolder, SourceFiles
from controlplane.mesh.document import MeshDocument, read_mesh
from controlplane.tokens.needs import needs_of
from ringfence.kit.clock import Clock, SystemClock
from ringfence.kit.watch import FileContent
from ringfence.mesh import Mesh, Service
from ringfence.policy import documents as policies
from ringfence.policy.analysis.world import Effect
from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.envelope import KindReader, read_kinds
from ringfence.policy.problems import Problem, errors
from ringfence.policy.services import MeshService
from ringfence.policy.written import PolicyDocument
from ringfence.policy.yamltree import MappingNode, ScalarNode, load_yaml
from ringfence.routing import documents as routes
from ringfence.routing.bind import bind_routes
from ringfence.routing.documents import RouteDocument, read_route
from ringfence.snapshot import PortMode

Document = PolicyDocument | RouteDocument

_STANDARD_FOLDER: str = "policies"
DOCUMENT_KINDS: Mapping[str, KindReader[Document]] = {**policies.KINDS, routes.KIND: read_route}


def policy_folder_named(source: bytes) -> str | None:
    """Which folder a mesh file names, however broken the rest of it is; None if it is no YAML at all."""
    problems: list[Problem] = []
    nodes = load_yaml(source, "", problems)
    if problems or not nodes:
        return None
    named: object = nodes[0]
    for key in ("spec", "policies"):
        if not isinstance(named, MappingNode):
            return None
        named = next((value for name, value in named.entries if name.text == key), None)
        if named is None and key == "policies":
            return _STANDARD_FOLDER
    return named.text if isinstance(named, ScalarNode) and named.text else None


def services_of(mesh: Mesh) -> dict[str, MeshService]:
    """The services of a mesh as documents are bound to them."""
    return {
        service.full_name: MeshService(
            ports={number: port.protocol for number, port in service.workload_ports().items()},
            permissive=frozenset(
                number for number, port in service.workload_ports().items() if port.mode is PortMode.PERMISSIVE
            ),
            spiffe_id=service.identities[0],
            labels=service.labels,
            other_ids=service.identities[1:],
            leads=_leads(service),
            apart=service.apart,
        )
        for service in mesh.services
    } | {
        direct.full_name: MeshService(
            ports={port.port: port.protocol for port in direct.ports},
            has_sidecar=False,
            spiffe_id=direct.spiffe_id,
            labels=direct.labels,
        )
        for direct in mesh.direct_services
    }


def _leads(service: Service) -> dict[int, tuple[int, ...]]:
    """The ports of a service behind which its workloads have others."""
    found: dict[int, set[int]] = {}
    for targets in {service.targets_of(one) for one in service.instances} or {service.standard_targets}:
        for port, target in zip(service.ports, targets, strict=True):
            if target not in (0, port.port):
                found.setdefault(port.port, set()).add(target)
    return {port: tuple(sorted(targets)) for port, targets in found.items()}


class Judge:
    """Turns files into a configuration; remembers what it read of files that stay the same.

    ``here``: whether it is to be put in force here. Who only asks about it need not have the control plane's secrets.
    """

    def __init__(self, clock: Clock | None = None, *, here: bool = True) -> None:
        self._clock = clock or SystemClock()
        self._here = here
        self._read_mesh: tuple[FileContent, MeshDocument | None, list[Problem]] | None = None
        self._read: dict[Path, tuple[FileContent, list[Document], list[Problem]]] = {}

    def judge(self, files: SourceFiles) -> tuple[Configuration | None, list[Problem]]:
        """The configuration with what it should be warned of, or None and every problem, in the order of files and
        places. Blocking work."""
        if self._read_mesh is None or self._read_mesh[0] != files.mesh:
            self._read_mesh = (files.mesh, *_mesh(files.mesh))
        _, document, problems = self._read_mesh
        documents: list[Document] = []
        if files.policies is not None:
            documents, found = self._policies(files.policies, document)
            problems = [*problems, *found]
        if document is None:
            return None, problems
        services = services_of(document.mesh)
        written = [one for one in documents if not isinstance(one, RouteDocument)]
        surroundings = Surroundings(
            services=services,
            trust_domain=document.mesh.trust_domain,
            root_namespace=document.mesh.root_namespace,
            now=self._clock.now(),
        )
        binding = bind(written, surroundings)
        leading, misled = bind_routes([one for one in documents if isinstance(one, RouteDocument)], services)
        needs, lacking = needs_of(written, document, here=self._here)
        problems = sorted([*problems, *binding.problems, *misled, *lacking])
        if errors(problems):
            return None, problems
        configuration = Configuration(
            document=document,
            policies=binding.policies,
            routes=leading,
            places={(Effect(effect), name): place for (effect, name), place in binding.places.items()},
            documents=tuple(written),
            warnings=tuple(problems),
            issuer_needs=needs,
        )
        return configuration, problems

    def _policies(self, folder: PolicyFolder, document: MeshDocument | None) -> tuple[list[Document], list[Problem]]:
        if folder.error:
            message, mend = f"policy folder {folder.path} cannot be read: {folder.error}", "make it, or name another"
            # Only a mesh file that was read can say where it names the folder.
            told = document.problem("policies", message, mend) if document else Problem(str(folder.path), 1, 1, message)
            return [], [told]
        documents: list[Document] = []
        problems: list[Problem] = []
        held, self._read = self._read, {}
        for file in folder.files:
            entry = held.get(file.path)
            if entry is None or entry[0] != file:
                entry = (file, *read_policy_file(file))
            self._read[file.path] = entry
            documents.extend(entry[1])
            problems.extend(entry[2])
        return documents, problems


def _mesh(file: FileContent) -> tuple[MeshDocument | None, list[Problem]]:
    name = str(file.path)
    if file.error:
        return None, [Problem(name, 1, 1, f"cannot be read: {file.error}", "give the mesh file by --mesh")]
    return read_mesh(file.content, name)


def read_policy_file(file: FileContent) -> tuple[list[Document], list[Problem]]:
    """The documents of one file, and all that is wrong with each by itself."""
    name = str(file.path)
    if file.error:
        return [], [Problem(name, 1, 1, f"cannot be read: {file.error}", "make it readable, or move it away")]
    return read_kinds(file.content, name, DOCUMENT_KINDS)
