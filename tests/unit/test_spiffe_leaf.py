"""The leaf rules. Each breach is also met in a handshake, in tests/adversarial/test_rogue_certificates.py."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from ringfence.spiffe import SpiffeId, VerificationError, VerifyReason, check_leaf, serial_hex
from tests.pki import TestCa, key_usage

CA = TestCa("shop.example")
WEB = "spiffe://shop.example/ns/shop/sa/web"


def leaf(**rogue: object) -> x509.Certificate:
    return x509.load_der_x509_certificate(CA.svid(WEB, **rogue).chain[0])  # type: ignore[arg-type]


def test_leaf_tells_its_canonical_id() -> None:
    assert check_leaf(leaf()) == SpiffeId.parse(WEB)
    assert str(check_leaf(leaf(uris=["Spiffe://SHOP.example/ns/shop/sa/web"]))) == WEB


@pytest.mark.parametrize(
    ("rogue", "reason"),
    [
        ({"uris": []}, VerifyReason.SPIFFE_ID_COUNT),
        ({"uris": [WEB, WEB]}, VerifyReason.SPIFFE_ID_COUNT),
        ({"san": False}, VerifyReason.SPIFFE_ID_COUNT),
        ({"uris": ["spiffe://shop.example"]}, VerifyReason.SPIFFE_ID_INVALID),
        ({"uris": ["urn:web"]}, VerifyReason.SPIFFE_ID_INVALID),
        ({"ca": True}, VerifyReason.LEAF_RULES),
        ({"usage": None}, VerifyReason.LEAF_RULES),
        ({"usage": key_usage("digital_signature", "crl_sign")}, VerifyReason.LEAF_RULES),
        ({"usage_critical": False}, VerifyReason.LEAF_RULES),
        ({"extended": [ExtendedKeyUsageOID.SERVER_AUTH]}, VerifyReason.LEAF_RULES),
        ({"extended": []}, VerifyReason.MALFORMED),
    ],
)
def test_breach_is_told_by_its_reason(rogue: dict[str, object], reason: VerifyReason) -> None:
    with pytest.raises(VerificationError) as caught:
        check_leaf(leaf(**rogue))
    assert caught.value.reason is reason
    assert str(caught.value) == f"{reason}: {caught.value.detail}"


def test_unreadable_extension_is_malformed_and_not_a_crash() -> None:
    broken = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.15"), b"\x03\x7f\x00")
    with pytest.raises(VerificationError) as caught:
        check_leaf(leaf(usage=None, extra=[(broken, True)]))
    assert caught.value.reason is VerifyReason.MALFORMED


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_serial_that_is_not_positive_is_refused() -> None:
    certificate = leaf()
    der = certificate.public_bytes(Encoding.DER)
    place = der.index(b"\x02\x01\x02\x02") + 5  # version 3, then the serial's tag and length
    negative = x509.load_der_x509_certificate(der[:place] + bytes([der[place] | 0x80]) + der[place + 1 :])
    assert negative.serial_number < 0
    with pytest.raises(VerificationError) as caught:
        check_leaf(negative)
    assert caught.value.reason is VerifyReason.MALFORMED


def test_serial_is_lower_case_hex_of_the_number() -> None:
    certificate = leaf()
    text = serial_hex(certificate)
    assert int(text, 16) == certificate.serial_number
    assert text == text.lower().lstrip("0")
