"""Attests pods: their token by the API server, and while that is away by the cluster's keys.

Theory of operation. A token is read first, and its signature verified by the cluster's keys, which costs the API server
nothing: strangers cannot make it busy by tokens that they made up, nor a pod by showing its own again and again
(``often``). Then a TokenReview decides, and what it says no to stays refused. Only where it is away is the signature
verified here, and then only for pods that the watch had seen before. At last the pod itself is looked at, as the API
server has it now: by its UID, since another may bear its name; whether it goes on; whether it has a sidecar.

What came of it is noted for the pod, so that its owner can be told; a refusal only where the token is surely the pod's,
since anybody can write one that names it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from k8s.attest.judging import attest_pod, is_there
from k8s.attest.keys import ApiUnavailableError, KeyKeeper
from k8s.attest.noting import AttestationNotes
from k8s.attest.often import OftenAsked
from k8s.attest.reviews import check_review, review_of
from k8s.attest.tokens import ClaimedToken, PodReference, read_token
from k8s.objects.names import EVIDENCE_KIND
from k8s.objects.pods import Pod
from ringfence.attestation import (
    Attestation,
    EvidenceFault,
    EvidenceRefusedError,
    EvidenceUnavailableError,
)
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger

# Each within the authority's own patience, so that there is time left to do without an answer.
QUESTION_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 4.5


class Cluster(Protocol):
    """What the attestor asks of the cluster. Both questions raise ApiUnavailableError."""

    async def review(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a TokenReview; the answer."""

    async def pod(self, namespace: str, name: str) -> Pod | None:
        """The pod that bears the name now; None if none does."""

    def held_pod(self, namespace: str, name: str) -> Pod | None:
        """The pod that bore the name when the watch heard last; None if none did, or nothing was heard yet."""


class KubernetesAttestor:
    """The attestor of kind ``kubernetes``."""

    def __init__(
        self,
        cluster: Cluster,
        keys: KeyKeeper,
        *,
        clock: Clock,
        log: Logger,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._keys = keys
        self._clock = clock
        self._log = log
        self._answer_seconds = answer_seconds
        self._often = OftenAsked()
        self.notes: Final = AttestationNotes()

    @property
    def kind(self) -> str:
        return EVIDENCE_KIND

    async def attest(self, evidence: bytes) -> Attestation:
        """Raises EvidenceRefusedError, EvidenceUnavailableError."""
        token = read_token(evidence, self._clock.now())
        if self._keys.issuer and token.issuer != self._keys.issuer:
            raise EvidenceRefusedError(EvidenceFault.FOREIGN, "its issuer is not this cluster's")
        signed = False
        try:
            async with asyncio.timeout(self._answer_seconds):
                signed = await self._keys.screen(token)
                # Only of a token that the cluster signed is it known whose it is: a stranger takes no pod's questions.
                if signed and not self._often.asks(token.pod.subject, self._clock.monotonic()):
                    raise EvidenceUnavailableError(f"pod {token.pod.subject} was asked about too often")
                check_review(await self._cluster.review(review_of(token.text)), token)
                attestation = attest_pod(token, await self._cluster.pod(token.pod.namespace, token.pod.name))
        except EvidenceRefusedError as error:
            if signed:
                self.notes.refused(token.pod, error.reason)
            raise
        except ApiUnavailableError as error:
            if error.answered:
                self._log.error("the API server answers no token review", reason=str(error))
                raise EvidenceUnavailableError(str(error)) from error
            return self._attest_alone(token, str(error))
        except TimeoutError:
            return self._attest_alone(token, "no answer in time")
        self.notes.attested(token.pod)
        return attestation

    async def lives(self, subject: str) -> bool:
        """Raises EvidenceUnavailableError."""
        reference = PodReference.of_subject(subject)
        if reference is None:
            return False
        if is_there(reference, self._cluster.held_pod(reference.namespace, reference.name)):
            return True
        # The watch may be behind, or not have begun: only the API server itself may say that it is gone.
        try:
            async with asyncio.timeout(self._answer_seconds):
                return is_there(reference, await self._cluster.pod(reference.namespace, reference.name))
        except (ApiUnavailableError, TimeoutError) as error:
            raise EvidenceUnavailableError(str(error) or "no answer in time") from error

    def _attest_alone(self, token: ClaimedToken, why: str) -> Attestation:
        self._keys.verify(token)
        pod = self._cluster.held_pod(token.pod.namespace, token.pod.name)
        if pod is None:
            raise EvidenceUnavailableError(f"{why}; and the pod was not heard of before")
        attestation = attest_pod(token, pod)
        self.notes.attested(token.pod)
        self._log.warning("pod attested without the API server", pod=token.pod.subject, reason=why)
        return attestation
