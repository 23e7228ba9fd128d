"""What one sidecar is told: its own workload, whom it may reach, who may reach it, whom to trust.

Made by the control plane, sent by ``ringfence.wire``, enforced by the sidecar. Pure values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ringfence.policy.model import Allowlist
from ringfence.spiffe import SpiffeId, TrustBundle


class Protocol(StrEnum):
    """How a port's bytes are read."""

    HTTP = "http"  # HTTP/1.x, judged request by request
    TCP = "tcp"  # opaque, judged once a connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of the workload: ``port`` is what policies and CONNECT name, ``app_*`` where the app listens."""

    port: int
    protocol: Protocol
    address: str
    app_host: str
    app_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The workload that the sidecar stands beside."""

    service: str
    namespace: str
    spiffe_id: SpiffeId
    mesh_host: str
    mesh_port: int
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One instance of an upstream service: its mesh port, its address in CONNECT, and who must answer there."""

    mesh_host: str
    mesh_port: int
    address: str
    spiffe_id: SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A service that the app calls through a local listening port."""

    service: str
    namespace: str
    port: int
    protocol: Protocol
    listen_host: str
    listen_port: int
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The full state for one sidecar at one revision; revisions grow, and equal revisions mean equal content."""

    revision: int
    workload: Workload
    upstreams: tuple[Upstream, ...]
    allowlists: tuple[Allowlist, ...]
    bundles: tuple[TrustBundle, ...]
