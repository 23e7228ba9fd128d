"""Trust bundles: roots of one trust domain, read and written as PEM."""

from __future__ import annotations

import hashlib

import pytest

from ringfence.spiffe import BundleError, TrustBundle, TrustDomain, fingerprint
from tests.pki import TestCa

SHOP = TrustDomain("shop.example")


def test_pem_round_trip_keeps_every_root_in_order() -> None:
    bundle = TrustBundle(SHOP, (TestCa(SHOP).root.der, TestCa(SHOP).root.der))
    assert TrustBundle.from_pem(SHOP, bundle.to_pem()) == bundle
    assert TrustBundle.from_pem(SHOP, bundle.to_pem().decode()) == bundle
    assert bundle.to_pem().count(b"BEGIN CERTIFICATE") == 2


def test_text_around_the_blocks_is_no_matter() -> None:
    bundle = TestCa(SHOP).bundle()
    assert TrustBundle.from_pem(SHOP, b"root of the shop:\n" + bundle.to_pem() + b"\n") == bundle


@pytest.mark.parametrize(
    "pem",
    [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ключ", b"\xff\xfe"],
)
def test_pem_without_readable_certificates_is_refused(pem: bytes | str) -> None:
    with pytest.raises(BundleError, match=r"shop\.example"):
        TrustBundle.from_pem(SHOP, pem)


def test_root_that_is_no_certificate_is_refused_and_numbered() -> None:
    good = TestCa(SHOP).root.der
    for bad in (b"", b"\x30\x00", good[:-1], good + b"\x00"):
        with pytest.raises(BundleError, match="root 2 of trust domain"):
            TrustBundle(SHOP, (good, bad))


def test_bundle_without_roots_is_a_bundle() -> None:
    assert TrustBundle(SHOP, ()).to_pem() == b""


def test_fingerprint_is_sha256_in_lower_case_hex() -> None:
    assert fingerprint(b"der") == hashlib.sha256(b"der").hexdigest()
