"""SVIDs: read from a chain and a key, never showing the key."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ringfence.spiffe import VerificationError, VerifyReason, X509Svid
from tests.pki import TestCa, new_key

CA = TestCa("shop.example", now=1_800_000_000.0)
WEB = "spiffe://shop.example/ns/shop/sa/web"


def test_everything_is_read_from_the_leaf() -> None:
    made = CA.svid(WEB, lifetime=600)
    read = X509Svid.from_chain(list(made.chain), made.private_key)
    assert (str(read.spiffe_id), read.chain, read.serial) == (WEB, made.chain, made.serial)
    assert (read.not_before, read.not_after) == (1_800_000_000.0 - 60, 1_800_000_000.0 + 600)


def test_key_is_not_shown() -> None:
    made = CA.svid(WEB)
    number = made.private_key.private_numbers().private_value
    assert "private_key" not in repr(made)
    assert str(number) not in repr(made)


def test_leaf_for_another_key_is_refused() -> None:
    with pytest.raises(VerificationError) as caught:
        X509Svid.from_chain(CA.svid(WEB).chain, new_key())
    assert caught.value.reason is VerifyReason.LEAF_RULES


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ((), VerifyReason.NO_CERTIFICATE),
        ((b"",), VerifyReason.MALFORMED),
        ((b"\x30\x00",), VerifyReason.MALFORMED),
        ((CA.issuing.der,), VerifyReason.SPIFFE_ID_COUNT),
    ],
)
def test_chain_without_a_good_leaf_is_refused(chain: tuple[bytes, ...], reason: VerifyReason) -> None:
    with pytest.raises(VerificationError) as caught:
        X509Svid.from_chain(chain, new_key())
    assert caught.value.reason is reason


def test_pem_forms_hold_the_same_chain_and_key() -> None:
    made = CA.svid(WEB)
    certificates = x509.load_pem_x509_certificates(made.chain_pem())
    assert tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates) == made.chain
    key = load_pem_private_key(made.private_key_pem(), None)
    assert key.public_key() == made.private_key.public_key()
