"""What a service account token claims, before anybody has vouched for it. Pure.

Nothing is believed that is read here; it only refuses what cannot be ours, in words that help, without a question to
the API server, and says what the answer is then held against. The form is strict: of one token there is one text.
Base64url leaves some bits of a last character without a meaning, and a reader that ignores them takes a copy with
other bits for the same token; by its text it would then look like one that was never used.
"""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass
from typing import Final

from k8s.objects.names import AUDIENCE
from ringfence.attestation import EvidenceFault, EvidenceRefusedError
from ringfence.policy.tokens.keys import ALGORITHMS, plain_algorithm
from ringfence.policy.tokens.strict_json import StrictJsonError, read_object

TOKEN_LIMIT_BYTES: Final = 8 * 1024
_FORM: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_UID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
# The issuer of tokens that Secrets hold, from before tokens had an audience, an end or a pod.
_LEGACY_ISSUER: Final = "kubernetes/serviceaccount"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReference:
    """A pod by its name and, since another may bear that later, its UID."""

    namespace: str
    name: str
    uid: str

    @property
    def subject(self) -> str:
        """As the authority keeps it."""
        return f"{self.namespace}/{self.name}/{self.uid}"

    @classmethod
    def of_subject(cls, subject: str) -> PodReference | None:
        """Back from ``subject``; None if it is none."""
        parts = subject.split("/")
        if len(parts) != 3 or not all(map(_NAME.fullmatch, parts[:2])) or _UID.fullmatch(parts[2]) is None:
            return None
        return cls(namespace=parts[0], name=parts[1], uid=parts[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedToken:
    """A token by its own words. ``key_id``: by which key it says it is signed; ``node``: empty where it names none;
    ``expires``: Unix seconds; ``signed``: the part of its text that the signature is over, which nobody can write in
    another way."""

    text: str
    key_id: str
    issuer: str
    pod: PodReference
    service_account: str
    node: str
    expires: float
    signed: bytes


def read_token(evidence: bytes, now: float) -> ClaimedToken:
    """What ``evidence`` claims at ``now``; raises EvidenceRefusedError for what is no token of a pod for this mesh."""
    if len(evidence) > TOKEN_LIMIT_BYTES or _FORM.fullmatch(evidence) is None:
        raise _malformed("no jwt")
    header_text, payload_text, signature_text = evidence.split(b".")
    header, claims = _object(header_text, "header"), _object(payload_text, "claims")
    _decoded(signature_text, "signature")
    algorithm = plain_algorithm(header.get("alg"))
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _malformed("its algorithm is none that signs with a key of its own")
    key_id = header.get("kid", "")
    if not isinstance(key_id, str) or len(key_id) > 512:
        raise _malformed("its kid is no short text")
    issuer = claims.get("iss")
    if issuer == _LEGACY_ISSUER:
        raise EvidenceRefusedError(EvidenceFault.UNBOUND, "a token of a secret")
    if not isinstance(issuer, str) or not 0 < len(issuer) <= 1024:
        raise _malformed("no issuer")
    # Alone, and not among others: what is made for two to see, either may show to the other.
    if claims.get("aud") not in (AUDIENCE, [AUDIENCE]):
        raise EvidenceRefusedError(EvidenceFault.AUDIENCE, f"not {AUDIENCE} alone")
    expires = _moment(claims)
    if now >= expires:
        raise EvidenceRefusedError(EvidenceFault.EXPIRED, f"{now - expires:.0f} s ago")
    bound = _member(claims, "kubernetes.io")
    if "pod" not in bound:
        raise EvidenceRefusedError(EvidenceFault.UNBOUND, "it names no pod")
    account, pod = _member(bound, "serviceaccount"), _member(bound, "pod")
    node = _member(bound, "node") if "node" in bound else {}
    namespace, service_account = _name(bound.get("namespace")), _name(account.get("name"))
    if claims.get("sub") != username(namespace, service_account):
        raise _malformed("its subject is not its service account")
    return ClaimedToken(
        text=evidence.decode("ascii"),
        key_id=key_id,
        issuer=issuer,
        pod=PodReference(namespace=namespace, name=_name(pod.get("name")), uid=_uid(pod.get("uid"))),
        service_account=service_account,
        node=_name(node["name"]) if "name" in node else "",
        expires=expires,
        signed=evidence.rpartition(b".")[0],
    )


def username(namespace: str, service_account: str) -> str:
    """The user that a service account is to the API server."""
    return f"system:serviceaccount:{namespace}:{service_account}"


def _object(text: bytes, what: str) -> dict[str, object]:
    try:
        return read_object(_decoded(text, what), TOKEN_LIMIT_BYTES)
    except StrictJsonError as error:
        raise _malformed(f"its {what}: {error}") from None


def _decoded(text: bytes, what: str) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        raise _malformed(f"its {what} is no base64url") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != text:
        raise _malformed(f"its {what} is not in the one form of its base64url")
    return decoded


def _moment(claims: dict[str, object]) -> float:
    found = claims.get("exp")
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < 2**53 or math.isnan(found):
        raise _malformed("no exp that is a time")
    return float(found)


def _member(parent: dict[str, object], name: str) -> dict[str, object]:
    found = parent.get(name)
    if not isinstance(found, dict):
        raise _malformed(f"no {name}")
    return found


def _name(found: object) -> str:
    if not isinstance(found, str) or _NAME.fullmatch(found) is None:
        raise _malformed("a name that is none")
    return found


def _uid(found: object) -> str:
    if not isinstance(found, str) or _UID.fullmatch(found) is None:
        raise _malformed("a uid that is none")
    return found


def _malformed(detail: str) -> EvidenceRefusedError:
    return EvidenceRefusedError(EvidenceFault.MALFORMED, detail)
