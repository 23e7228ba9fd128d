"""``mesh.yaml`` to a Mesh: every field read as its type, every problem told with its place. Pure.

Values are read here one by one, what holds between them is judged in ``checks``. Both always run, so that the author
sees all problems at once; a Mesh comes out only when there are none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from controlplane.mesh.checks import check_drafts
from controlplane.mesh.drafts import MeshDraft, PortDraft, ServiceDraft, UpstreamDraft
from controlplane.mesh.model import (
    AccessLog,
    ControlPlaneAddresses,
    IdentityLifetimes,
    Mesh,
    Run,
    Service,
    ServicePort,
    UpstreamReference,
)
from ringfence.kit.addresses import PORT_MAXIMUM, AddressError, SocketAddress, parse_ip
from ringfence.policy.problems import Problem, shown
from ringfence.policy.yamlnodes import MappingReader, load_yaml
from ringfence.snapshot import Protocol
from ringfence.spiffe import RESERVED_NAMESPACE, SpiffeId, SpiffeIdError, TrustDomain
from ringfence.wire.convert import PORT_LIMIT, UPSTREAM_LIMIT

_T = TypeVar("_T")

API_VERSION: Final = "ringfence.io/v1alpha1"
SERVICE_LIMIT: Final = 5_000
SHORTEST_LIFETIME_SECONDS: Final = 2
LONGEST_LIFETIME_SECONDS: Final = 30 * 86400
_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_LABEL_MEND: Final = "use up to 63 lower-case letters, digits and hyphens, and no hyphen first or last"
_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshDocument:
    """A Mesh that was read without problems; ``places`` are the (line, column) of ``trustDomain`` and its company."""

    mesh: Mesh
    file: str
    places: Mapping[str, tuple[int, int]]

    def problem(self, field: str, message: str, mend: str) -> Problem:
        """A problem at a field of ``spec``; where the file leaves the field out, at its first line."""
        line, column = self.places.get(field, (1, 1))
        return Problem(self.file, line, column, message, mend)


def read_mesh(source: bytes | str, file: str) -> tuple[MeshDocument | None, list[Problem]]:
    """The mesh that ``source`` describes, or None and all problems in the order of their places."""
    problems: list[Problem] = []
    nodes = load_yaml(source, file, problems)
    if len(nodes) != 1:
        if not problems:
            line, column = (nodes[1].line, nodes[1].column) if nodes else (1, 1)
            found = f"{len(nodes)} documents" if nodes else "no document"
            problems.append(Problem(file, line, column, f"{found} in the mesh file", "keep exactly one, of kind Mesh"))
        return None, sorted(problems)
    document = MappingReader(nodes[0], file, problems)
    draft = _read_document(document)
    check_drafts(draft)
    if problems:
        return None, sorted(problems)
    places = {
        field: (value.node.line, value.node.column)
        for field in ("trustDomain", "controlPlane", "identities", "policies")
        if (value := draft.spec.value(field, None)) is not None
    }
    return MeshDocument(mesh=_mesh(draft), file=file, places=places), []


# ------------------------------------------------------------------------------------------------------------- reading


def _read_document(document: MappingReader) -> MeshDraft:
    document.choice("apiVersion", [API_VERSION])
    document.choice("kind", ["Mesh"])
    metadata = document.mapping("metadata")
    name = _label(metadata, "name", metadata.text("name"))
    metadata.finish()
    spec = document.mapping("spec")
    trust_domain = spec.parsed("trustDomain", TrustDomain.parse)
    policies = spec.text("policies", default="policies")
    control_plane_reader = spec.mapping("controlPlane", default=None)
    control_plane = _control_plane(control_plane_reader)
    identities = _identities(spec.mapping("identities", default=None))
    readers = spec.mappings("services")
    if len(readers) > SERVICE_LIMIT:
        spec.problem(f"{len(readers)} services are more than {SERVICE_LIMIT}", "split the mesh", key="services")
    draft = MeshDraft(
        spec=spec,
        control_plane_reader=control_plane_reader,
        name=name,
        trust_domain=trust_domain,
        policies=policies,
        control_plane=control_plane,
        identities=identities,
        services=tuple(_service(reader, trust_domain) for reader in readers[:SERVICE_LIMIT]),
    )
    spec.finish()
    document.finish()
    return draft


def _control_plane(reader: MappingReader) -> ControlPlaneAddresses:
    standard = ControlPlaneAddresses()
    addresses = ControlPlaneAddresses(
        join=_socket_address(reader, "join") or standard.join,
        listen=_socket_address(reader, "listen") or standard.listen,
        signals=_socket_address(reader, "signals") or standard.signals,
    )
    reader.finish()
    return addresses


def _identities(reader: MappingReader) -> IdentityLifetimes:
    standard = IdentityLifetimes()
    low, high = float(SHORTEST_LIFETIME_SECONDS), float(LONGEST_LIFETIME_SECONDS)
    # A setting left out follows the one that is given: a ceiling of ten minutes means a lifetime of ten minutes.
    floor = reader.duration("floor", low=low, high=high, default=None)
    ceiling = reader.duration("ceiling", low=low, high=high, default=None)
    lifetime = reader.duration("lifetime", low=low, high=high, default=None)
    reader.finish()
    for key, value in (("floor", floor), ("ceiling", ceiling), ("lifetime", lifetime)):
        if value is not None and value != int(value):
            reader.problem(f"{key} {value:g}s is no whole number of seconds", "leave out the milliseconds", key=key)
    floor_seconds = int(floor) if floor is not None else min(standard.floor_seconds, int(lifetime or ceiling or 300))
    ceiling_seconds = int(ceiling) if ceiling is not None else max(standard.ceiling_seconds, int(lifetime or 0))
    wanted = min(max(standard.lifetime_seconds, floor_seconds), ceiling_seconds)
    lifetime_seconds = int(lifetime) if lifetime is not None else wanted
    if floor_seconds > ceiling_seconds:
        key = "floor" if "floor" in reader else "ceiling"
        message = f"floor of {floor_seconds}s is above the ceiling of {ceiling_seconds}s"
        reader.problem(message, "lower the floor or raise the ceiling", key=key)
    elif not floor_seconds <= lifetime_seconds <= ceiling_seconds:
        message = f"lifetime of {lifetime_seconds}s is not between {floor_seconds}s and {ceiling_seconds}s"
        reader.problem(message, "change the lifetime, the floor or the ceiling", key="lifetime")
    return IdentityLifetimes(
        lifetime_seconds=lifetime_seconds, floor_seconds=floor_seconds, ceiling_seconds=ceiling_seconds
    )


def _service(reader: MappingReader, trust_domain: TrustDomain | None) -> ServiceDraft:
    name = _label(reader, "name", reader.text("name"))
    namespace = _label(reader, "namespace", reader.text("namespace", default="default"))
    account = _label(reader, "serviceAccount", reader.text("serviceAccount", default=name))
    if namespace == RESERVED_NAMESPACE:
        message = f"namespace {RESERVED_NAMESPACE} is reserved for the mesh itself"
        reader.problem(message, "choose another namespace", key="namespace")
    address_value = reader.value("address", None)
    address: str | None = _LOOPBACK
    if address_value is not None:
        address = address_value.parsed(parse_ip)
    draft = ServiceDraft(
        reader=reader,
        name=name,
        namespace=namespace,
        service_account=account,
        spiffe_id=_spiffe_id(reader, trust_domain, namespace, account),
        address=address,
        mesh_port=reader.integer("mesh", 1, PORT_MAXIMUM),
        signals=_socket_address(reader, "signals"),
        access_log=AccessLog(reader.choice("accessLog", AccessLog, default=AccessLog.DENIED)),
        ports=tuple(_port(item) for item in _bounded(reader, "ports", PORT_LIMIT)),
        upstreams=tuple(_upstream(item, namespace) for item in _bounded(reader, "upstreams", UPSTREAM_LIMIT)),
        run=_run(reader.mapping("run", default=None)),
    )
    reader.finish()
    return draft


def _bounded(reader: MappingReader, key: str, limit: int) -> list[MappingReader]:
    """The mappings at ``key``; more than ``limit`` are a problem, and none but the first are read."""
    found = reader.mappings(key, default=None)
    if len(found) > limit:
        reader.problem(f"{len(found)} {key} are more than {limit}", "split the service", key=key)
    return found[:limit]


def _spiffe_id(
    reader: MappingReader, trust_domain: TrustDomain | None, namespace: str, account: str
) -> SpiffeId | None:
    if trust_domain is None or not namespace or not account:
        return None
    try:
        return SpiffeId.workload(trust_domain, namespace, account)
    except SpiffeIdError as error:
        reader.problem(f"the service has no valid SPIFFE ID: {error}", "shorten its names", key="serviceAccount")
        return None


def _port(reader: MappingReader) -> PortDraft:
    draft = PortDraft(
        reader=reader,
        port=reader.integer("port", 1, PORT_MAXIMUM),
        protocol=Protocol(reader.choice("protocol", Protocol)),
        app=_socket_address(reader, "app", required=True, default_host=_LOOPBACK),
    )
    reader.finish()
    return draft


def _upstream(reader: MappingReader, namespace: str) -> UpstreamDraft:
    service = reader.text("service")
    draft = UpstreamDraft(
        reader=reader,
        service=service if "/" in service or not service else f"{namespace}/{service}",
        port=reader.integer("port", 1, PORT_MAXIMUM),
        listen=_socket_address(reader, "listen", required=True, default_host=_LOOPBACK),
    )
    reader.finish()
    return draft


def _run(reader: MappingReader) -> Run | None:
    if not reader.present:
        return None
    command = reader.texts("command")
    if "command" in reader and not command:
        reader.problem("command is empty", 'write the program and its arguments, such as ["python", "app.py"]')
    environment = reader.text_mapping("env", default=None)
    for name in environment:
        if not name or "=" in name or "\0" in name:
            reader.problem(f"environment variable {shown(name)} has no valid name", "remove the =", key="env")
    directory = reader.text("directory", default="")
    reader.finish()
    return Run(command=command, environment=tuple(sorted(environment.items())), directory=directory)


def _label(reader: MappingReader, key: str, text: str) -> str:
    if text and key in reader and not _LABEL.fullmatch(text):
        reader.problem(f"{key} {shown(text)} is not a valid name", _LABEL_MEND, key=key)
    return text


def _socket_address(
    reader: MappingReader, key: str, *, required: bool = False, default_host: str | None = None
) -> SocketAddress | None:
    """An address whose host is an IP literal: names would make the mesh depend on a resolver."""
    if required:
        found = reader.address(key, default_host=default_host)
    else:
        optional = reader.address(key, default_host=default_host, default=None)
        if optional is None:
            return None
        found = optional
    if not found.host:
        return None
    try:
        return SocketAddress(parse_ip(found.host), found.port)
    except AddressError:
        reader.problem(f"{key} {shown(found.host)} is not an IP address", f"write one such as {_LOOPBACK}", key=key)
        return None


# ------------------------------------------------------------------------------------------------------------ building


def _mesh(draft: MeshDraft) -> Mesh:
    """The Mesh of a draft that was found without problems."""
    protocols = {(service.full_name, port.port): port.protocol for service in draft.services for port in service.ports}
    return Mesh(
        name=draft.name,
        trust_domain=_known(draft.trust_domain),
        policies=draft.policies,
        control_plane=draft.control_plane,
        identities=draft.identities,
        services=tuple(
            Service(
                name=service.name,
                namespace=service.namespace,
                service_account=service.service_account,
                spiffe_id=_known(service.spiffe_id),
                address=_known(service.address),
                mesh_port=service.mesh_port,
                signals=service.signals,
                access_log=service.access_log,
                ports=tuple(
                    ServicePort(port=port.port, protocol=port.protocol, app=_known(port.app)) for port in service.ports
                ),
                upstreams=tuple(
                    UpstreamReference(
                        service=upstream.service,
                        port=upstream.port,
                        protocol=protocols[upstream.service, upstream.port],
                        listen=_known(upstream.listen),
                    )
                    for upstream in service.upstreams
                ),
                run=service.run,
            )
            for service in draft.services
        ),
    )


def _known(value: _T | None) -> _T:
    """``value``, which is None only where a problem was told."""
    if value is None:
        raise AssertionError("a draft without problems lacks a value")
    return value
