"""How a workload proves who it is without an identity: evidence -> attestation -> entry -> SPIFFE ID. Pure.

An attestor belongs to a platform (Kubernetes is the first) and reads its evidence. What it finds are selectors,
``<kind>:<what>:<value>``, which say what is true of whoever shows the evidence. A registration entry gives an identity
to those of whom all of its selectors are true. The authority alone issues it, and takes a piece of evidence for one
key only: whoever copies it cannot use it for another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from ringfence.spiffe import SpiffeId

EVIDENCE_LIMIT_BYTES: Final = 16_384


class EvidenceFault(StrEnum):
    """Why a piece of evidence proves nothing. Whoever shows it is told: it holds the evidence, and may read it."""

    MALFORMED = "malformed"
    """Not of the shape that evidence of its kind has."""
    FOREIGN = "foreign"
    """Another platform's: another cluster, another issuer, another key."""
    AUDIENCE = "audience"
    """Made to be shown to somebody else."""
    EXPIRED = "expired"
    UNBOUND = "unbound"
    """Of nobody in particular: not bound to one running workload."""
    REJECTED = "rejected"
    """The platform itself says that it is not good, and no more."""
    GONE = "gone"
    """Of a workload that is ended, ending, or was replaced by another of its name."""
    MISMATCH = "mismatch"
    """It says something else of its workload than the platform does."""
    UNMESHED = "unmeshed"
    """Of a workload that is not in the mesh."""


EVIDENCE_WORDS: Final = {
    EvidenceFault.MALFORMED: "is not of the right shape",
    EvidenceFault.FOREIGN: "is of another cluster or issuer",
    EvidenceFault.AUDIENCE: "is of another audience",
    EvidenceFault.EXPIRED: "has expired",
    EvidenceFault.UNBOUND: "is not bound to a running workload",
    EvidenceFault.REJECTED: "is not valid to the platform",
    EvidenceFault.GONE: "is of a workload that is gone or ending",
    EvidenceFault.MISMATCH: "says something else of its workload than the platform does",
    EvidenceFault.UNMESHED: "is of a workload that is not in the mesh",
}
"""What whoever shows such evidence is told of it."""


class EvidenceRefusedError(Exception):
    """The evidence proves nothing; ``reason`` says why, ``detail`` is for the log alone and never holds evidence."""

    def __init__(self, reason: EvidenceFault, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class EvidenceUnavailableError(Exception):
    """Nobody can say now whether the evidence is good; to be asked again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What a piece of evidence proves. ``subject``: of whom, unique for ever on the platform (a pod's UID);
    ``not_after``: when it ends, in Unix seconds; ``credential``: the part of it that nobody who copies it can write in
    another way, by which the authority knows it again (empty: all of it)."""

    kind: str
    subject: str
    selectors: frozenset[str]
    not_after: float
    credential: bytes = b""


class Attestor(Protocol):
    """Reads the evidence of one kind."""

    @property
    def kind(self) -> str:
        """The word by which a workload says what its evidence is, such as ``kubernetes``."""

    async def attest(self, evidence: bytes) -> Attestation:
        """What ``evidence`` proves. Raises EvidenceRefusedError, EvidenceUnavailableError."""

    async def lives(self, subject: str) -> bool:
        """Whether who was attested once is still there, and may prove itself by its host key. Raises
        EvidenceUnavailableError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationEntry:
    """An identity for whom all of ``selectors`` are true. ``lifetime_seconds``: 0 leaves it to the authority."""

    selectors: frozenset[str]
    spiffe_id: SpiffeId
    lifetime_seconds: int = 0


def entry_for(attestation: Attestation, entries: Iterable[RegistrationEntry]) -> RegistrationEntry | None:
    """The entry that asks for most of what is true of the attested; None if there is none. Of two that ask for as much,
    the one whose SPIFFE ID sorts first, so that the order of entries means nothing."""
    fitting = [entry for entry in entries if entry.selectors and entry.selectors <= attestation.selectors]
    return min(fitting, key=lambda entry: (-len(entry.selectors), str(entry.spiffe_id)), default=None)
