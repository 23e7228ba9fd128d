"""How a workload proves who it is without an identity: evidence -> attestation -> entry -> SPIFFE ID. Pure.

An attestor belongs to a platform (Kubernetes is the first) and reads its evidence. What it finds are selectors,
``<kind>:<what>:<value>``, which say what is true of whoever shows the evidence. A registration entry gives an identity
to those of whom all of its selectors are true. The authority alone issues it, and takes a piece of evidence for one
key only: whoever copies it cannot use it for another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from ringfence.spiffe import SpiffeId

EVIDENCE_LIMIT_BYTES: Final = 16_384


class EvidenceRefusedError(Exception):
    """The evidence proves nothing; ``reason`` is a word of a closed set, ``detail`` is for the log alone."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class EvidenceUnavailableError(Exception):
    """Nobody can say now whether the evidence is good; to be asked again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What a piece of evidence proves. ``subject``: of whom, unique for ever on the platform (a pod's UID);
    ``not_after``: when it ends, in Unix seconds."""

    kind: str
    subject: str
    selectors: frozenset[str]
    not_after: float


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
