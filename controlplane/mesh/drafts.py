"""What was read of ``mesh.yaml`` before it is judged as a whole: values that may be missing, and their places. Pure.

A None stands where a problem was already told, so that ``checks`` tells nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.mesh.direct import DirectServiceDraft
from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import (
    AccessLog,
    ControlPlaneAddresses,
    IdentityLifetimes,
    Run,
    TokenIssuerRules,
    Tracing,
    workload_name,
)
from ringfence.policy.labels import Labels
from ringfence.policy.yamlnodes import MappingReader
from ringfence.snapshot import EgressRule, ForwardedFor, PortMode, Protocol
from ringfence.spiffe import SpiffeId, TrustDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class PortDraft:
    """A service port as read."""

    reader: MappingReader
    port: int | None
    protocol: Protocol | None
    app: SocketAddress | None
    mode: PortMode
    proxy_protocol: bool
    forwarded_for: ForwardedFor


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamDraft:
    """An upstream as read; ``service`` is a full name, empty if it was missing; ``listen`` may be left out."""

    reader: MappingReader
    service: str
    port: int | None
    listen: SocketAddress | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterceptDraft:
    """The interception ports as read."""

    reader: MappingReader
    inbound: int | None
    outbound: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressDraft:
    """A socket address as read, and where: at ``key`` of ``reader``."""

    reader: MappingReader
    key: str
    address: SocketAddress | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceDraft:
    """An instance as read, with what it has of its service; the service itself where that lists none.

    ``apps`` and ``listens``: one for each port and each upstream of the service, in their order.
    """

    reader: MappingReader
    name: str
    address: str | None
    mesh_port: int | None
    signals: SocketAddress | None
    apps: tuple[AddressDraft, ...]
    listens: tuple[AddressDraft, ...]
    run: Run | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDraft:
    """A service as read."""

    reader: MappingReader
    name: str
    namespace: str
    service_account: str
    spiffe_id: SpiffeId | None
    virtual_addresses: tuple[str, ...]
    access_log: AccessLog
    workers: int | None
    ports: tuple[PortDraft, ...]
    upstreams: tuple[UpstreamDraft, ...]
    intercept: InterceptDraft | None
    egress: tuple[EgressRule, ...]
    forward_proxy: SocketAddress | None
    labels: Labels
    instances: tuple[InstanceDraft, ...]

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"

    def name_of(self, instance: InstanceDraft) -> str:
        """As people are told of it."""
        return workload_name(self.full_name, instance.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshDraft:
    """The mesh as read; the readers place problems that belong to no service."""

    spec: MappingReader
    control_plane_reader: MappingReader
    name: str
    trust_domain: TrustDomain | None
    policies: str
    control_plane: ControlPlaneAddresses
    identities: IdentityLifetimes
    services: tuple[ServiceDraft, ...]
    direct_services: tuple[DirectServiceDraft, ...]
    tracing: Tracing | None
    root_namespace: str
    token_issuers: TokenIssuerRules
