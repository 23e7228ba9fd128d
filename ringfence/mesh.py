"""The mesh as values: its services, their instances, who they are and what they call. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ringfence.kit.addresses import SocketAddress
from ringfence.policy.labels import Labels
from ringfence.snapshot import EgressRule, ForwardedFor, Intercept, PortMode, Protocol
from ringfence.spiffe import RESERVED_NAMESPACE, SpiffeId, TrustDomain

# No service can be in it, so whoever may write documents there owns none of those that they speak of.
ROOT_NAMESPACE: Final = RESERVED_NAMESPACE


class AccessLogMode(StrEnum):
    """Which requests a sidecar logs one by one; denials and errors always are."""

    DENIED = "denied"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLog:
    """``sample``: the share of all requests that is logged, where the mode asks for all."""

    mode: AccessLogMode = AccessLogMode.DENIED
    sample: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """Where sidecars send spans, and for what share of the requests without a trace one begins. ``headers_file`` is
    relative to the mesh file; "" for none."""

    endpoint: str
    sample: float = 0.01
    headers_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A port of a service as callers and policies name it."""

    port: int
    protocol: Protocol
    mode: PortMode = PortMode.STRICT
    proxy_protocol: bool = False
    forwarded_for: ForwardedFor = ForwardedFor.REPLACE


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamReference:
    """A port of another service (``service``: its full name) that a service calls."""

    service: str
    port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What ``ringfence up`` starts beside the sidecar; ``directory`` is relative to the mesh file's.

    ``place``: line and column of ``run`` in the mesh file, as only whoever starts it finds out that it cannot be.
    """

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    directory: str = ""
    place: tuple[int, int] = field(default=(1, 1), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One workload of a service: a sidecar, and the app behind it. ``name`` is empty for the only one of a service that
    lists none.

    ``apps``: where the app of each port listens, in the order of the service's ports. ``listens``: the local address
    for each upstream, in the order of the service's; None where the app dials the service itself and is intercepted.
    """

    name: str
    address: str
    mesh_port: int
    signals: SocketAddress | None
    apps: tuple[SocketAddress, ...]
    listens: tuple[SocketAddress | None, ...]
    run: Run | None

    @property
    def mesh(self) -> SocketAddress:
        """Where its sidecar takes calls from the mesh."""
        return SocketAddress(self.address, self.mesh_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of the mesh; all of its instances bear its identity, and no two services share one.

    ``workers``: the processes that share the traffic of each sidecar.
    ``virtual_addresses``: at which its callers may dial it, beside its instances', when their calls are intercepted.
    ``labels``: by which documents choose it, sorted.
    """

    name: str
    namespace: str
    service_account: str
    spiffe_id: SpiffeId
    access_log: AccessLog
    ports: tuple[ServicePort, ...]
    upstreams: tuple[UpstreamReference, ...]
    instances: tuple[Instance, ...]
    workers: int = 1
    virtual_addresses: tuple[str, ...] = ()
    intercept: Intercept | None = None
    egress: tuple[EgressRule, ...] = ()
    forward_proxy: SocketAddress | None = None
    labels: Labels = ()

    @property
    def full_name(self) -> str:
        """``<namespace>/<name>``, unique in the mesh."""
        return f"{self.namespace}/{self.name}"

    def name_of(self, instance: Instance) -> str:
        """An instance of this service as people are told of it."""
        return workload_name(self.full_name, instance.name)


def workload_name(service: str, instance: str) -> str:
    """What people are told a workload is: the full name of its service, and the instance's behind it if it has one."""
    return f"{service}/{instance}" if instance else service


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectPort:
    """A port at which a direct service takes mutual TLS, and what is spoken inside."""

    port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectService:
    """A service that has no sidecar: at each of ``addresses`` it shows ``spiffe_id`` itself, and judges its callers."""

    name: str
    namespace: str
    spiffe_id: SpiffeId
    addresses: tuple[str, ...]
    ports: tuple[DirectPort, ...]
    virtual_addresses: tuple[str, ...] = ()
    labels: Labels = ()

    @property
    def full_name(self) -> str:
        """``<namespace>/<name>``, unique in the mesh."""
        return f"{self.namespace}/{self.name}"


_JOIN: Final = SocketAddress("127.0.0.1", 7401)
_LISTEN: Final = SocketAddress("127.0.0.1", 7402)
_SIGNALS: Final = SocketAddress("127.0.0.1", 7400)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneAddresses:
    """Where the control plane listens: joining (server TLS), everything else (mutual TLS), signals (plain HTTP)."""

    join: SocketAddress = _JOIN
    listen: SocketAddress = _LISTEN
    signals: SocketAddress = _SIGNALS


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityLifetimes:
    """How long SVIDs live, in seconds: what a workload gets unasked, and the bounds of what it may ask for."""

    lifetime_seconds: int = 3600
    floor_seconds: int = 300
    ceiling_seconds: int = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuerRules:
    """``hosts``: patterns of those that may be asked. ``private_networks``: canonical; addresses outside the public
    internet that they may have. ``ca_file``: by whom their certificates must be signed; empty: by the system's
    authorities. ``plain_http``: without TLS from this machine itself, for trials. ``refresh_seconds``: how often.
    ``secret_folders``: where documents may have secrets, beside the folders that they lie in themselves."""

    hosts: tuple[str, ...] = ()
    private_networks: tuple[str, ...] = ()
    ca_file: str = ""
    secret_folders: tuple[str, ...] = ()
    plain_http: bool = False
    refresh_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The whole of ``mesh.yaml``; ``policies`` is the folder as written, relative to the file.

    ``root_namespace``: whose documents may speak of services of every namespace.
    """

    name: str
    trust_domain: TrustDomain
    policies: str
    control_plane: ControlPlaneAddresses
    identities: IdentityLifetimes
    services: tuple[Service, ...]
    direct_services: tuple[DirectService, ...] = ()
    tracing: Tracing | None = None
    root_namespace: str = ROOT_NAMESPACE
    token_issuers: TokenIssuerRules = TokenIssuerRules()

    @property
    def workloads(self) -> Iterator[tuple[Service, Instance]]:
        """Every instance, with its service, in the order of the file."""
        for service in self.services:
            for instance in service.instances:
                yield service, instance

    def service(self, full_name: str) -> Service | None:
        """The service of that full name."""
        return next((service for service in self.services if service.full_name == full_name), None)
