"""A trust bundle: the root certificates of one trust domain. Bundles of different trust domains are never merged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ringfence.spiffe.errors import VerificationError
from ringfence.spiffe.ids import TrustDomain
from ringfence.spiffe.leaf import UNREADABLE, read_certificate


class BundleError(ValueError):
    """A trust bundle that cannot be read."""


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate's DER, lower-case hex: what a joining sidecar is given to pin its CA by."""
    return hashlib.sha256(der).hexdigest()


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The roots of ``trust_domain``, each one certificate in DER.

    No roots at all is allowed and means that nothing of that trust domain is trusted (SPIFFE Trust Domain and Bundle,
    section 4.2). Raises BundleError when a root is no certificate.
    """

    trust_domain: TrustDomain
    roots: tuple[bytes, ...]

    def __post_init__(self) -> None:
        for number, root in enumerate(self.roots, 1):
            try:
                read_certificate(root)
            except VerificationError as error:
                raise BundleError(f"root {number} of trust domain {self.trust_domain} is no certificate") from error

    def to_pem(self) -> bytes:
        """All roots as PEM blocks, in order; empty for a bundle without roots."""
        return b"".join(x509.load_der_x509_certificate(root).public_bytes(Encoding.PEM) for root in self.roots)

    @classmethod
    def from_pem(cls, trust_domain: TrustDomain, pem: bytes | str) -> TrustBundle:
        """Read the certificates of a PEM text; raises BundleError when there are none or one cannot be read."""
        text = pem.encode() if isinstance(pem, str) else pem
        try:
            roots = x509.load_pem_x509_certificates(text)
        except UNREADABLE as error:
            raise BundleError(f"bundle of trust domain {trust_domain} holds no readable PEM certificates") from error
        return cls(trust_domain, tuple(root.public_bytes(Encoding.DER) for root in roots))
