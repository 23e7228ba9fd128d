"""Re-proof on a living connection: what extends it, and every neighbour that must not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ringfence.kit.clock import FakeClock
from ringfence.spiffe import ChainVerifier, SpiffeId, VerificationError, VerifyReason, X509Svid
from sidecar.reprove import PROOF_LIMIT_BYTES, check_proof, make_proof
from sidecar.tls import TlsEngine, TlsIdentity
from tests.pki import TestCa, key_usage, new_key
from tests.tls_ends import connected

NOW = 1_800_000_000.0
CA = TestCa("shop.example", now=NOW)
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
ORDERS = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")
VERIFIER = ChainVerifier([CA.bundle()])
LATER = NOW + 1800


def link() -> tuple[TlsEngine, TlsEngine]:
    clock = FakeClock(NOW)
    web = TlsIdentity(CA.svid(WEB), [CA.bundle()], clock)
    return connected(web, TlsIdentity(CA.svid(ORDERS), [CA.bundle()], clock))


def renewed(spiffe_id: SpiffeId = WEB) -> X509Svid:
    return CA.svid(spiffe_id, lifetime=5400)


def refusal(
    engine: TlsEngine, proof: bytes, *, peer: SpiffeId = WEB, counter: int = 1, now: float = LATER
) -> VerifyReason:
    with pytest.raises(VerificationError) as caught:
        check_proof(engine, VERIFIER, proof, peer, counter, now)
    return caught.value.reason


def test_proof_extends_the_peer_to_the_new_end_in_both_directions() -> None:
    client, server = link()
    for prover, checker, spiffe_id in ((client, server, WEB), (server, client, ORDERS)):
        svid = renewed(spiffe_id)
        peer = check_proof(checker, VERIFIER, make_proof(prover, svid, 1), spiffe_id, 1, LATER)
        assert (peer.spiffe_id, peer.not_after, peer.serial) == (spiffe_id, NOW + 5400, svid.serial)
        assert peer.leaf_der == svid.chain[0]


def test_proofs_go_on_in_order() -> None:
    client, server = link()
    for counter in range(1, 6):
        svid = renewed()
        assert (
            check_proof(server, VERIFIER, make_proof(client, svid, counter), WEB, counter, LATER).serial == svid.serial
        )


@pytest.mark.parametrize("due", [0, 2, 3, 1 << 63])
def test_replayed_or_skipped_number_is_refused(due: int) -> None:
    client, server = link()
    proof = make_proof(client, renewed(), 1)
    assert check_proof(server, VERIFIER, proof, WEB, 1, LATER)
    assert refusal(server, proof, counter=due) is VerifyReason.PROOF_INVALID


def test_proof_of_another_connection_is_refused() -> None:
    client, _ = link()
    _, server = link()
    assert refusal(server, make_proof(client, renewed(), 1)) is VerifyReason.PROOF_INVALID


def test_own_proof_sent_back_is_refused() -> None:
    client, server = link()
    assert refusal(server, make_proof(server, renewed(), 1)) is VerifyReason.PROOF_INVALID
    assert refusal(client, make_proof(client, renewed(), 1)) is VerifyReason.PROOF_INVALID


def test_other_identity_is_refused() -> None:
    client, server = link()
    assert refusal(server, make_proof(client, renewed(ORDERS), 1)) is VerifyReason.UNEXPECTED_PEER


def test_certificate_without_its_key_is_refused() -> None:
    client, server = link()
    stolen = renewed()
    forged = X509Svid(
        spiffe_id=WEB,
        chain=stolen.chain,
        private_key=new_key(),
        not_before=stolen.not_before,
        not_after=stolen.not_after,
        serial=stolen.serial,
    )
    assert refusal(server, make_proof(client, forged, 1)) is VerifyReason.PROOF_INVALID


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: CA.svid(WEB, lifetime=1799), VerifyReason.EXPIRED),
        (lambda: CA.svid(WEB, not_before=1801, lifetime=5400), VerifyReason.NOT_YET_VALID),
        (lambda: TestCa("shop.example", now=NOW).svid(WEB, lifetime=5400), VerifyReason.UNTRUSTED),
        (lambda: CA.svid(WEB, usage=key_usage("key_agreement")), VerifyReason.LEAF_RULES),
        (lambda: CA.svid(WEB, uris=[str(WEB), str(ORDERS)]), VerifyReason.SPIFFE_ID_COUNT),
        (lambda: CA.svid(WEB, chain=[CA.issuing.der] * 5), VerifyReason.TOO_LONG_CHAIN),
    ],
)
def test_svid_that_a_handshake_would_refuse_is_refused(make: Callable[[], X509Svid], reason: VerifyReason) -> None:
    client, server = link()
    assert refusal(server, make_proof(client, make(), 1)) is reason


def test_other_curve_is_refused() -> None:
    client, server = link()
    other_curve = CA.svid(WEB, key=ec.generate_private_key(ec.SECP384R1()))
    assert refusal(server, make_proof(client, other_curve, 1), now=NOW) is VerifyReason.PROOF_INVALID


def test_signature_over_anything_else_is_refused() -> None:
    client, server = link()

    class OtherWords:
        """The true key, made to sign other words: a signature got from another protocol."""

        def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
            self.key = key

        def sign(self, _words: bytes, _algorithm: object) -> bytes:
            return self.key.sign(b"other words", ec.ECDSA(hashes.SHA256()))

    svid = renewed()
    object.__setattr__(svid, "private_key", OtherWords(svid.private_key))
    assert refusal(server, make_proof(client, svid, 1)) is VerifyReason.PROOF_INVALID


def test_malformed_proofs_are_refused() -> None:
    client, server = link()
    proof = make_proof(client, renewed(), 1)
    assert refusal(server, b"") is VerifyReason.MALFORMED
    assert refusal(server, proof[:-1]) is VerifyReason.MALFORMED
    assert refusal(server, proof + b"\x00") is VerifyReason.MALFORMED
    assert refusal(server, b"\x0f" + proof[1:]) is VerifyReason.MALFORMED
    assert refusal(server, bytes(PROOF_LIMIT_BYTES + 1)) is VerifyReason.MALFORMED
    assert refusal(server, bytes(PROOF_LIMIT_BYTES)) is VerifyReason.MALFORMED


def test_proof_too_large_to_be_accepted_is_not_made() -> None:
    client, _ = link()
    svid = CA.svid(WEB, chain=[bytes(9000), bytes(9000)])
    with pytest.raises(ValueError, match="shorten the chain"):
        make_proof(client, svid, 1)
