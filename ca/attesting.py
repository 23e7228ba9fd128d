"""What the authority asks of platforms: is this evidence good, whose is it, and is who was attested still there.

Nothing of any platform is in here: attestors and registration entries come through a port. Each question has a
deadline, and no more of them are open at once than the settings allow, whatever strangers send: the platform's API is
not ours to overload. Evidence is in no log; what an attestor says of it is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ca.errors import AttestorUnavailable, CaError, IdentityRefused, RefusalReason, Refused, RequestInvalid
from ca.settings import IssuingLimits
from ca.store.host_keys import Provenance
from ca.template import check_workload_id
from ringfence.attestation import (
    EVIDENCE_LIMIT_BYTES,
    Attestation,
    Attestor,
    EvidenceRefusedError,
    EvidenceUnavailableError,
    RegistrationEntry,
    entry_for,
)
from ringfence.kit.clock import Clock
from ringfence.spiffe import SpiffeId, TrustDomain

_KIND: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")
_SUBJECT_LIMIT_BYTES: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSources:
    """Whose evidence an authority takes, and who gets which identity by it."""

    attestors: tuple[Attestor, ...] = ()
    entries: Callable[[Attestation], Sequence[RegistrationEntry]] = lambda _: ()
    """The registration entries that may concern who was attested; neither blocks nor fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """Who showed good evidence: the identity that is theirs, and by what it is known that the evidence was used."""

    spiffe_id: SpiffeId
    lifetime_seconds: int
    provenance: Provenance
    evidence_sha256: str
    not_after: float


class SubjectAsked(CaError):
    """A proof holds, if the subject that enrolled the host key is still there; to be asked before it counts."""

    def __init__(self, provenance: Provenance) -> None:
        super().__init__(f"{provenance.kind} has not said whether {provenance.subject} is there")
        self.provenance = provenance


class Attesting:
    """Asks the attestors; one for each servicer."""

    def __init__(
        self, sources: EvidenceSources, *, trust_domain: TrustDomain, limits: IssuingLimits, clock: Clock
    ) -> None:
        self._sources = sources
        self._attestors = {attestor.kind: attestor for attestor in sources.attestors}
        self._trust_domain = trust_domain
        self._limits = limits
        self._clock = clock
        self._open = asyncio.Semaphore(limits.attestations)

    @property
    def idle(self) -> bool:
        """Whether there is nobody to ask."""
        return not self._attestors

    def check(self, kind: str, evidence: bytes) -> None:
        """Returns if somebody could be asked about it. RequestInvalid, Refused."""
        if not evidence or len(evidence) > EVIDENCE_LIMIT_BYTES:
            raise RequestInvalid(f"evidence of {len(evidence)} bytes (1 to {EVIDENCE_LIMIT_BYTES})")
        self._attestor(kind)

    async def prove(self, kind: str, evidence: bytes) -> Proven:
        """Whose ``evidence`` it is. RequestInvalid, Refused, AttestorUnavailable."""
        self.check(kind, evidence)
        attestor = self._attestor(kind)
        async with self._asked(kind):
            attestation = await attestor.attest(evidence)
        return self._registered(attestation, kind, evidence)

    async def lives(self, provenance: Provenance) -> None:
        """Returns if the subject is still there. Refused, AttestorUnavailable."""
        attestor = self._attestor(provenance.kind)
        async with self._asked(provenance.kind):
            alive = await attestor.lives(provenance.subject)
        if not alive:
            raise Refused(RefusalReason.SUBJECT_GONE, f"{provenance.kind} subject {provenance.subject}")

    def _registered(self, attestation: Attestation, kind: str, evidence: bytes) -> Proven:
        if attestation.kind != kind or not 0 < len(attestation.subject.encode()) <= _SUBJECT_LIMIT_BYTES:
            raise CaError(f"the attestor of {kind} attested what it cannot")
        if not attestation.not_after > self._clock.now():
            raise Refused(RefusalReason.EVIDENCE_EXPIRED, f"of {attestation.subject}")
        entry = entry_for(attestation, self._sources.entries(attestation))
        if entry is None:
            raise Refused(RefusalReason.NOT_REGISTERED, " ".join(sorted(attestation.selectors))[:1000])
        try:
            check_workload_id(entry.spiffe_id, self._trust_domain)
        except IdentityRefused as problem:
            raise Refused(RefusalReason.NOT_REGISTERED, str(problem)) from problem
        return Proven(
            spiffe_id=entry.spiffe_id,
            lifetime_seconds=entry.lifetime_seconds,
            provenance=Provenance(kind=kind, subject=attestation.subject),
            evidence_sha256=sha256(kind.encode() + b"\0" + (attestation.credential or evidence)).hexdigest(),
            not_after=attestation.not_after,
        )

    def _attestor(self, kind: str) -> Attestor:
        attestor = self._attestors.get(kind)
        if attestor is None:
            shown = kind if _KIND.fullmatch(kind) else "not a word"
            raise Refused(RefusalReason.EVIDENCE_KIND_UNKNOWN, shown)
        return attestor

    @asynccontextmanager
    async def _asked(self, kind: str) -> AsyncIterator[None]:
        """Around a question to the attestor: bounded in number and time, its answers in this package's words."""
        async with self._open:
            try:
                async with asyncio.timeout(self._limits.attestation_seconds):
                    yield
            except EvidenceRefusedError as problem:
                raise Refused(RefusalReason(f"evidence_{problem.reason}"), problem.detail) from problem
            except EvidenceUnavailableError as problem:
                raise AttestorUnavailable(f"{kind}: {problem}") from problem
            except TimeoutError as problem:
                raise AttestorUnavailable(f"{kind}: no answer in time") from problem


def shorter(asked_seconds: int, entry_seconds: int) -> int:
    """The lifetime to ask the authority for: an entry's is the default of its workloads, and the most they get."""
    if not entry_seconds:
        return asked_seconds
    return min(asked_seconds, entry_seconds) if asked_seconds else entry_seconds
