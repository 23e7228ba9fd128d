"""Issuing, in named stages: prepare the template, sign it, validate the output, record it, hand it out.

This module owns the stages that need the signing key: ``sign`` and ``validate``. ``ca.template`` prepares,
``ca.store.record`` records, and ``ca.line`` takes each order through all five and alone hands out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca.errors import OutputRefused
from ca.hierarchy import Hierarchy
from ca.leaf_der import LeafEncoder, certificate
from ca.template import IssuerSpan, LeafTemplate
from ringfence.spiffe import ChainVerifier, SpiffeId, TrustBundle, VerificationError

_SIGNATURE: Final = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedSvid:
    """What a caller gets: ``chain`` in DER, leaf first, without the root; times in Unix seconds; ``serial`` hex."""

    spiffe_id: SpiffeId
    chain: tuple[bytes, ...]
    serial: str
    not_before: int
    not_after: int

    def chain_pem(self) -> bytes:
        """The chain as PEM blocks."""
        return b"".join(x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in self.chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """The signing key with its certificate, and the verifier that peers will use on what it signs."""

    hierarchy: Hierarchy
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    span: IssuerSpan
    verifier: ChainVerifier
    intermediate_der: bytes
    encoder: LeafEncoder

    @classmethod
    def of(cls, hierarchy: Hierarchy, key: ec.EllipticCurvePrivateKey) -> Issuer:
        intermediate = hierarchy.intermediate
        key_id = intermediate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return cls(
            hierarchy=hierarchy,
            key=key,
            span=IssuerSpan(
                not_before=int(intermediate.not_valid_before_utc.timestamp()),
                not_after=int(intermediate.not_valid_after_utc.timestamp()),
            ),
            verifier=ChainVerifier([TrustBundle(hierarchy.trust_domain, (hierarchy.root_der,))]),
            intermediate_der=hierarchy.intermediate_der,
            encoder=LeafEncoder(
                intermediate.subject, x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)
            ),
        )

    def sign(self, template: LeafTemplate) -> bytes:
        """The leaf in DER; OutputRefused for a template that no certificate can say."""
        try:
            to_be_signed = self.encoder.to_be_signed(template)
        except ValueError as problem:
            raise OutputRefused(f"no certificate can be made for {template.spiffe_id}: {problem}") from problem
        return certificate(to_be_signed, self.key.sign(to_be_signed, _SIGNATURE))

    def validate(self, template: LeafTemplate, leaf_der: bytes, now: float) -> IssuedSvid:
        """The SVID, once it has passed what peers check, and says exactly what the template said.

        OutputRefused otherwise: a wrong key file, a name beyond the constraints, a bug. Nothing wrong leaves the house.
        """
        try:
            peer = self.verifier.verify((leaf_der, self.intermediate_der), now, (template.spiffe_id,))
            leaf = x509.load_der_x509_certificate(leaf_der)
            faithful = (
                peer.serial == template.serial_hex
                and int(peer.not_after) == template.not_after
                and leaf.public_key() == template.public_key
            )
        except (VerificationError, ValueError, UnsupportedAlgorithm) as problem:
            raise OutputRefused(f"signed SVID for {template.spiffe_id} fails verification: {problem}") from problem
        if not faithful:
            raise OutputRefused(f"signed SVID for {template.spiffe_id} differs from its template")
        return IssuedSvid(
            spiffe_id=template.spiffe_id,
            chain=(leaf_der, self.intermediate_der),
            serial=template.serial_hex,
            not_before=template.not_before,
            not_after=template.not_after,
        )
