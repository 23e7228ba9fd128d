"""An attestor under a test's hand: what it knows, who is gone, whether it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from ringfence.attestation import (
    Attestation,
    EvidenceFault,
    EvidenceRefusedError,
    EvidenceUnavailableError,
    RegistrationEntry,
)
from ringfence.spiffe import SpiffeId

KIND = "fake"


@dataclass
class FakeAttestor:
    """``known``: evidence -> the identity and the subject that it is of; evidence that starts with a fault's word and a
    colon is refused for it."""

    known: dict[bytes, tuple[SpiffeId, str]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    away: bool = False
    hangs: bool = False
    not_after: float = 4_000_000_000.0
    lifetime_seconds: int = 0
    asked: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    kind: str = KIND

    async def attest(self, evidence: bytes) -> Attestation:
        await self._enter("attest")
        fault = evidence.partition(b":")[0].decode("utf-8", "replace")
        if fault in set(EvidenceFault):
            raise EvidenceRefusedError(EvidenceFault(fault), "as the test has it")
        # A copy that is written in another way is the same credential, as with a token's last character.
        credential = evidence.rstrip(b"=")
        if credential not in self.known:
            raise EvidenceRefusedError(EvidenceFault.REJECTED, "never made")
        spiffe_id, subject = self.known[credential]
        selectors = frozenset({f"fake:id:{spiffe_id}", f"fake:subject:{subject}"})
        return Attestation(
            kind=self.kind, subject=subject, selectors=selectors, not_after=self.not_after, credential=credential
        )

    async def lives(self, subject: str) -> bool:
        await self._enter("lives")
        return subject not in self.gone

    def entries(self, attestation: Attestation) -> Sequence[RegistrationEntry]:
        """One for each identity that there is evidence of."""
        found = {spiffe_id for spiffe_id, _ in self.known.values()}
        return [
            RegistrationEntry(
                selectors=frozenset({f"fake:id:{one}"}), spiffe_id=one, lifetime_seconds=self.lifetime_seconds
            )
            for one in found
        ]

    async def _enter(self, question: str) -> None:
        self.asked.append(question)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if self.hangs:
                await asyncio.Event().wait()
            if self.away:
                raise EvidenceUnavailableError("not now")
        finally:
            self.at_once -= 1
