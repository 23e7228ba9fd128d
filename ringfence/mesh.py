"""The mesh as values: its services, their instances, who they are and what they call. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from ringfence.kit.addresses import SocketAddress
from ringfence.policy.labels import Labels
from ringfence.policy.services import Apart
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
    """A port of a service as callers name it. ``target``: the port of its workloads that it leads to, by which CONNECT
    and policies name it, where an instance says no other; 0: the same."""

    port: int
    protocol: Protocol
    target: int = 0
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
    ``targets``: the port of this very workload behind each of the service's, in their order, 0 where it has none;
    empty: as the service's ports say. ``spiffe_id``: its identity where that is not the service's. ``ready``: whether
    the platform finds its app fit for calls; one that is not is chosen only where no other can be. ``also``: further
    addresses of the workload, of its other version of IP: calls to them reach it, but it is not chosen by them.
    ``labels``: those of this very workload that its service does not have, sorted.
    """

    name: str
    address: str
    mesh_port: int
    signals: SocketAddress | None
    apps: tuple[SocketAddress, ...]
    listens: tuple[SocketAddress | None, ...]
    run: Run | None
    targets: tuple[int, ...] = ()
    spiffe_id: SpiffeId | None = None
    ready: bool = True
    also: tuple[str, ...] = ()
    labels: Labels = ()

    @property
    def mesh(self) -> SocketAddress:
        """Where its sidecar takes calls from the mesh."""
        return SocketAddress(self.address, self.mesh_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of the mesh. Its instances bear its identity, unless they say another; on a platform services may
    share one, and even share instances, which are then one workload.

    ``workers``: the processes that share the traffic of each sidecar.
    ``virtual_addresses``: at which its callers may dial it, beside its instances', when their calls are intercepted.
    ``labels``: by which documents choose it, sorted: those that all of its workloads have.
    ``pinned``: a call to an instance's own address is one to that very instance, and not to the service.
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
    pinned: bool = False

    @property
    def full_name(self) -> str:
        """``<namespace>/<name>``, unique in the mesh."""
        return f"{self.namespace}/{self.name}"

    @property
    def identities(self) -> tuple[SpiffeId, ...]:
        """Those of its instances, in order, each once; its own where it has none."""
        borne = {one.spiffe_id or self.spiffe_id for one in self.instances}
        return tuple(sorted(borne, key=str)) if borne else (self.spiffe_id,)

    def identity_of(self, instance: Instance) -> SpiffeId:
        """The identity of one of its instances."""
        return instance.spiffe_id or self.spiffe_id

    @property
    def apart(self) -> tuple[Apart, ...]:
        """Its workloads that have more labels than it."""
        found: dict[Labels, set[SpiffeId]] = {}
        for one in self.instances:
            if one.labels:
                found.setdefault(one.labels, set()).add(self.identity_of(one))
        return tuple(Apart(labels=labels, identities=tuple(sorted(found[labels], key=str))) for labels in sorted(found))

    def targets_of(self, instance: Instance) -> tuple[int, ...]:
        """The workload's port behind each of the service's, in their order; 0: none."""
        return instance.targets or self.standard_targets

    def workload_ports(self) -> dict[int, ServicePort]:
        """What its workloads listen on, by the number that policies say; where two of its ports lead to one and differ,
        as the stricter of both has it."""
        found: dict[int, ServicePort] = {}
        for targets in {self.targets_of(one): None for one in self.instances} or {self.standard_targets: None}:
            for port, target in zip(self.ports, targets, strict=True):
                if target:
                    held = found.get(target)
                    found[target] = port if held is None else both_ports(held, port)
        return found

    @property
    def standard_targets(self) -> tuple[int, ...]:
        """The port behind each of its ports where an instance says no other."""
        return tuple(port.target or port.port for port in self.ports)

    def name_of(self, instance: Instance) -> str:
        """An instance of this service as people are told of it."""
        return workload_name(self.full_name, instance.name)


def both_ports(one: ServicePort, other: ServicePort) -> ServicePort:
    """A port of a workload of which two others speak. Where they disagree on what is spoken it is found out, so that no
    rule about requests is gone round by what calls the port opaque."""
    return replace(
        one,
        protocol=one.protocol if one.protocol is other.protocol else Protocol.AUTO,
        mode=one.mode if one.mode is other.mode else PortMode.STRICT,
        proxy_protocol=one.proxy_protocol and other.proxy_protocol,
        forwarded_for=one.forwarded_for if one.forwarded_for is other.forwarded_for else ForwardedFor.REPLACE,
    )


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
