"""What the latest attestations of pods came to. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from k8s.attest.tokens import PodReference
from ringfence.attestation import EvidenceFault

_REMEMBERED: Final = 8192


class AttestationNotes:
    """Of the latest pods that asked, each by its UID; of more than a limit those that asked last."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._noted: OrderedDict[str, EvidenceFault | None] = OrderedDict()

    def attested(self, pod: PodReference) -> None:
        self._note(pod, None)

    def refused(self, pod: PodReference, reason: EvidenceFault) -> None:
        self._note(pod, reason)

    def knows(self, uid: str) -> bool:
        """Whether the pod asked."""
        return uid in self._noted

    def refusal(self, uid: str) -> EvidenceFault | None:
        """Why the pod was refused when it asked last; None where it was not, or did not ask."""
        return self._noted.get(uid)

    def _note(self, pod: PodReference, outcome: EvidenceFault | None) -> None:
        self._noted[pod.uid] = outcome
        self._noted.move_to_end(pod.uid)
        while len(self._noted) > self._limit:
            self._noted.popitem(last=False)
