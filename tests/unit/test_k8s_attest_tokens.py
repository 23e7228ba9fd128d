"""What a service account token claims: read strictly, one text a token, and refused in words."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s.attest.tokens import PodReference, read_token
from ringfence.attestation import EvidenceFault, EvidenceRefusedError
from tests.jwts import NOW, Signer, ec_key, ed_key, unsigned
from tests.pod_tokens import CLUSTER, UID, claims_of, other_last_bits, pod_token

POD = PodReference(namespace="shop", name="web-7d4b9", uid=UID)
BOUND = claims_of()["kubernetes.io"]


def fault_of(evidence: bytes, now: float = NOW) -> EvidenceFault:
    with pytest.raises(EvidenceRefusedError) as refused:
        read_token(evidence, now)
    assert evidence.decode("latin-1")[:40] not in str(refused.value) or not evidence
    return refused.value.reason


def bound(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**BOUND, **changes}.items() if value is not None}


def test_a_token_says_whose_it_is() -> None:
    text = pod_token()
    token = read_token(text, NOW)
    assert (token.pod, token.service_account, token.node, token.issuer) == (POD, "web", "node-a", CLUSTER)
    assert token.expires == NOW + 3607
    assert text.startswith(token.signed + b".")
    assert read_token(pod_token(aud="ringfence"), NOW).pod == POD


def test_a_token_from_before_nodes_were_named_names_none() -> None:
    assert read_token(pod_token(**{"kubernetes.io": bound(node=None)}), NOW).node == ""


@pytest.mark.parametrize("signer", [Signer(key=ec_key()), Signer(key=ed_key(), algorithm="EdDSA")])
def test_tokens_by_other_kinds_of_keys_are_read(signer: Signer) -> None:
    assert read_token(pod_token(signer), NOW).pod == POD


def test_one_token_has_one_text() -> None:
    assert fault_of(other_last_bits(pod_token())) is EvidenceFault.MALFORMED


@given(st.data())
def test_no_other_last_character_of_any_part_is_the_same_token(data: st.DataObject) -> None:
    token = read_token(pod_token(), NOW)
    parts = token.text.split(".")
    number = data.draw(st.integers(0, 2))
    last = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    changed = [*parts[:number], parts[number][:-1] + last, *parts[number + 1 :]]
    try:
        found = read_token(".".join(changed).encode(), NOW)
    except EvidenceRefusedError:
        return
    assert changed == parts or _decoded(changed[number]) != _decoded(parts[number])
    assert (found.signed == token.signed) == (number == 2 or changed == parts)


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize(
    "evidence",
    [
        b"",
        b"rubbish",
        b"a.b",
        b"a.b.c.d",
        b"..",
        b"a.b.c",
        b"\xff.\xff.\xff",
        pod_token() + b"\n",
        pod_token() + b"=",
        b" " + pod_token(),
        pod_token().replace(b".", b"..", 1),
        b"A" * 9000 + b".e30.AA",
        unsigned(iss=CLUSTER).encode(),
        pod_token(header={"alg": "HS256"}),
        pod_token(header={"alg": None}),
        pod_token(header={"alg": ["RS256"]}),
    ],
)
def test_what_is_no_signed_jwt_is_malformed(evidence: bytes) -> None:
    assert fault_of(evidence) is EvidenceFault.MALFORMED


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": None},
        {"iss": ""},
        {"iss": 7},
        {"iss": "x" * 1025},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e300},
        {"sub": "system:serviceaccount:shop:admin"},
        {"sub": None},
        {"kubernetes.io": None},
        {"kubernetes.io": []},
        {"kubernetes.io": bound(namespace="Shop")},
        {"kubernetes.io": bound(namespace="../shop")},
        {"kubernetes.io": bound(namespace=None)},
        {"kubernetes.io": bound(serviceaccount={})},
        {"kubernetes.io": bound(serviceaccount="web")},
        {"kubernetes.io": bound(pod={"name": "web-7d4b9"})},
        {"kubernetes.io": bound(pod={"name": "a/b", "uid": UID})},
        {"kubernetes.io": bound(pod={"name": "web", "uid": "x" * 65})},
        {"kubernetes.io": bound(pod={"name": "w" * 254, "uid": UID})},
        {"kubernetes.io": bound(pod=None) | {"pod": None}},
        {"kubernetes.io": bound(node="node-a")},
    ],
)
def test_claims_that_no_cluster_makes_are_malformed(changes: dict[str, Any]) -> None:
    assert fault_of(pod_token(**changes)) is EvidenceFault.MALFORMED


def test_a_claim_that_is_there_twice_says_nothing() -> None:
    payload = json.dumps(claims_of())[:-1] + ', "aud": ["ringfence"]}'
    assert fault_of(Signer(key=ec_key()).signed(payload.encode()).encode()) is EvidenceFault.MALFORMED


@pytest.mark.parametrize(
    "audience", [None, [], ["vault"], "vault", ["ringfence", "vault"], CLUSTER, [["ringfence"]], 7]
)
def test_a_token_that_is_not_for_us_alone_is_refused(audience: object) -> None:
    assert fault_of(pod_token(aud=audience)) is EvidenceFault.AUDIENCE


def test_an_expired_token_is_refused_from_its_second_on() -> None:
    text = pod_token(exp=int(NOW) + 5)
    assert read_token(text, NOW + 4.9).expires == NOW + 5
    assert fault_of(text, NOW + 5) is EvidenceFault.EXPIRED


def test_a_token_that_is_of_no_pod_is_refused() -> None:
    secret = {"name": "web-token", "uid": "5ec7e7"}
    assert fault_of(pod_token(**{"kubernetes.io": bound(pod=None)})) is EvidenceFault.UNBOUND
    assert fault_of(pod_token(**{"kubernetes.io": bound(pod=None, secret=secret)})) is EvidenceFault.UNBOUND
    assert fault_of(pod_token(iss="kubernetes/serviceaccount", aud=None, exp=None)) is EvidenceFault.UNBOUND


def test_a_subject_leads_back_to_its_pod() -> None:
    assert PodReference.of_subject(POD.subject) == POD
    for subject in ("", "a/b", "a/b/c/d", "A/b/c", "a/../c", "a//c", "a/b/" + "x" * 65):
        assert PodReference.of_subject(subject) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(evidence: bytes) -> None:
    with pytest.raises(EvidenceRefusedError):
        read_token(evidence, NOW)
