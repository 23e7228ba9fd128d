"""The X.509 SVID that a workload holds: its identity document with the private key, in memory only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ringfence.spiffe.errors import VerificationError, VerifyReason
from ringfence.spiffe.ids import SpiffeId
from ringfence.spiffe.leaf import check_leaf, read_certificate, serial_hex


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class X509Svid:
    """An identity with its key. ``chain`` is DER, leaf first, then intermediates, without the root.

    ``not_before`` and ``not_after`` are the leaf's, in seconds since the Unix epoch; ``serial`` is lower-case hex.
    """

    spiffe_id: SpiffeId
    chain: tuple[bytes, ...]
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    not_before: float
    not_after: float
    serial: str

    @classmethod
    def from_chain(cls, chain: Sequence[bytes], private_key: ec.EllipticCurvePrivateKey) -> X509Svid:
        """Read the rest from the leaf; raises VerificationError when it breaks the rules or is not for that key.

        Trust is not judged here: verify the chain with the verifier that peers use before showing it to anyone.
        """
        if not chain:
            raise VerificationError(VerifyReason.NO_CERTIFICATE, "chain is empty")
        leaf = read_certificate(chain[0])
        spiffe_id = check_leaf(leaf)
        if _public_key(leaf) != private_key.public_key():
            raise VerificationError(VerifyReason.LEAF_RULES, "leaf is for another key")
        return cls(
            spiffe_id=spiffe_id,
            chain=tuple(chain),
            private_key=private_key,
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
            serial=serial_hex(leaf),
        )

    def chain_pem(self) -> bytes:
        """The chain as PEM blocks, leaf first, for libraries that take PEM in memory."""
        return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in self.chain)

    def private_key_pem(self) -> bytes:
        """The key as unencrypted PKCS#8 PEM, for libraries that take PEM in memory; never to be written anywhere."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public_key(leaf: x509.Certificate) -> CertificatePublicKeyTypes:
    try:
        return leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationError(VerifyReason.MALFORMED, f"key of the leaf cannot be read: {error}") from error
