"""The authority's settings: frozen, each with its unit and its reason; contradictions are told all at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ca.errors import SettingsInvalid

HOUR_SECONDS: Final = 3600
DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class LifetimeRules:
    """How long an SVID may live. Floor and ceiling are the operator's; a caller only chooses between them."""

    default_seconds: int = HOUR_SECONDS
    """What a caller gets that asks for nothing."""
    floor_seconds: int = 300
    """Below this, renewals would cost more than they protect; asking for less is refused."""
    ceiling_seconds: int = DAY_SECONDS
    """No SVID lives longer; asking for more gets this much."""
    backdate_seconds: int = 60
    """How far ``notBefore`` lies in the past, for peers whose clocks are behind."""

    def problems(self) -> list[str]:
        """Every contradiction, as a clear line; empty if there is none."""
        found = []
        if self.floor_seconds < 1:
            found.append(f"lifetime floor of {self.floor_seconds} s is less than a second")
        if not self.floor_seconds <= self.default_seconds <= self.ceiling_seconds:
            found.append(
                f"default lifetime of {self.default_seconds} s lies outside "
                f"floor {self.floor_seconds} s to ceiling {self.ceiling_seconds} s"
            )
        if self.ceiling_seconds > 90 * DAY_SECONDS:
            found.append(f"lifetime ceiling of {self.ceiling_seconds} s is more than 90 days, no short-lived identity")
        if not 0 <= self.backdate_seconds <= HOUR_SECONDS:
            found.append(f"backdating by {self.backdate_seconds} s lies outside 0 to {HOUR_SECONDS} s")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingLimits:
    """Bounds on work in hand, waits and what is kept."""

    in_flight: int = 128
    """Requests a servicer takes at once; the next is told RESOURCE_EXHAUSTED and comes back with jitter."""
    deadline_seconds: float = 10.0
    """The longest a request may take, whatever deadline its caller set."""
    batch: int = 64
    """SVIDs recorded in one transaction: one disk flush serves them all, and no caller waits for more than these."""
    attestations: int = 32
    """Pieces of evidence that the platform is asked about at once; more wait, within their deadline."""
    attestation_seconds: float = 5.0
    """The longest the platform may take to judge evidence, or to say whether a workload is still there."""
    nonce_seconds: float = 30.0
    """How long a challenge's nonce is good: a round trip with room to spare."""
    token_ceiling_seconds: int = 7 * DAY_SECONDS
    """The longest life of a join token; it is a bearer secret until it is used."""
    live_tokens: int = 10_000
    """Unexpired join tokens the database holds; minting more is refused."""
    keep_expired_seconds: int = 90 * DAY_SECONDS
    """How long the record of an expired SVID or token stays for audit before it is pruned, and a host key that a
    platform's evidence enrolled after it was last used."""
    database_connections: int = 5
    """Connections held at most: the issuing line takes one at a time, the rest are for the operator's commands."""
    database_wait_seconds: float = 5.0
    """The longest a statement waits for a lock, a connection or an answer of the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoritySettings:
    """What ``open_authority`` needs."""

    data_dir: Path
    """Holds the certificates, the encrypted keys and, by default, the database; made by ``init_authority``."""
    passphrase: bytes = field(repr=False)
    """Opens the signing key; read from elsewhere than ``data_dir``, kept by nobody."""
    database_url: str | None = field(default=None, repr=False)
    """``postgresql://…`` when more than one replica runs; None: SQLite in ``data_dir``."""
    default_lifetime_seconds: int = HOUR_SECONDS
    floor_seconds: int = 300
    ceiling_seconds: int = DAY_SECONDS
    backdate_seconds: int = 60
    limits: IssuingLimits = IssuingLimits()

    def __post_init__(self) -> None:
        problems = self.lifetimes.problems()
        if problems:
            raise SettingsInvalid("; ".join(problems))

    @property
    def lifetimes(self) -> LifetimeRules:
        return LifetimeRules(
            default_seconds=self.default_lifetime_seconds,
            floor_seconds=self.floor_seconds,
            ceiling_seconds=self.ceiling_seconds,
            backdate_seconds=self.backdate_seconds,
        )
