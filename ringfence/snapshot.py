"""What one sidecar is told: its own workload, whom it may reach, who may reach it, whom to trust.

Made by the control plane, sent by ``ringfence.wire``, enforced by the sidecar. Pure values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ringfence.policy.model import Allowlist, Denylist, EgressRule, PolicySet, TokenIssuer
from ringfence.routing.model import RateLimit, Route
from ringfence.spiffe import SpiffeId, TrustBundle

__all__ = [
    "EgressRule",
    "Endpoint",
    "ForwardProxy",
    "ForwardedFor",
    "Intercept",
    "Port",
    "PortMode",
    "Protocol",
    "Snapshot",
    "Transport",
    "Upstream",
    "Workload",
]


class Protocol(StrEnum):
    """How a port's bytes are read."""

    HTTP = "http"  # HTTP/1.x, judged request by request
    HTTP2 = "http2"  # HTTP/2 with prior knowledge, judged request by request
    GRPC = "grpc"  # HTTP/2 with prior knowledge whose requests are gRPC calls, judged call by call
    TCP = "tcp"  # opaque, judged once a connection
    AUTO = "auto"  # found out for each connection, which is then judged as on a port of what it speaks

    @property
    def is_http(self) -> bool:
        """Whether its bytes are always judged request by request, and must not pass unread."""
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC)

    @property
    def may_be_http(self) -> bool:
        """Whether words that speak of requests mean anything on it."""
        return self is not Protocol.TCP


class PortMode(StrEnum):
    """Whether callers must show an identity."""

    STRICT = "strict"  # mutual TLS only
    PERMISSIVE = "permissive"  # plaintext, too: a caller without identity, whom only a rule that says so permits


class ForwardedFor(StrEnum):
    """What an HTTP app is told of where a request comes from."""

    REPLACE = "replace"  # the address that the mesh knows, in place of whatever the caller claims
    APPEND = "append"  # that address behind the caller's own list, which is trusted
    OFF = "off"  # the caller's fields as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of the workload: ``port`` is what policies and CONNECT name, ``app_*`` where the app listens.

    ``proxy_protocol``: the app is told its caller by a PROXY protocol version 2 header; on ``tcp`` ports only.
    ``forwarded_for``: an HTTP app is told from where it is called, by ``x-forwarded-for``.
    ``limits``: how much of its callers the port takes.
    """

    port: int
    protocol: Protocol
    address: str
    app_host: str
    app_port: int
    mode: PortMode = PortMode.STRICT
    proxy_protocol: bool = False
    forwarded_for: ForwardedFor = ForwardedFor.REPLACE
    limits: tuple[RateLimit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Intercept:
    """The ports to which the kernel redirects the app's connections, those to it and those it opens."""

    inbound_port: int = 15006
    outbound_port: int = 15001


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardProxy:
    """Where the sidecar is an HTTP proxy to its app; ``host`` is a loopback address."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The workload that the sidecar stands beside; ``intercept`` is None where the app calls explicit listeners.

    ``instance``: which one of the service's; empty where the service has but one and did not name it. ``labels``: the
    service's, sorted.
    """

    service: str
    namespace: str
    spiffe_id: SpiffeId
    mesh_host: str
    mesh_port: int
    ports: tuple[Port, ...]
    intercept: Intercept | None = None
    forward_proxy: ForwardProxy | None = None
    instance: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def full_name(self) -> str:
        """Its service's: ``<namespace>/<name>``."""
        return f"{self.namespace}/{self.service}"


class Transport(StrEnum):
    """How an endpoint is reached; either way by mutual TLS with the identity that must answer there."""

    TUNNEL = "tunnel"  # it has a sidecar: a stream of a link, which many connections share
    DIRECT = "direct"  # it has none, and takes mutual TLS itself: a connection for each of the app's


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One instance of an upstream service: its mesh port, its address in CONNECT, and who must answer there.

    ``ready``: whether it can serve, as far as the mesh knows; one that cannot is chosen only where no other can. It
    tells how an endpoint is now, not which one it is, so it is no part of equality: links and counts stay with it.
    ``port``: the one of the workload that the call is for, in CONNECT; 0: the upstream's. No part of equality either,
    as calls to all ports of a workload share its links. Of a ``direct`` one ``mesh_*`` is where it takes mutual TLS
    itself.
    """

    mesh_host: str
    mesh_port: int
    address: str
    spiffe_id: SpiffeId
    ready: bool = field(default=True, compare=False)
    transport: Transport = Transport.TUNNEL
    port: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A service that the app calls: through a local listening port, or, intercepted, by one of ``addresses``.

    Without a listening port ``listen_host`` is empty and ``listen_port`` 0: never the system's choice of a port.
    ``addresses``: the IP addresses that, with ``port``, mean this upstream; in a workload with ``intercept`` no two
    upstreams have the same (address, port).
    ``route``: how it is reached; None: by the defaults.
    """

    service: str
    namespace: str
    port: int
    protocol: Protocol
    listen_host: str
    listen_port: int
    endpoints: tuple[Endpoint, ...]
    addresses: tuple[str, ...] = ()
    route: Route | None = None

    @property
    def has_listener(self) -> bool:
        """Whether there is a local listening port for it."""
        return self.listen_port != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The full state for one sidecar at one revision; revisions grow, and equal revisions mean equal content.

    What no rule of ``egress`` permits does not leave the mesh. ``shadow``: the whole of another policy, judged beside
    the one in force on every call, counted and never enforced; None: none.
    """

    revision: int
    workload: Workload
    upstreams: tuple[Upstream, ...]
    allowlists: tuple[Allowlist, ...]
    bundles: tuple[TrustBundle, ...]
    egress: tuple[EgressRule, ...] = ()
    denylists: tuple[Denylist, ...] = ()
    observe_until: float | None = None
    shadow: PolicySet | None = None
    token_issuers: tuple[TokenIssuer, ...] = ()

    @property
    def policy(self) -> PolicySet:
        """The policy in force."""
        return PolicySet(allowlists=self.allowlists, denylists=self.denylists, observe_until=self.observe_until)
