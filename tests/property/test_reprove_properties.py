"""Properties of re-proofs: any changed, cut or invented byte is refused, and only ever by VerificationError."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ringfence.kit.clock import FakeClock
from ringfence.spiffe import ChainVerifier, SpiffeId, VerificationError
from sidecar.reprove import check_proof, make_proof
from sidecar.tls import TlsIdentity
from tests.pki import TestCa
from tests.tls_ends import connected

NOW = 1_800_000_000.0
CA = TestCa("shop.example", now=NOW)
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
VERIFIER = ChainVerifier([CA.bundle()])
CLIENT, SERVER = connected(
    TlsIdentity(CA.svid(WEB), [CA.bundle()], FakeClock(NOW)),
    TlsIdentity(CA.svid("spiffe://shop.example/ns/shop/sa/orders"), [CA.bundle()], FakeClock(NOW)),
)
PROOF = make_proof(CLIENT, CA.svid(WEB), 1)


def refused(proof: bytes) -> None:
    with pytest.raises(VerificationError):
        check_proof(SERVER, VERIFIER, proof, WEB, 1, NOW)


def test_the_unchanged_proof_is_good() -> None:
    assert check_proof(SERVER, VERIFIER, PROOF, WEB, 1, NOW).spiffe_id == WEB


@settings(max_examples=300)
@given(st.integers(0, len(PROOF) - 1), st.integers(1, 255))
def test_changed_byte_is_refused(place: int, change: int) -> None:
    refused(PROOF[:place] + bytes([PROOF[place] ^ change]) + PROOF[place + 1 :])


@given(st.integers(0, len(PROOF) - 1))
def test_cut_proof_is_refused(size: int) -> None:
    refused(PROOF[:size])


@given(st.binary(max_size=400))
def test_invented_proof_is_refused(proof: bytes) -> None:
    assume(proof != PROOF)
    refused(proof)
    refused(PROOF + proof) if proof else None


@given(st.integers(0, 2**64 - 1))
def test_any_other_number_is_refused(counter: int) -> None:
    assume(counter != 1)
    with pytest.raises(VerificationError):
        check_proof(SERVER, VERIFIER, PROOF, WEB, counter, NOW)
