"""What a PodCertificateRequest asks, and who may not have it."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from k8s.objects.fields import MalformedObjectError
from k8s.objects.pods import read_pod
from k8s.trust.requests import (
    CertificateRequest,
    DeniedError,
    check_asks,
    check_pod,
    proved_key,
    read_request,
    refresh_at,
)
from tests.pod_tokens import UID, pod_document

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
SHA256 = ec.ECDSA(hashes.SHA256())


def spki(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def csr_of(key: Any) -> bytes:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    return request.public_bytes(Encoding.DER)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def request_document(name: str = "req-1", status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """As a kubelet writes it; ``spec`` replaces fields, None leaves them out."""
    usual = {
        "signerName": "ringfence.io/svid",
        "podName": "web-7d4b9",
        "podUID": UID,
        "serviceAccountName": "web",
        "serviceAccountUID": "c0ffee00",
        "nodeName": "node-a",
        "nodeUID": "n0de",
        "maxExpirationSeconds": 86_400,
        "stubPKCS10Request": encoded(csr_of(KEY)),
    }
    fields = {key: value for key, value in (usual | spec).items() if value is not None}
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": fields, "status": status or {}}


def request_of(**spec: Any) -> CertificateRequest:
    found = read_request(request_document(**spec))
    assert found is not None
    return found


def denied(request: CertificateRequest, **pod: Any) -> str:
    with pytest.raises(DeniedError) as refused:
        check_pod(request, read_pod(pod_document(**pod)))
    assert "\n" not in str(refused.value)
    return refused.value.reason


def test_a_request_for_the_pod_that_runs_is_granted_on_its_key() -> None:
    request = request_of()
    check_pod(request, read_pod(pod_document(meshed=False)))  # it needs no sidecar
    assert proved_key(request) == spki(KEY)
    assert request.most_seconds == 86_400


def test_the_older_form_is_granted_on_a_key_that_signed_the_pods_uid() -> None:
    proof = {"pkixPublicKey": encoded(spki(KEY)), "stubPKCS10Request": None}
    good = request_of(**proof, proofOfPossession=encoded(KEY.sign(UID.encode(), SHA256)))
    assert proved_key(good) == spki(KEY)
    for wrong in (OTHER.sign(UID.encode(), SHA256), KEY.sign(b"another-uid", SHA256), b"", b"rubbish"):
        with pytest.raises(DeniedError) as refused:
            proved_key(request_of(**proof, proofOfPossession=encoded(wrong)))
        assert refused.value.reason == "Malformed"


@pytest.mark.parametrize("conditions", [[{"type": kind, "status": "True"}] for kind in ("Issued", "Denied", "Failed")])
def test_what_is_settled_or_anothers_is_left_alone(conditions: list[dict[str, str]]) -> None:
    assert read_request(request_document(status={"conditions": conditions})) is None
    assert read_request(request_document(signerName="kubernetes.io/kube-apiserver-client-pod")) is None


@pytest.mark.parametrize(
    "spec",
    [{"podUID": 7}, {"stubPKCS10Request": "!"}, {"maxExpirationSeconds": "1h"}, {"unverifiedUserAnnotations": ["a"]}],
)
def test_what_cannot_be_read_is_told(spec: dict[str, Any]) -> None:
    with pytest.raises(MalformedObjectError):
        read_request(request_document(**spec))


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        ({"uid": "another-uid"}, "PodGone"),
        ({"deleting": True}, "PodGone"),
        ({"phase": "Failed"}, "PodGone"),
        ({"account": "admin"}, "PodMismatch"),
        ({"node": "node-b"}, "PodMismatch"),
    ],
)
def test_only_the_pod_that_asks_and_goes_on_is_served(pod: dict[str, Any], reason: str) -> None:
    assert denied(request_of(), **pod) == reason


@pytest.mark.parametrize("signers", [[], ["example.com/other"], ["ringfence.io/svid2", "Ringfence.io/svid"]])
def test_a_pod_that_mounts_no_certificate_of_ours_gets_none_whoever_asks(signers: list[str]) -> None:
    with pytest.raises(DeniedError) as refused:
        check_asks(pod_document(signers=signers))
    assert refused.value.reason == "NotAsked" and str(refused.value).endswith("(give it one)")
    check_asks(pod_document(signers=[*signers, "ringfence.io/svid"]))


def test_a_pod_that_is_not_there_is_not_served() -> None:
    with pytest.raises(DeniedError):
        check_pod(request_of(), None)


@pytest.mark.parametrize("namespace", ["kube-system", "ringfence-system", "mesh"])
def test_where_no_workload_has_an_identity_there_is_no_certificate(namespace: str) -> None:
    request = request_of()
    moved = dataclasses.replace(request, pod=dataclasses.replace(request.pod, namespace=namespace))
    with pytest.raises(DeniedError) as refused:
        check_pod(moved, read_pod(pod_document(namespace=namespace)), system_namespace="mesh")
    assert refused.value.reason == "NoIdentity"


def test_wishes_that_nobody_knows_are_denied_by_name() -> None:
    request = request_of(unverifiedUserAnnotations={"example.com/ttl": "1y"})
    assert denied(request) == "InvalidUnverifiedUserAnnotations"


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 3072), ed25519.Ed25519PrivateKey.generate()])
def test_a_key_of_another_kind_is_denied_with_the_kind_that_serves(key: Any) -> None:
    with pytest.raises(DeniedError) as refused:
        proved_key(request_of(stubPKCS10Request=encoded(csr_of(key))))
    assert (refused.value.reason, str(refused.value)) == ("UnsupportedKeyType", "ECDSAP256")


def broken_csr() -> bytes:
    good = csr_of(KEY)
    return good[:-1] + bytes((good[-1] ^ 1,))


@pytest.mark.parametrize(
    "spec",
    [
        {"stubPKCS10Request": encoded(b"rubbish")},
        {"stubPKCS10Request": encoded(b"x" * 20_000)},
        {"stubPKCS10Request": encoded(broken_csr())},
        {"stubPKCS10Request": None},
        {"pkixPublicKey": encoded(spki(KEY)), "proofOfPossession": encoded(b"x")},
        {"stubPKCS10Request": None, "pkixPublicKey": encoded(b"rubbish"), "proofOfPossession": encoded(b"x")},
        {"stubPKCS10Request": None, "pkixPublicKey": encoded(b"x" * 20_000), "proofOfPossession": encoded(b"x")},
    ],
)
def test_a_key_that_is_not_shown_to_be_held_is_denied(spec: dict[str, Any]) -> None:
    with pytest.raises(DeniedError) as refused:
        proved_key(request_of(**spec))
    assert refused.value.reason == "Malformed"


def test_the_kubelet_asks_again_at_half_of_the_life_and_never_too_near_its_ends() -> None:
    assert refresh_at(0, 86_400) == 43_200
    assert refresh_at(0, 3600) == 1800
    assert 600 <= refresh_at(0, 1210) <= 610
