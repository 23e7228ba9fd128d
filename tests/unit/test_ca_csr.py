"""Certificate signing requests: one public key comes out, or nothing."""

from __future__ import annotations

import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from ca.csr import CSR_LIMIT_BYTES, public_key_of_csr
from ca.errors import CsrRefused
from tests.authorities import make_csr


def signed(key: object, digest: hashes.HashAlgorithm | None, *extensions: x509.ExtensionType) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ignored")])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, digest).public_bytes(Encoding.DER)  # type: ignore[arg-type]


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_curves_from_p256_up_are_taken(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    assert public_key_of_csr(make_csr(key)) == key.public_key()


def test_names_and_extensions_of_the_request_are_not_even_looked_at() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://shop.example/ns/x/sa/admin")])
    csr = signed(key, hashes.SHA256(), names, x509.BasicConstraints(ca=True, path_length=None))
    assert public_key_of_csr(csr) == key.public_key()


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1()])
def test_other_curves_are_refused(curve: ec.EllipticCurve) -> None:
    with pytest.raises(CsrRefused, match="P-256"):
        public_key_of_csr(make_csr(ec.generate_private_key(curve)))


def test_other_kinds_of_key_are_refused() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for csr in (signed(weak, hashes.SHA256()), signed(ed25519.Ed25519PrivateKey.generate(), None)):
        with pytest.raises(CsrRefused, match="P-256"):
            public_key_of_csr(csr)


def test_a_request_signed_by_another_key_is_refused() -> None:
    csr = bytearray(make_csr())
    csr[-4] ^= 1
    with pytest.raises(CsrRefused, match="not signed by its own key"):
        public_key_of_csr(bytes(csr))


def test_a_request_with_its_key_swapped_is_refused() -> None:
    mine, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    my_point, their_point = (
        key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for key in (mine, theirs)
    )
    csr = make_csr(mine)
    assert my_point in csr
    with pytest.raises(CsrRefused, match="not signed by its own key"):
        public_key_of_csr(csr.replace(my_point, their_point))


@pytest.mark.parametrize(
    "rubbish", [b"", b"\x30", b"rubbish", b"\x30\x80\x00\x00", b"-----BEGIN CERTIFICATE REQUEST-----"]
)
def test_rubbish_is_refused(rubbish: bytes) -> None:
    with pytest.raises(CsrRefused, match="PKCS#10"):
        public_key_of_csr(rubbish)


@pytest.mark.parametrize("version", [1, 2, 127])
def test_a_request_of_a_version_that_does_not_exist_is_refused(version: int) -> None:
    csr = make_csr()
    place = csr.index(b"\x02\x01\x00")  # version v1(0), RFC 2986 section 4.1
    with pytest.raises(CsrRefused, match="PKCS#10"):
        public_key_of_csr(csr[: place + 2] + bytes([version]) + csr[place + 3 :])


def test_a_byte_changed_anywhere_is_refused_or_the_same_key_and_never_anything_else() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = make_csr(key)
    for place in range(len(csr)):
        for flip in (0x01, 0x80, 0xFF):
            changed = csr[:place] + bytes([csr[place] ^ flip]) + csr[place + 1 :]
            with contextlib.suppress(CsrRefused):
                assert public_key_of_csr(changed) == key.public_key()


def test_every_truncation_and_every_trailing_byte_is_refused() -> None:
    csr = make_csr()
    for end in range(0, len(csr), 7):
        with pytest.raises(CsrRefused):
            public_key_of_csr(csr[:end])
    with pytest.raises(CsrRefused):
        public_key_of_csr(csr + b"\0")


def test_a_huge_request_is_refused_before_it_is_parsed() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(f"{number}.shop.example") for number in range(300)])
    csr = signed(key, hashes.SHA256(), names)
    assert len(csr) > CSR_LIMIT_BYTES
    with pytest.raises(CsrRefused, match="larger than"):
        public_key_of_csr(csr)
