"""``mesh.yaml`` to a Mesh: every field read as its type, every problem told with its place. Pure.

Values are read here one by one, what holds between them is judged in ``checks``. Both always run, so that the author
sees all problems at once; a Mesh comes out only when there are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from controlplane.mesh.checks import check_drafts
from controlplane.mesh.direct import KEY as DIRECT
from controlplane.mesh.direct import read_direct_service
from controlplane.mesh.drafts import InstanceDraft, InterceptDraft, MeshDraft
from controlplane.mesh.fields import Fields
from controlplane.mesh.services import read_service
from controlplane.mesh.token_issuers import read_token_issuers
from ringfence.kit.collector_urls import CollectorUrlError, parse_collector_url
from ringfence.mesh import (
    ROOT_NAMESPACE,
    ControlPlaneAddresses,
    IdentityLifetimes,
    Instance,
    Mesh,
    Service,
    ServicePort,
    Tracing,
    UpstreamReference,
)
from ringfence.policy.problems import Problem
from ringfence.policy.yamlnodes import MappingReader, load_yaml
from ringfence.snapshot import Intercept
from ringfence.spiffe import TrustDomain

_T = TypeVar("_T")

API_VERSION: Final = "ringfence.io/v1alpha1"
SERVICE_LIMIT: Final = 5_000
WORKLOAD_LIMIT: Final = 5_000


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
    draft = _read_document(document, Fields(problems))
    check_drafts(draft)
    if problems:
        return None, sorted(problems)
    places = {
        field: (value.node.line, value.node.column)
        for field in ("trustDomain", "controlPlane", "identities", "policies", "tokenIssuers")
        if (value := draft.spec.value(field, None)) is not None
    }
    return MeshDocument(mesh=_mesh(draft), file=file, places=places), []


# ------------------------------------------------------------------------------------------------------------- reading


def _read_document(document: MappingReader, fields: Fields) -> MeshDraft:
    document.choice("apiVersion", [API_VERSION])
    document.choice("kind", ["Mesh"])
    metadata = document.mapping("metadata")
    name, _ = fields.label(metadata, "name")
    metadata.finish()
    spec = document.mapping("spec")
    trust_domain = spec.parsed("trustDomain", TrustDomain.parse, mend="write it like shop.example")
    policies = spec.text("policies", default="policies")
    control_plane_reader = spec.mapping("controlPlane", default=None)
    control_plane = _control_plane(fields, control_plane_reader)
    identities = _identities(fields, spec.mapping("identities", default=None))
    root_namespace, _ = fields.label(spec, "rootNamespace", default=ROOT_NAMESPACE)
    tracing = _tracing(spec.mapping("tracing", default=None))
    token_issuers = read_token_issuers(fields, spec)
    items = spec.sequence("services")
    if len(items) > SERVICE_LIMIT:
        spec.problem(f"{len(items)} services are more than {SERVICE_LIMIT}", "split the mesh", key="services")
    direct = spec.sequence(DIRECT, default=None)
    if len(direct) > SERVICE_LIMIT:
        spec.problem(f"{len(direct)} {DIRECT} are more than {SERVICE_LIMIT}", "split the mesh", key=DIRECT)
    draft = MeshDraft(
        spec=spec,
        control_plane_reader=control_plane_reader,
        name=name,
        trust_domain=trust_domain,
        policies=policies,
        control_plane=control_plane,
        identities=identities,
        tracing=tracing,
        root_namespace=root_namespace,
        token_issuers=token_issuers,
        services=tuple(read_service(fields, item.mapping(), trust_domain) for item in items[:SERVICE_LIMIT]),
        direct_services=tuple(
            read_direct_service(fields, item.mapping(), trust_domain) for item in direct[:SERVICE_LIMIT]
        ),
    )
    workloads = sum(len(service.instances) for service in draft.services)
    if workloads > WORKLOAD_LIMIT:
        message = f"{workloads} instances of services are more than {WORKLOAD_LIMIT}"
        spec.problem(message, "split the mesh", key="services")
    spec.finish()
    document.finish()
    return draft


def _control_plane(fields: Fields, reader: MappingReader) -> ControlPlaneAddresses:
    standard = ControlPlaneAddresses()
    addresses = ControlPlaneAddresses(
        join=fields.socket_address(reader, "join") or standard.join,
        listen=fields.socket_address(reader, "listen") or standard.listen,
        signals=fields.socket_address(reader, "signals") or standard.signals,
    )
    reader.finish()
    return addresses


def _tracing(reader: MappingReader) -> Tracing | None:
    """Where spans go; what the file of headers holds is for the sidecars to say."""
    if not reader.present:
        return None
    endpoint = reader.text("endpoint")
    try:
        if endpoint:
            parse_collector_url(endpoint)
    except CollectorUrlError as error:
        reader.problem(f"endpoint is {error.message}", error.mend, key="endpoint")
    value = reader.value("sample", None)
    sample = value.share() if value is not None else 0.01
    headers_file = reader.text("headersFile", default="")
    reader.finish()
    return Tracing(endpoint=endpoint, sample=sample, headers_file=headers_file)


def _identities(fields: Fields, reader: MappingReader) -> IdentityLifetimes:
    """The lifetimes; one that is left out follows those that are given: a ceiling of 10m means a lifetime of 10m."""
    standard = IdentityLifetimes()
    floor, ceiling, lifetime = (fields.seconds(reader, key) for key in ("floor", "ceiling", "lifetime"))
    reader.finish()
    least = min(standard.floor_seconds, lifetime or ceiling or standard.floor_seconds) if floor is None else floor
    most = max(standard.ceiling_seconds, lifetime or floor or 0) if ceiling is None else ceiling
    usual = min(max(standard.lifetime_seconds, least), most) if lifetime is None else lifetime
    if least > most:
        key = "floor" if "floor" in reader else "ceiling"
        message = f"floor of {least}s is above the ceiling of {most}s"
        reader.problem(message, "lower the floor or raise the ceiling", key=key)
    elif not least <= usual <= most:
        message = f"lifetime of {usual}s is not between the floor of {least}s and the ceiling of {most}s"
        reader.problem(message, "change one of them", key="lifetime")
    return IdentityLifetimes(lifetime_seconds=usual, floor_seconds=least, ceiling_seconds=most)


# ------------------------------------------------------------------------------------------------------------ building


def _mesh(draft: MeshDraft) -> Mesh:
    """The Mesh of a draft that was found without problems."""
    protocols = {(service.full_name, port.port): port.protocol for service in draft.services for port in service.ports}
    for direct in draft.direct_services:
        protocols |= {(direct.full_name, port.port): port.protocol for port in direct.ports}
    return Mesh(
        name=draft.name,
        trust_domain=_known(draft.trust_domain),
        policies=draft.policies,
        control_plane=draft.control_plane,
        identities=draft.identities,
        tracing=draft.tracing,
        root_namespace=draft.root_namespace,
        token_issuers=draft.token_issuers,
        services=tuple(
            Service(
                name=service.name,
                namespace=service.namespace,
                service_account=service.service_account,
                spiffe_id=_known(service.spiffe_id),
                access_log=service.access_log,
                workers=_known(service.workers),
                ports=tuple(
                    ServicePort(
                        port=_known(port.port),
                        protocol=_known(port.protocol),
                        mode=port.mode,
                        proxy_protocol=port.proxy_protocol,
                        forwarded_for=port.forwarded_for,
                    )
                    for port in service.ports
                ),
                upstreams=tuple(
                    UpstreamReference(
                        service=upstream.service,
                        port=_known(upstream.port),
                        protocol=_known(protocols[upstream.service, upstream.port]),
                    )
                    for upstream in service.upstreams
                ),
                instances=tuple(_instance(one, service.intercept is not None) for one in service.instances),
                virtual_addresses=service.virtual_addresses,
                intercept=_intercept(service.intercept),
                egress=service.egress,
                forward_proxy=service.forward_proxy,
                labels=service.labels,
            )
            for service in draft.services
        ),
        direct_services=tuple(service.built() for service in draft.direct_services),
    )


def _instance(draft: InstanceDraft, intercepted: bool) -> Instance:
    return Instance(
        name=draft.name,
        address=_known(draft.address),
        mesh_port=_known(draft.mesh_port),
        signals=draft.signals,
        apps=tuple(_known(app.address) for app in draft.apps),
        listens=tuple(one.address if intercepted else _known(one.address) for one in draft.listens),
        run=draft.run,
    )


def _intercept(draft: InterceptDraft | None) -> Intercept | None:
    if draft is None:
        return None
    return Intercept(inbound_port=_known(draft.inbound), outbound_port=_known(draft.outbound))


def _known(value: _T | None) -> _T:
    """``value``, which is None only where a problem was told."""
    if value is None:
        raise AssertionError("a draft without problems lacks a value")
    return value
