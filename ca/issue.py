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
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.errors import OutputRefused
from ca.hierarchy import Hierarchy, utc
from ca.template import IssuerSpan, LeafTemplate
from ringfence.spiffe import ChainVerifier, SpiffeId, TrustBundle, VerificationError

_NO_SUBJECT: Final = x509.Name([])
_LEAF: Final = x509.BasicConstraints(ca=False, path_length=None)
_LEAF_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_BOTH_SIDES: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_DIGEST: Final = hashes.SHA256()


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedSvid:
    """What a caller gets: ``chain`` in DER, leaf first, without the root; times in Unix seconds; ``serial`` hex."""

    spiffe_id: SpiffeId
    chain: tuple[bytes, ...]
    serial: str
    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """The signing key with its certificate, and the verifier that peers will use on what it signs."""

    hierarchy: Hierarchy
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    span: IssuerSpan
    verifier: ChainVerifier
    intermediate_der: bytes
    authority_key_id: x509.AuthorityKeyIdentifier

    @classmethod
    def of(cls, hierarchy: Hierarchy, key: ec.EllipticCurvePrivateKey) -> Issuer:
        certificate = hierarchy.intermediate
        key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return cls(
            hierarchy=hierarchy,
            key=key,
            span=IssuerSpan(
                not_before=int(certificate.not_valid_before_utc.timestamp()),
                not_after=int(certificate.not_valid_after_utc.timestamp()),
            ),
            verifier=ChainVerifier([TrustBundle(hierarchy.trust_domain, (hierarchy.root_der,))]),
            intermediate_der=hierarchy.intermediate_der,
            authority_key_id=x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id),
        )

    def sign(self, template: LeafTemplate) -> bytes:
        """The leaf in DER. Its subject is empty, so the SAN is critical (RFC 5280, section 4.2.1.6)."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(template.spiffe_id))]
        names += [x509.DNSName(name) for name in template.dns_names]
        return (
            x509.CertificateBuilder(
                issuer_name=self.hierarchy.intermediate.subject,
                subject_name=_NO_SUBJECT,
                public_key=template.public_key,
                serial_number=template.serial,
                not_valid_before=utc(template.not_before).replace(tzinfo=None),
                not_valid_after=utc(template.not_after).replace(tzinfo=None),
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(_LEAF_KEY_USAGE, critical=True)
            .add_extension(_BOTH_SIDES, critical=False)
            .add_extension(_LEAF, critical=True)
            .add_extension(self.authority_key_id, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(template.public_key), critical=False)
            .sign(self.key, _DIGEST)
            .public_bytes(Encoding.DER)
        )

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
