"""The certificates that sign: a root for ten years, and a name-constrained issuing intermediate below it. Pure.

The intermediate may speak only for its own trust domain. RFC 5280 section 4.2.1.10 constrains URIs by their host, so
the constraint is the bare host ``shop.example``; written as ``spiffe://shop.example`` it would match nothing. DNS
names are constrained to the trust domain's own and to those given when the authority was made.

A signing certificate carries the trust domain's path-less SPIFFE ID (X509-SVID, section 3.2) and never authenticates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from ca.errors import DataFolderError
from ringfence.spiffe import TrustDomain

DAY_SECONDS: Final = 86_400
ROOT_LIFETIME_SECONDS: Final = 3652 * DAY_SECONDS
INTERMEDIATE_LIFETIME_SECONDS: Final = 3 * 365 * DAY_SECONDS
# Signing certificates begin an hour back: a peer whose clock is behind must be able to build the chain too.
SIGNER_BACKDATE_SECONDS: Final = 3600

_DNS_NAME: Final = re.compile(r"(?=.{1,253}\Z)(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
SIGNING_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """The two signing certificates of one trust domain, root and issuing intermediate."""

    trust_domain: TrustDomain
    root: x509.Certificate
    intermediate: x509.Certificate

    @property
    def root_der(self) -> bytes:
        return self.root.public_bytes(Encoding.DER)

    @property
    def intermediate_der(self) -> bytes:
        return self.intermediate.public_bytes(Encoding.DER)

    @property
    def dns_constraints(self) -> tuple[str, ...]:
        """DNS names under which leaves may be issued."""
        constraints = self.intermediate.extensions.get_extension_for_class(x509.NameConstraints).value
        return tuple(name.value for name in constraints.permitted_subtrees or () if isinstance(name, x509.DNSName))


def is_dns_name(name: str) -> bool:
    """Whether ``name`` is a lower-case DNS host name (RFC 1123), fit for a constraint: no wildcard, no dot first."""
    return _DNS_NAME.fullmatch(name) is not None


def utc(seconds: float) -> datetime:
    """Unix seconds as certificates want them: whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), UTC)


def build_root(
    key: ec.EllipticCurvePrivateKey, trust_domain: TrustDomain, *, now: float, serial: int
) -> x509.Certificate:
    """A self-signed root of ten years. Its name carries its serial, so that two roots of one domain differ in name."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ringfence root {serial:032x}")])
    builder = _signer(name, name, key.public_key(), trust_domain, path_length=1)
    return (
        builder.serial_number(serial)
        .not_valid_before(utc(now - SIGNER_BACKDATE_SECONDS))
        .not_valid_after(utc(now + ROOT_LIFETIME_SECONDS))
        .sign(key, hashes.SHA256())
    )


def build_intermediate(
    key: ec.EllipticCurvePublicKey,
    *,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    trust_domain: TrustDomain,
    dns_names: Iterable[str],
    now: float,
    serial: int,
) -> x509.Certificate:
    """The issuing intermediate for ``key``: three years, never past its root, leaves only, names constrained."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ringfence issuing {serial:032x}")])
    permitted: list[x509.GeneralName] = [x509.UniformResourceIdentifier(trust_domain.name)]
    permitted += [x509.DNSName(dns) for dns in dict.fromkeys((trust_domain.name, *dns_names))]
    root_key_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    end = min(int(now + INTERMEDIATE_LIFETIME_SECONDS), int(root.not_valid_after_utc.timestamp()))
    return (
        _signer(name, root.subject, key, trust_domain, path_length=0)
        .serial_number(serial)
        .not_valid_before(utc(now - SIGNER_BACKDATE_SECONDS))
        .not_valid_after(utc(end))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_key_id), critical=False)
        .add_extension(x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None), critical=True)
        .sign(root_key, hashes.SHA256())
    )


def _signer(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    trust_domain: TrustDomain,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    """What root and intermediate have in common."""
    uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain.name}")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(SIGNING_KEY_USAGE, critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def read_hierarchy(root_pem: bytes, intermediate_pem: bytes) -> Hierarchy:
    """The hierarchy that two PEM files hold; DataFolderError unless they fit together and name one trust domain."""
    try:
        root = x509.load_pem_x509_certificate(root_pem)
        intermediate = x509.load_pem_x509_certificate(intermediate_pem)
        names = {_only_uri(root), _only_uri(intermediate)}
        if len(names) != 1:
            raise DataFolderError(f"root and intermediate name different trust domains: {', '.join(sorted(names))}")
        trust_domain = TrustDomain.parse(names.pop())
        root.verify_directly_issued_by(root)
        intermediate.verify_directly_issued_by(root)
    except InvalidSignature as problem:
        raise DataFolderError("intermediate was not signed by root (files of two authorities mixed?)") from problem
    except (ValueError, TypeError, x509.ExtensionNotFound) as problem:
        raise DataFolderError(f"malformed authority certificate: {problem}") from problem
    return Hierarchy(trust_domain=trust_domain, root=root, intermediate=intermediate)


def _only_uri(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise DataFolderError(f"authority certificate has {len(uris)} URI names instead of 1")
    return uris[0]


def same_key(private: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bool:
    """Whether ``certificate`` certifies the public half of ``private``."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)
