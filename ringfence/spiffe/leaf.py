"""The rules for the certificate that names a workload: X509-SVID standard, sections 2, 4 and 5.2.

Exactly one URI SAN and that a SPIFFE ID with a path; not a CA; key usage present, critical, with digitalSignature and
without keyCertSign and cRLSign; extended key usage, where present, with both serverAuth and clientAuth.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ringfence.spiffe.errors import VerificationError, VerifyReason
from ringfence.spiffe.ids import SpiffeId, SpiffeIdError

# What pyca/cryptography raises over bytes that are no readable certificate; a hostile peer chooses among all of them.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def read_certificate(der: bytes) -> x509.Certificate:
    """Parse one certificate, strictly; raises VerificationError (``malformed``)."""
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE as error:
        raise VerificationError(VerifyReason.MALFORMED, f"certificate cannot be read: {error}") from error


def check_leaf(certificate: x509.Certificate) -> SpiffeId:
    """The SPIFFE ID of a leaf that keeps the rules; raises VerificationError.

    Says nothing about trust: no signature, issuer or time is looked at.
    """
    if certificate.serial_number <= 0:
        # RFC 5280 section 4.1.2.2; refused by the parser itself in time, and no number to log or revoke by.
        raise VerificationError(VerifyReason.MALFORMED, "serial number of the leaf is not positive")
    try:
        extensions = certificate.extensions
        spiffe_id = _spiffe_id(extensions)
        _check_constraints(extensions)
        _check_key_usage(extensions)
    except UNREADABLE as error:
        raise VerificationError(VerifyReason.MALFORMED, f"certificate extensions cannot be read: {error}") from error
    return spiffe_id


def serial_hex(certificate: x509.Certificate) -> str:
    """The serial number as Ringfence writes it everywhere: lower-case hex without leading zeros."""
    return format(certificate.serial_number, "x")


def _spiffe_id(extensions: x509.Extensions) -> SpiffeId:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise VerificationError(VerifyReason.SPIFFE_ID_COUNT, "leaf has no subject alternative name") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise VerificationError(VerifyReason.SPIFFE_ID_COUNT, f"leaf has {len(uris)} URI names, not exactly one")
    try:
        spiffe_id = SpiffeId.parse(uris[0])
    except SpiffeIdError as error:
        raise VerificationError(VerifyReason.SPIFFE_ID_INVALID, str(error)) from error
    if not spiffe_id.path:
        raise VerificationError(VerifyReason.SPIFFE_ID_INVALID, f"{spiffe_id} names a trust domain, not a workload")
    return spiffe_id


def _check_constraints(extensions: x509.Extensions) -> None:
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return
    if constraints.ca:
        raise VerificationError(VerifyReason.LEAF_RULES, "leaf is a CA certificate")


def _check_key_usage(extensions: x509.Extensions) -> None:
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        raise VerificationError(VerifyReason.LEAF_RULES, "leaf has no key usage") from None
    if not usage.critical:
        raise VerificationError(VerifyReason.LEAF_RULES, "key usage of the leaf is not critical")
    if not usage.value.digital_signature:
        raise VerificationError(VerifyReason.LEAF_RULES, "key usage of the leaf lacks digitalSignature")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise VerificationError(VerifyReason.LEAF_RULES, "key usage of the leaf has keyCertSign or cRLSign")
    try:
        extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in extended or ExtendedKeyUsageOID.CLIENT_AUTH not in extended:
        raise VerificationError(VerifyReason.LEAF_RULES, "extended key usage lacks serverAuth or clientAuth")
