"""What a token that holds and the pod that it is of say together. Pure."""

from __future__ import annotations

from k8s.attest.tokens import ClaimedToken, PodReference
from k8s.objects.names import EVIDENCE_KIND
from k8s.objects.pods import Pod
from ringfence.attestation import Attestation, EvidenceFault, EvidenceRefusedError


def attest_pod(token: ClaimedToken, pod: Pod | None) -> Attestation:
    """What ``token``, which was found to hold, proves of ``pod``, which now bears its pod's name; raises
    EvidenceRefusedError.

    A pod on its way out proves nothing more: it has a host key, or it never began.
    """
    if pod is None:
        raise EvidenceRefusedError(EvidenceFault.GONE, f"there is no pod {token.pod.subject}")
    if pod.uid != token.pod.uid:
        raise EvidenceRefusedError(EvidenceFault.GONE, f"pod {token.pod.subject} was replaced by {pod.uid[:64]}")
    if pod.deleting or pod.ended:
        raise EvidenceRefusedError(EvidenceFault.GONE, f"pod {token.pod.subject} is ending")
    if pod.service_account != token.service_account:
        raise EvidenceRefusedError(EvidenceFault.MISMATCH, f"pod {token.pod.subject} runs as another service account")
    if token.node and token.node != pod.node:
        raise EvidenceRefusedError(EvidenceFault.MISMATCH, f"pod {token.pod.subject} runs on another node")
    if not pod.meshed:
        raise EvidenceRefusedError(EvidenceFault.UNMESHED, f"pod {token.pod.subject} has no sidecar")
    return Attestation(
        kind=EVIDENCE_KIND,
        subject=token.pod.subject,
        selectors=selectors_of(pod),
        not_after=token.expires,
        credential=token.signed,
    )


def selectors_of(pod: Pod) -> frozenset[str]:
    """What is true of ``pod``, each as ``k8s:<what>:<value>``."""
    found = {f"k8s:ns:{pod.namespace}", f"k8s:sa:{pod.service_account}", f"k8s:pod-uid:{pod.uid}"}
    found |= {f"k8s:pod-label:{name}:{value}" for name, value in pod.labels.items()}
    return frozenset(found | ({f"k8s:node:{pod.node}"} if pod.node else set()))


def is_there(reference: PodReference, pod: Pod | None) -> bool:
    """Whether ``pod`` is the one that was attested, and may still need its identity: while it ends, it does."""
    return pod is not None and pod.uid == reference.uid and not pod.ended
