"""What pods show as evidence, what an API server answers of it, and what pods ask it to have signed."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from k8s.attest.reviews import check_review
from k8s.attest.tokens import PodReference, read_token
from k8s.objects.fields import MalformedObjectError
from k8s.trust.requests import DeniedError, proved_key, read_request
from ringfence.attestation import EvidenceRefusedError
from tests.fuzz.target import Target, expect

NOW: Final = 1_700_000_000.0
_HEAD: Final = base64.urlsafe_b64encode(b'{"alg":"ES256","kid":"a"}').rstrip(b"=")
_CLAIMS: Final = {
    "iss": "https://kubernetes.default.svc",
    "aud": ["ringfence"],
    "sub": "system:serviceaccount:shop:web",
    "exp": NOW + 3600,
    "kubernetes.io": {
        "namespace": "shop",
        "serviceaccount": {"name": "web", "uid": "s"},
        "pod": {"name": "web-0", "uid": "u"},
        "node": {"name": "n", "uid": "n"},
    },
}


def _token(claims: bytes) -> bytes:
    return _HEAD + b"." + base64.urlsafe_b64encode(claims).rstrip(b"=") + b".AA"


def pod_token(data: bytes) -> None:
    """Claims, or a whole token: refused by a line that holds nothing of it, or one pod's, in its one form."""
    shown = data if data.count(b".") == 2 and not data.startswith(b"{") else _token(data)
    try:
        token = read_token(shown, NOW)
    except EvidenceRefusedError as error:
        expect(str(error).isprintable() and len(str(error)) < 200, f"no line: {error}")
        return
    expect(token.expires > NOW and token.text.encode() == shown, "not in time, or another text")
    expect(PodReference.of_subject(token.pod.subject) == token.pod, f"no subject: {token.pod}")
    for part in shown.split(b"."):
        decoded = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
        expect(base64.urlsafe_b64encode(decoded).rstrip(b"=") == part, "a second form of the same token")


def token_review(data: bytes) -> None:
    """Only a whole yes is one."""
    try:
        answer: Any = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(answer, dict):
        return
    try:
        check_review(answer, read_token(_token(json.dumps(_CLAIMS).encode()), NOW))
    except EvidenceRefusedError:
        return
    status = answer["status"]
    expect(status["authenticated"] is True and "ringfence" in status["audiences"], "no yes for us")
    expect(status["user"]["username"] == _CLAIMS["sub"], "another's")
    expect(status["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == ["u"], "another pod's")


def pod_certificate(data: bytes) -> None:
    """A request: not ours, refused by a line, or with a key that was shown to be held."""
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict):
        return
    try:
        request = read_request(document)
        if request is not None:
            expect(len(proved_key(request)) < 200, "no key on a curve")
    except (MalformedObjectError, DeniedError) as error:
        expect("\n" not in str(error) and len(str(error)) < 300, f"no line: {error}")


TARGETS: Final = tuple(Target(name=run.__name__, run=run) for run in (pod_certificate, pod_token, token_review))
