"""What the authority takes from a certificate signing request: its public key, and nothing else. Pure.

Names, extensions and attributes of the request are not read: the caller's identity comes from how it proved itself.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ca.errors import CsrRefused

# A P-521 request with a long subject takes under 700 bytes.
CSR_LIMIT_BYTES: Final = 4096
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def public_key_of_csr(der: bytes) -> ec.EllipticCurvePublicKey:
    """The request's public key: P-256, P-384 or P-521, shown to be the caller's by the request's own signature.

    CsrRefused otherwise: larger than 4 KiB, malformed (RFC 2986), another kind of key, signed by another key.
    """
    if len(der) > CSR_LIMIT_BYTES:
        raise CsrRefused(f"csr of {len(der)} bytes is larger than {CSR_LIMIT_BYTES}")
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        digest = request.signature_hash_algorithm
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as problem:
        raise CsrRefused("csr is not a well-formed PKCS#10 request in DER") from problem
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise CsrRefused("csr's key is not on P-256, P-384 or P-521 (make a P-256 key)")
    if not isinstance(digest, _HASHES):
        raise CsrRefused("csr is not signed with SHA-256, SHA-384 or SHA-512")
    try:
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise CsrRefused("csr's signature cannot be checked") from problem
    if not signed:
        raise CsrRefused("csr is not signed by its own key")
    return key


def public_key_of_spki(der: bytes) -> ec.EllipticCurvePublicKey:
    """A public key by itself, whose possession somebody else has seen proved; CsrRefused as above."""
    if len(der) > CSR_LIMIT_BYTES:
        raise CsrRefused(f"key of {len(der)} bytes is larger than {CSR_LIMIT_BYTES}")
    try:
        key = load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise CsrRefused("key is not a SubjectPublicKeyInfo in DER") from problem
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise CsrRefused("key is not on P-256, P-384 or P-521 (make a P-256 key)")
    return key
