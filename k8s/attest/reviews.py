"""What the API server says of a token, asked by a TokenReview (authentication.k8s.io/v1). Pure.

The answer must be a yes for our audience: an API server or an authenticator that knows nothing of audiences says yes to
any token. What it says of user and pod is held against what the token claims, since a cluster may believe other issuers
than its own, and map their users as it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from k8s.attest.tokens import ClaimedToken, username
from k8s.objects.names import AUDIENCE
from ringfence.attestation import EvidenceFault, EvidenceRefusedError

_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_NODE_NAME: Final = "authentication.kubernetes.io/node-name"


def review_of(token: str) -> dict[str, Any]:
    """The TokenReview to create for ``token``."""
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [AUDIENCE]},
    }


def check_review(answer: Mapping[str, Any], token: ClaimedToken) -> None:
    """Returns if ``answer`` says that ``token`` is what it claims; raises EvidenceRefusedError else."""
    status = _mapping(answer.get("status"))
    if status.get("authenticated") is not True:
        # The server's own words may quote the token.
        raise EvidenceRefusedError(EvidenceFault.REJECTED, "the API server does not know it")
    audiences = status.get("audiences")
    if not isinstance(audiences, list) or AUDIENCE not in audiences:
        raise EvidenceRefusedError(EvidenceFault.AUDIENCE, "the API server does not say that it is for us")
    user = _mapping(status.get("user"))
    if user.get("username") != username(token.pod.namespace, token.service_account):
        raise EvidenceRefusedError(EvidenceFault.MISMATCH, "the API server knows it as another user's")
    extra = _mapping(user.get("extra"))
    if extra.get(_POD_NAME) != [token.pod.name] or extra.get(_POD_UID) != [token.pod.uid]:
        raise EvidenceRefusedError(EvidenceFault.UNBOUND, "the API server does not say of which pod it is")
    if token.node and _NODE_NAME in extra and extra[_NODE_NAME] != [token.node]:
        raise EvidenceRefusedError(EvidenceFault.MISMATCH, "the API server knows it as of another node")


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
