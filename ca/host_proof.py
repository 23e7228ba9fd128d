"""Host keys: what a sidecar's long-lived key signs to enrol and to attest again, and how that is checked. Pure.

A host key can do nothing but attest the workload that it was enrolled for. All messages start with a label of their
own, so that a signature made for one purpose never serves another:

- enrol:  ``"ringfence-enrol-v1\\0" || SHA-256(token) || SHA-256(csr)``
- attest: ``"ringfence-attest-v1\\0" || nonce || SHA-256(csr)``
- prove: ``"ringfence-prove-v1\\0" || SHA-256(kind) || SHA-256(evidence) || SHA-256(csr)``

Each binds the CSR: who steals the message in flight cannot have another key certified with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from ca.errors import RequestInvalid

HOST_KEY_LIMIT_BYTES: Final = 256
SIGNATURE_LIMIT_BYTES: Final = 128
_ENROL: Final = b"ringfence-enrol-v1\0"
_ATTEST: Final = b"ringfence-attest-v1\0"
_PROVE: Final = b"ringfence-prove-v1\0"
_SIGNATURE_ALGORITHM: Final = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """A host's public key, P-256; ``key_id`` is the lower-case hex SHA-256 of ``spki`` (SubjectPublicKeyInfo, DER)."""

    spki: bytes
    key_id: str
    public_key: ec.EllipticCurvePublicKey

    @classmethod
    def parse(cls, spki: bytes) -> HostKey:
        """RequestInvalid unless ``spki`` is a P-256 key in its one canonical encoding (others would be other ids)."""
        if len(spki) > HOST_KEY_LIMIT_BYTES:
            raise RequestInvalid(f"host key of {len(spki)} bytes is larger than {HOST_KEY_LIMIT_BYTES}")
        try:
            key = load_der_public_key(spki)
        except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
            raise RequestInvalid("host key is not a SubjectPublicKeyInfo in DER") from problem
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise RequestInvalid("host key is not on P-256")
        if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
            raise RequestInvalid("host key is not canonically encoded (use an uncompressed point)")
        return cls(spki=spki, key_id=sha256(spki).hexdigest(), public_key=key)

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` (ECDSA-SHA256, DER) is this key's over ``message``."""
        if not 0 < len(signature) <= SIGNATURE_LIMIT_BYTES:
            return False
        try:
            self.public_key.verify(signature, message, _SIGNATURE_ALGORITHM)
        except InvalidSignature:
            return False
        return True


def enrol_message(token: str, csr: bytes) -> bytes:
    """What the host key signs to enrol with a join token; ``csr`` in DER."""
    return _ENROL + sha256(token.encode()).digest() + sha256(csr).digest()


def attest_message(nonce: bytes, csr: bytes) -> bytes:
    """What the host key signs to attest again, over a nonce of the authority's; ``csr`` in DER."""
    return _ATTEST + nonce + sha256(csr).digest()


def prove_message(kind: str, evidence: bytes, csr: bytes) -> bytes:
    """What the host key signs to enrol with evidence of a platform; ``csr`` in DER."""
    return _PROVE + sha256(kind.encode()).digest() + sha256(evidence).digest() + sha256(csr).digest()
