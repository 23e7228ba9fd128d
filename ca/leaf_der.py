"""The bytes of a leaf that get signed (TBSCertificate, RFC 5280, section 4.1), put together from prebuilt parts. Pure.

All leaves of one issuer are alike but for serial, times, names and key. What is alike is encoded once, by the library;
what differs is encoded here, in DER (X.690): lengths, a positive integer, two times, ASCII strings. A general builder
took longer over each leaf than the signature did. A property test holds the two together byte by byte, and
``Issuer.validate`` reads every leaf back with the parsers that peers use, before it leaves.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha1
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.template import LeafTemplate

_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_SEQUENCE: Final = 0x30
_DNS_NAME: Final = 0x82
_URI: Final = 0x86
_EXTENSIONS: Final = 0xA3
_VERSION_3: Final = bytes.fromhex("a003020102")
_CRITICAL: Final = bytes.fromhex("0101ff")
_ECDSA_WITH_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")  # RFC 5758, section 3.2: no parameters
_NO_SUBJECT: Final = bytes.fromhex("3000")
_UNCOMPRESSED: Final = 0x04
_YEAR_OF_LONG_TIMES: Final = 2050  # RFC 5280, section 4.1.2.5
_SERIAL_LIMIT: Final = 1 << 159  # 20 bytes (section 4.1.2.2)

_LEAF: Final = x509.BasicConstraints(ca=False, path_length=None)
_KEY_USAGE: Final = x509.KeyUsage(
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
_NAMES_HEAD: Final = bytes.fromhex("0603551d11") + _CRITICAL
_KEY_ID_HEAD: Final = bytes.fromhex("0603551d0e")


class LeafEncoder:
    """Encodes the leaves of one issuer."""

    __slots__ = ("_alike", "_issuer")

    def __init__(self, issuer: x509.Name, authority_key_id: x509.AuthorityKeyIdentifier) -> None:
        self._issuer = issuer.public_bytes()
        self._alike = (
            _extension(_KEY_USAGE, critical=True)
            + _extension(_BOTH_SIDES, critical=False)
            + _extension(_LEAF, critical=True)
            + _extension(authority_key_id, critical=False)
        )

    def to_be_signed(self, template: LeafTemplate) -> bytes:
        """The TBSCertificate. Its subject is empty, so the SAN is critical (RFC 5280, section 4.2.1.6).

        ValueError for a template that no certificate can say.
        """
        spki = template.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        names = _ascii(_URI, str(template.spiffe_id)) + b"".join(_ascii(_DNS_NAME, name) for name in template.dns_names)
        extensions = (
            _tlv(_SEQUENCE, _NAMES_HEAD + _tlv(_OCTET_STRING, _tlv(_SEQUENCE, names)))
            + self._alike
            + _tlv(
                _SEQUENCE, _KEY_ID_HEAD + _tlv(_OCTET_STRING, _tlv(_OCTET_STRING, _key_id(template.public_key, spki)))
            )
        )
        return _tlv(
            _SEQUENCE,
            _VERSION_3
            + _serial(template.serial)
            + _ECDSA_WITH_SHA256
            + self._issuer
            + _tlv(_SEQUENCE, _time(template.not_before) + _time(template.not_after))
            + _NO_SUBJECT
            + spki
            + _tlv(_EXTENSIONS, _tlv(_SEQUENCE, extensions)),
        )


def certificate(to_be_signed: bytes, signature: bytes) -> bytes:
    """The certificate in DER; ``signature``: ECDSA with SHA-256, as RFC 3279 section 2.2.3 encodes it."""
    return _tlv(_SEQUENCE, to_be_signed + _ECDSA_WITH_SHA256 + _tlv(_BIT_STRING, b"\0" + signature))


def _tlv(tag: int, content: bytes) -> bytes:
    """Tag, the shortest form of the length, content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    if size < 0x100:
        return bytes((tag, 0x81, size)) + content
    if size < 0x10000:
        return bytes((tag, 0x82, size >> 8, size & 0xFF)) + content
    raise ValueError(f"{size} bytes are too many for a part of a leaf")


def _serial(serial: int) -> bytes:
    if not 0 < serial < _SERIAL_LIMIT:
        raise ValueError("serial number is not positive or takes more than 20 bytes")
    return _tlv(_INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1, "big"))  # a bit more, for the sign


def _time(seconds: int) -> bytes:
    moment = datetime.fromtimestamp(seconds, UTC)
    if moment.year < 1950 or moment.year > 9999:
        raise ValueError(f"certificates have no time {seconds} (Unix seconds)")
    if moment.year < _YEAR_OF_LONG_TIMES:
        return _tlv(_UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return _tlv(_GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode())


def _ascii(tag: int, text: str) -> bytes:
    """An IA5String under the tag of a GeneralName; UnicodeEncodeError, a ValueError, for what is none."""
    if not text:
        raise ValueError("a name of a leaf is empty")
    return _tlv(tag, text.encode("ascii"))


def _key_id(key: ec.EllipticCurvePublicKey, spki: bytes) -> bytes:
    """RFC 5280, section 4.2.1.2, method 1: SHA-1 of the point, which is what SubjectPublicKeyInfo ends with."""
    point = spki[-1 - 2 * ((key.key_size + 7) // 8) :]
    if point[0] != _UNCOMPRESSED:
        raise ValueError("key is not encoded as an uncompressed point")
    return sha1(point, usedforsecurity=False).digest()


def _extension(value: x509.ExtensionType, *, critical: bool) -> bytes:
    """An extension as RFC 5280 section 4.1 has it; "not critical" is the default, which DER leaves out."""
    oid = bytes.fromhex("0603") + bytes(_oid_tail(value.oid))
    return _tlv(_SEQUENCE, oid + (_CRITICAL if critical else b"") + _tlv(_OCTET_STRING, value.public_bytes()))


def _oid_tail(oid: x509.ObjectIdentifier) -> tuple[int, int, int]:
    """Of an extension of RFC 5280, 2.5.29.N with N below 128: three bytes."""
    arcs = [int(arc) for arc in oid.dotted_string.split(".")]
    if arcs[:3] != [2, 5, 29] or len(arcs) != 4 or arcs[3] >= 0x80:
        raise ValueError(f"{oid.dotted_string} is no extension of RFC 5280")
    return 0x55, 0x1D, arcs[3]
