"""Who is on the other end of a gRPC call."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from controlplane.control.caller import CallerCheck
from ringfence.kit.clock import FakeClock
from ringfence.spiffe import VerificationError, VerifyReason, X509Svid
from tests.pki import TestCa

NOW = 1_800_000_000.0
CA = TestCa("shop.example", now=NOW)
WEB = "spiffe://shop.example/ns/shop/sa/web"


def context(svid: X509Svid, *, chain: bool = True) -> dict[str, list[bytes]]:
    """The properties that grpcio gives for a caller that showed ``svid``."""
    pem = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in svid.chain]
    return {"x509_pem_cert": [pem[0]], **({"x509_pem_cert_chain": pem[1:]} if chain else {})}


@pytest.fixture
def callers(clock: FakeClock) -> CallerCheck:
    return CallerCheck(CA.bundle(), clock)


def test_svid_of_the_mesh_is_believed(callers: CallerCheck) -> None:
    peer = callers.verify(context(CA.svid(WEB)))
    assert (str(peer.spiffe_id), peer.not_after) == (WEB, NOW + 3600.0)


def test_chain_that_repeats_its_leaf_is_the_same_chain(callers: CallerCheck) -> None:
    found = context(CA.svid(WEB))
    found["x509_pem_cert_chain"].insert(0, found["x509_pem_cert"][0])
    assert str(callers.verify(found).spiffe_id) == WEB


def beside_its_own(svid: X509Svid, der: bytes) -> dict[str, list[bytes]]:
    """A caller that sends one thing more."""
    found = context(svid)
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    found["x509_pem_cert_chain"].append(pem)
    return found


def of_version_eight(der: bytes) -> bytes:
    version = b"\xa0\x03\x02\x01"
    place = der.index(version) + len(version)
    return der[:place] + b"\x07" + der[place + 1 :]


ROGUES: dict[str, tuple[VerifyReason, Callable[[], dict[str, list[bytes]]]]] = {
    "nothing": (VerifyReason.NO_CERTIFICATE, dict),
    "no PEM": (VerifyReason.MALFORMED, lambda: {"x509_pem_cert": [b"hello"]}),
    "no certificate beside its own": (VerifyReason.MALFORMED, lambda: beside_its_own(CA.svid(WEB), b"hello")),
    "one of a version that does not exist beside its own": (
        VerifyReason.MALFORMED,
        lambda: beside_its_own(CA.svid(WEB), of_version_eight(CA.svid(WEB).chain[0])),
    ),
    "two IDs": (VerifyReason.SPIFFE_ID_COUNT, lambda: context(CA.svid(WEB, uris=[WEB, WEB + "2"]))),
    "another authority": (VerifyReason.UNTRUSTED, lambda: context(TestCa("shop.example", now=NOW).svid(WEB))),
    "another trust domain": (
        VerifyReason.UNKNOWN_TRUST_DOMAIN,
        lambda: context(TestCa("partner.example", now=NOW).svid("spiffe://partner.example/ns/shop/sa/web")),
    ),
    # As on a resumed session, whose certificate may be long past.
    "expired": (VerifyReason.EXPIRED, lambda: context(CA.svid(WEB, -1.0, not_before=-100.0))),
    "not yet valid": (VerifyReason.NOT_YET_VALID, lambda: context(CA.svid(WEB, not_before=100.0))),
    "without its chain": (VerifyReason.UNTRUSTED, lambda: context(CA.svid(WEB), chain=False)),
}


@pytest.mark.parametrize("rogue", ROGUES)
def test_anything_else_is_refused_for_its_reason(callers: CallerCheck, rogue: str) -> None:
    reason, make = ROGUES[rogue]
    with pytest.raises(VerificationError) as caught:
        callers.verify(make())
    assert caught.value.reason is reason
