"""Certificates for callers that must be refused: each really issued, by an authority of the wrong kind or time.

The demo owns the state of its own CA, so it makes that CA two days ago (a clock is a parameter), has it issue an SVID
yesterday that is over today, and only then starts the mesh on it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ca import AuthoritySettings, init_authority, open_authority
from controlplane.demo.rogue import Credentials
from ringfence.kit.clock import Clock, FakeClock, SystemClock
from ringfence.kit.log import Logger
from ringfence.spiffe import SpiffeId, TrustDomain, X509Svid

_DAY_SECONDS: Final = 86_400.0
OTHER_TRUST_DOMAIN: Final = "partner.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Impostors:
    """Who claims to be one workload, and with what."""

    rightful: Credentials = field(repr=False)
    """A good SVID of the workload itself; shows that what refuses the others is what is wrong with them."""

    expired: Credentials = field(repr=False)
    """From the mesh's own CA, over since yesterday."""

    other_authority: Credentials = field(repr=False)
    """The same SPIFFE ID, from an authority that calls itself by the same trust domain."""

    other_trust_domain: Credentials = field(repr=False)
    """A good SVID of a trust domain that this mesh does not know."""


def make_impostors(
    spiffe_id: SpiffeId, *, authority_dir: Path, passphrase: bytes, elsewhere: Path, log: Logger
) -> Impostors:
    """Make the mesh's own authority in ``authority_dir``, two others in ``elsewhere``, and have them issue. Blocking.

    Raises what ``ca`` raises (CaError).
    """
    now = SystemClock().now()
    init_authority(authority_dir, spiffe_id.trust_domain, passphrase, clock=FakeClock(now - 2 * _DAY_SECONDS))
    own = AuthoritySettings(data_dir=authority_dir, passphrase=passphrase)
    expired = _issued(own, spiffe_id, FakeClock(now - _DAY_SECONDS), log)
    rightful = _issued(own, spiffe_id, SystemClock(), log)
    foreign_id = SpiffeId(TrustDomain(OTHER_TRUST_DOMAIN), spiffe_id.path)
    same_name = _stranger(elsewhere / "same-name", spiffe_id.trust_domain)
    partner = _stranger(elsewhere / "partner", foreign_id.trust_domain)
    return Impostors(
        rightful=rightful,
        expired=expired,
        other_authority=_issued(same_name, spiffe_id, SystemClock(), log),
        other_trust_domain=_issued(partner, foreign_id, SystemClock(), log),
    )


def _stranger(data_dir: Path, trust_domain: TrustDomain) -> AuthoritySettings:
    passphrase = secrets.token_urlsafe(32).encode()
    init_authority(data_dir, trust_domain, passphrase)
    return AuthoritySettings(data_dir=data_dir, passphrase=passphrase)


def _issued(settings: AuthoritySettings, spiffe_id: SpiffeId, clock: Clock, log: Logger) -> Credentials:
    with open_authority(settings, clock, log=log) as authority:
        svid: X509Svid = authority.issue_svid(spiffe_id)
    return Credentials(chain=svid.chain, private_key=svid.private_key)
