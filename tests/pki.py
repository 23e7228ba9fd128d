"""A small certificate authority for tests: good SVIDs in one line, rogue ones by naming what is wrong with them.

>>> ca = TestCa("shop.example")
>>> good = ca.svid("spiffe://shop.example/ns/shop/sa/web")
>>> old = ca.svid("spiffe://shop.example/ns/shop/sa/web", not_before=-7200, lifetime=3600)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ringfence.spiffe import SpiffeId, SpiffeIdError, TrustBundle, TrustDomain, X509Svid, serial_hex

BOTH_USES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
NO_ID = SpiffeId.parse("spiffe://rogue.invalid/no-valid-id")  # stands in an X509Svid whose certificate has no one ID

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def key_usage(*names: str) -> x509.KeyUsage:
    """A KeyUsage with exactly the bits named, by the argument names of ``cryptography.x509.KeyUsage``."""
    return x509.KeyUsage(**{usage: usage in names for usage in _USAGES})


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """A key with its certificate that signs others; ``above`` are the certificates between it and the root."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, above: Sequence[bytes]) -> None:
        self.key = key
        self.certificate = certificate
        self.above = tuple(above)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


class TestCa:
    """The authority of one trust domain: a root and, unless ``intermediate=False``, an issuing intermediate.

    ``now`` is the moment, in Unix seconds, that all lifetimes are counted from; the machine's clock by default.
    ``constrained`` puts a URI name constraint for the trust domain's host on the intermediate.
    """

    __test__ = False

    def __init__(
        self,
        trust_domain: str | TrustDomain,
        *,
        now: float | None = None,
        intermediate: bool = True,
        constrained: bool = True,
    ) -> None:
        self.trust_domain = trust_domain if isinstance(trust_domain, TrustDomain) else TrustDomain(trust_domain)
        self.now = time.time() if now is None else now
        self.root = self._issuer(None, f"root of {self.trust_domain}", lifetime=10 * 365 * 86400.0)
        self.issuing = self.intermediate(self.root, permitted_host=constrained) if intermediate else self.root

    def bundle(self) -> TrustBundle:
        return TrustBundle(self.trust_domain, (self.root.der,))

    def intermediate(
        self,
        issuer: Issuer | None = None,
        *,
        permitted_host: str | bool = False,
        permitted_names: Sequence[x509.GeneralName] = (),
        lifetime: float = 365 * 86400.0,
        ca: bool | None = True,
        usage: x509.KeyUsage | None = None,
    ) -> Issuer:
        """A further issuer under ``issuer`` (the issuing one by default).

        ``permitted_host``: a host for its URI name constraint, True for the trust domain's; ``permitted_names``: the
        rest of what it permits. ``ca=None`` leaves basic constraints out.
        """
        host = str(self.trust_domain) if permitted_host is True else permitted_host
        permitted = (*permitted_names, *((x509.UniformResourceIdentifier(host),) if host else ()))
        signer = issuer or self.issuing
        return self._issuer(signer, "intermediate", lifetime=lifetime, permitted=permitted, ca=ca, usage=usage)

    def svid(
        self,
        spiffe_id: SpiffeId | str,
        lifetime: float = 3600.0,
        *,
        not_before: float = -60.0,
        issuer: Issuer | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        uris: Iterable[str] | None = None,
        dns: Iterable[str] = (),
        san: bool = True,
        ca: bool | None = False,
        usage: x509.KeyUsage | None = key_usage("digital_signature"),  # noqa: B008
        usage_critical: bool = True,
        extended: Sequence[x509.ObjectIdentifier] | None = BOTH_USES,
        chain: Sequence[bytes] | None = None,
        self_signed: bool = False,
        extra: Iterable[tuple[x509.ExtensionType, bool]] = (),
    ) -> X509Svid:
        """An SVID for ``spiffe_id``, valid from ``not_before`` (seconds from now) until ``lifetime`` seconds from now.

        Every other option makes it rogue: ``uris`` instead of the one SPIFFE ID, ``san=False``, ``ca=True``, a key
        ``usage`` (None: none), ``extended`` uses (None: none), another ``issuer``, a ``chain`` shown above the leaf
        other than the true one, ``self_signed``, ``extra`` extensions with their criticality.
        """
        key = key or new_key()
        signer = issuer or self.issuing
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
        for uri in [str(spiffe_id)] if uris is None else uris:
            names.append(_uri(uri))
        extensions: list[tuple[x509.ExtensionType, bool]] = list(extra)
        if san:
            extensions.append((x509.SubjectAlternativeName(names), True))
        if ca is not None:
            extensions.append((x509.BasicConstraints(ca=ca, path_length=None), True))
        if usage is not None:
            extensions.append((usage, usage_critical))
        if extended is not None:
            extensions.append((x509.ExtendedKeyUsage(extended), False))
        issuer_of = None if self_signed else signer
        leaf = self._sign(issuer_of, key, None, not_before, lifetime, extensions)
        above = () if self_signed else signer.above if chain is None else tuple(chain)
        return X509Svid(
            spiffe_id=_id_or_none(spiffe_id),
            chain=(leaf.public_bytes(Encoding.DER), *above),
            private_key=key,
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
            serial=serial_hex(leaf),
        )

    def _issuer(
        self,
        signer: Issuer | None,
        name: str,
        *,
        lifetime: float,
        permitted: Sequence[x509.GeneralName] = (),
        ca: bool | None = True,
        usage: x509.KeyUsage | None = None,
    ) -> Issuer:
        key = new_key()
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (usage or key_usage("key_cert_sign", "crl_sign"), True),
        ]
        if ca is not None:
            extensions.append((x509.BasicConstraints(ca=ca, path_length=None), True))
        if permitted:
            extensions.append((x509.NameConstraints(permitted, None), True))
        certificate = self._sign(signer, key, name, -86400.0, lifetime, extensions)
        above = () if signer is None else (certificate.public_bytes(Encoding.DER), *signer.above)
        return Issuer(key, certificate, above)

    def _sign(
        self,
        signer: Issuer | None,
        key: ec.EllipticCurvePrivateKey,
        name: str | None,
        not_before: float,
        lifetime: float,
        extensions: Iterable[tuple[x509.ExtensionType, bool]],
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        start = datetime.fromtimestamp(int(self.now), UTC)
        issuer_key = signer.key if signer else key
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer.certificate.subject if signer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start + timedelta(seconds=not_before))
            .not_valid_after(start + timedelta(seconds=lifetime))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(issuer_key, hashes.SHA256())


def _uri(text: str) -> x509.UniformResourceIdentifier:
    """A URI name with any text at all, which the library would not make by itself."""
    name: Any = x509.UniformResourceIdentifier.__new__(x509.UniformResourceIdentifier)
    name._value = text
    return name  # type: ignore[no-any-return]


def _id_or_none(spiffe_id: SpiffeId | str) -> SpiffeId:
    if isinstance(spiffe_id, SpiffeId):
        return spiffe_id
    try:
        return SpiffeId.parse(spiffe_id)
    except SpiffeIdError:
        return NO_ID
