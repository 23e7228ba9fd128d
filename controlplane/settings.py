"""The settings of the control plane process; the mesh itself is a document, not a setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import IdentityLifetimes, TokenIssuerRules
from ringfence.spiffe import TrustDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSettings:
    """What the command line says of a platform, which takes the place of the mesh file."""

    name: str
    """That of its entry point."""

    trust_domain: TrustDomain
    """The mesh's, which must be the CA's."""

    identities: IdentityLifetimes = field(default_factory=IdentityLifetimes)
    """How long SVIDs live."""

    options: Mapping[str, str] = field(default_factory=dict)
    """For the platform to read."""

    token_issuers: TokenIssuerRules = field(default_factory=TokenIssuerRules)
    """From where keys of token issuers may be fetched, whatever documents say; by default from nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneSettings:
    """What the command line says; None where the mesh file decides. One of mesh file and platform is given."""

    mesh_file: Path | None = None
    """``mesh.yaml``; watched, with the policy folder that it names."""

    platform: PlatformSettings | None = None
    """Whatever runs the workloads, and keeps the documents."""

    state: Path
    """Folder of this process alone, which nobody else may write: revision ledger, lock, by default the CA."""

    ca_data: Path
    """Data folder of the CA, made by ``ringfence ca init``."""

    passphrase: bytes = field(repr=False)
    """Opens the CA's signing key."""

    admin_socket: Path
    """Unix socket for status and join tokens, in a folder of mode 0700."""

    database_url: str | None = field(default=None, repr=False)
    """Database of the CA; None: SQLite in its data folder."""

    join: SocketAddress | None = None
    """Listening address for joining; over ``controlPlane.join``."""

    listen: SocketAddress | None = None
    """Listening address for mutual TLS; over ``controlPlane.listen``."""

    signals: SocketAddress | None = None
    """Listening address for health and metrics; over ``controlPlane.signals``."""

    poll_seconds: float = 0.1
    """How often the files are looked at; a change is in force at most this much later than it could be."""

    settle_seconds: float = 0.05
    """How long the files must stand still before a change is judged, so that none is taken in half written; not needed
    for a single file of which the kernel tells that its writer is done."""

    acknowledgement_seconds: float = 10.0
    """After so long without an answer to a snapshot a sidecar is shown as overdue."""

    drain_seconds: float = 2.0
    """How long calls in hand may go on once the process was told to stop."""

    join_token_seconds: int = 300
    """Life of a join token that was asked for without one."""

    subscriptions: int = 2_000
    """Sidecars subscribed at once; each costs some ten kilobytes and a connection."""

    subscriptions_an_identity: int = 64
    """Of these under one identity, so that one workload cannot take them all."""
