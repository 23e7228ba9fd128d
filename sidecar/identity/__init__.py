"""The identity that a sidecar holds: how it is got, kept fresh, and lost only with its process.

``IdentityHolder`` is what the rest of the sidecar sees. Below it, from pure to adapter: ``schedule``, ``acceptance``,
``anchor``, ``request``; ``host_key`` (files), ``client`` (network), ``proving``, ``holder``.
"""

from __future__ import annotations

from collections.abc import Callable

from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.spiffe import TrustDomain
from sidecar.identity.anchor import Anchor, RootFingerprint, read_bundle
from sidecar.identity.client import IssuingClient
from sidecar.identity.errors import (
    IdentityError,
    IdentityRefused,
    IdentityUnavailable,
    UnsoundIdentity,
    WrongIdentity,
    WrongRoot,
)
from sidecar.identity.holder import IdentityHolder, OnChange
from sidecar.identity.host_key import HostKeyStore
from sidecar.identity.proving import Proving
from sidecar.settings import IdentitySettings, TrustSettings
from sidecar.state_folder import StateFolder

__all__ = [
    "IdentityError",
    "IdentityHolder",
    "IdentityRefused",
    "IdentityUnavailable",
    "OnChange",
    "UnsoundIdentity",
    "WrongIdentity",
    "WrongRoot",
    "open_identity",
]


def open_identity(
    settings: IdentitySettings, *, clock: Clock, random: Callable[[], float], log: Logger
) -> IdentityHolder:
    """The holder for one process, wired to the real CA; touches neither files nor network before ``run``."""
    trust_domain = settings.spiffe_id.trust_domain
    client = IssuingClient(
        join=settings.join,
        renew=settings.renew,
        trust_domain=trust_domain,
        anchor=lambda: anchor_of(settings.trust, trust_domain),
        lifetime_seconds=settings.lifetime_seconds,
        clock=clock,
    )
    proving = Proving(
        spiffe_id=settings.spiffe_id,
        client=client,
        host_keys=HostKeyStore(StateFolder(settings.state_dir)),
        join_token_file=settings.join_token_file,
        evidence=settings.evidence,
        log=log,
    )
    return IdentityHolder(
        spiffe_id=settings.spiffe_id, client=client, proving=proving, clock=clock, random=random, log=log
    )


def anchor_of(trust: TrustSettings, trust_domain: TrustDomain) -> Anchor:
    """What the settings pin; raises ValueError if the bundle file is unfit."""
    if trust.root_fingerprint is not None:
        return RootFingerprint(sha256=trust.root_fingerprint)
    if trust.bundle_file is None:
        raise ValueError("neither a root fingerprint nor a bundle is set")
    return read_bundle(trust.bundle_file, trust_domain)
