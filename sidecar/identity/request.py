"""A new key and the CSR that asks for its SVID. The key stays in memory and is used for one SVID only."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ringfence.spiffe import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class SvidRequest:
    """A P-256 key and its PKCS#10 request in DER."""

    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    csr: bytes


def draw_request(spiffe_id: SpiffeId) -> SvidRequest:
    """A request with a new key. The CA takes only the public key of it; the name is for whoever reads a capture."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    return SvidRequest(
        private_key=private_key, csr=builder.sign(private_key, hashes.SHA256()).public_bytes(Encoding.DER)
    )
