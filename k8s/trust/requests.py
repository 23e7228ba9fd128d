"""A PodCertificateRequest (certificates.k8s.io/v1beta1): what it asks, and whether who asks may have it. Pure.

The API server has checked that the node that writes it runs the pod, for requests of kubelets; but whoever may create
such objects may write anything. So each is held against the pod as it is now, as a token is, and the key is only taken
when it was shown to be held. What is denied is denied for good: the kubelet does not ask again. What may only be late
is not denied.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from k8s.attest.tokens import PodReference
from k8s.objects.fields import MalformedObjectError, child, integer, objects, text, texts
from k8s.objects.names import NEVER_MESHED, SIGNER, SYSTEM_NAMESPACE
from k8s.objects.pods import Pod

LEAST_SECONDS: Final = 3600
"""The API server takes no certificate that lasts less."""
_REFRESH_MARGIN_SECONDS: Final = 600
_SETTLED: Final = frozenset(("Issued", "Denied", "Failed"))
_KEY_LIMIT_BYTES: Final = 10_240
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


class DeniedError(Exception):
    """The request is never granted. ``reason``: a word for machines; the text: a line for people, with the mend."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """What a pod asks for: by ``csr``, or, as older kubelets do, by ``public_key`` and ``possession``, a
    signature over the pod's UID. ``wishes``: names of wishes that the pod's author wrote, of which we know none."""

    name: str
    pod: PodReference
    service_account: str
    node: str
    most_seconds: int
    csr: bytes
    public_key: bytes
    possession: bytes
    wishes: tuple[str, ...]


def read_request(document: Mapping[str, Any]) -> CertificateRequest | None:
    """From the API's JSON; None for one of another signer, or that is settled. Raises MalformedObjectError."""
    metadata, spec, status = (child(document, key) for key in ("metadata", "spec", "status"))
    if text(spec, "signerName", "spec") != SIGNER:
        return None
    for path, one in objects(status, "conditions", "status"):
        if text(one, "type", path) in _SETTLED:
            return None
    return CertificateRequest(
        name=text(metadata, "name", "metadata"),
        pod=PodReference(
            namespace=text(metadata, "namespace", "metadata"),
            name=text(spec, "podName", "spec"),
            uid=text(spec, "podUID", "spec"),
        ),
        service_account=text(spec, "serviceAccountName", "spec"),
        node=text(spec, "nodeName", "spec"),
        most_seconds=integer(spec, "maxExpirationSeconds", "spec", default=86_400),
        csr=_bytes(spec, "stubPKCS10Request"),
        public_key=_bytes(spec, "pkixPublicKey"),
        possession=_bytes(spec, "proofOfPossession"),
        wishes=tuple(sorted(texts(spec, "unverifiedUserAnnotations", "spec"))),
    )


def check_pod(request: CertificateRequest, pod: Pod | None, *, system_namespace: str = SYSTEM_NAMESPACE) -> None:
    """Returns if ``pod``, which bears the name now, is who asks; raises DeniedError."""
    if request.pod.namespace in (*NEVER_MESHED, SYSTEM_NAMESPACE, system_namespace):
        raise DeniedError("NoIdentity", f"pods of namespace {request.pod.namespace} have no identity in the mesh")
    if request.wishes:
        shown = request.wishes[0][:80]
        raise DeniedError("InvalidUnverifiedUserAnnotations", f"{shown} means nothing to {SIGNER} (leave it out)")
    if pod is None or pod.uid != request.pod.uid:
        raise DeniedError(
            "PodGone", f"pod {request.pod.namespace}/{request.pod.name} is not the one that asks any more"
        )
    if pod.ended or pod.deleting:
        raise DeniedError("PodGone", f"pod {request.pod.namespace}/{request.pod.name} is ending")
    if pod.service_account != request.service_account or pod.node != request.node:
        raise DeniedError("PodMismatch", "the pod runs as another service account, or on another node")


def check_asks(document: Mapping[str, Any]) -> None:
    """Returns if the pod, as the API serves it, mounts a certificate of ours; raises DeniedError. Its kubelet asks for
    no other: somebody else does, who may write such requests, with a key of his own and that pod's name."""
    for path, volume in objects(child(document, "spec"), "volumes", "spec"):
        projected = child(volume, "projected", path)
        for where, source in objects(projected, "sources", f"{path}.projected"):
            if text(child(source, "podCertificate", where), "signerName", where) == SIGNER:
                return
    raise DeniedError("NotAsked", f"the pod has no volume with a certificate of {SIGNER} (give it one)")


def proved_key(request: CertificateRequest) -> bytes:
    """The key (SubjectPublicKeyInfo, DER) that whoever asks was shown to hold; raises DeniedError."""
    if request.csr and not request.public_key and not request.possession:
        key = _of_csr(request.csr)
    elif request.public_key and request.possession and not request.csr:
        key = _of_possession(request)
    else:
        raise DeniedError("Malformed", "it has no key, or two of them (leave it to the kubelet)")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def refresh_at(not_before: int, not_after: int) -> int:
    """When the kubelet is to ask again: at half of the life, and as far from its ends as the API server wants."""
    half = (not_before + not_after) // 2
    return min(max(half, not_before + _REFRESH_MARGIN_SECONDS), not_after - _REFRESH_MARGIN_SECONDS)


def _of_csr(der: bytes) -> ec.EllipticCurvePublicKey:
    if len(der) > _KEY_LIMIT_BYTES:
        raise DeniedError("Malformed", "its csr is too large (leave it to the kubelet)")
    try:
        request = x509.load_der_x509_csr(der)
        key = _supported(request.public_key())
        held = request.is_signature_valid
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise DeniedError("Malformed", "its csr cannot be read (leave it to the kubelet)") from error
    if not held:
        raise DeniedError("Malformed", "its csr is not signed by its own key (leave it to the kubelet)")
    return key


def _of_possession(request: CertificateRequest) -> ec.EllipticCurvePublicKey:
    """The older form: a key, and its signature over the pod's UID."""
    try:
        if len(request.public_key) > _KEY_LIMIT_BYTES:
            raise ValueError
        key = _supported(load_der_public_key(request.public_key))
        key.verify(request.possession, request.pod.uid.encode(), ec.ECDSA(hashes.SHA256()))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise DeniedError("Malformed", "its key cannot be read (leave it to the kubelet)") from error
    except InvalidSignature as error:
        raise DeniedError("Malformed", "its key is not shown to be held (leave it to the kubelet)") from error
    return key


def _supported(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise DeniedError("UnsupportedKeyType", "ECDSAP256")
    return key


def _bytes(spec: Mapping[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(text(spec, key, "spec"), validate=True)
    except ValueError as error:
        raise MalformedObjectError(f"spec.{key}: not base64") from error
