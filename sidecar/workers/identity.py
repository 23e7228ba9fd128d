"""An SVID with its key and bundles, to a message and back. Pure; the key is in memory on both
sides, and in no file."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from ringfence.spiffe import TrustBundle, TrustDomain, VerificationError, X509Svid
from sidecar.workers.messages import Identity, MessageError


def told(svid: X509Svid, bundles: tuple[TrustBundle, ...]) -> Identity:
    """The message that gives a worker this identity."""
    return Identity(
        chain=tuple(_text(der) for der in svid.chain),
        trust_domains=tuple(str(bundle.trust_domain) for bundle in bundles),
        roots=tuple(_text(root) for bundle in bundles for root in bundle.roots),
        roots_of=tuple(number for number, bundle in enumerate(bundles) for _ in bundle.roots),
        blob=svid.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    )


def read(message: Identity) -> tuple[X509Svid, tuple[TrustBundle, ...]]:
    """The identity in a message; MessageError if there is none in it."""
    try:
        key = load_der_private_key(message.blob, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise MessageError("the key of an SVID is none of an elliptic curve")
        svid = X509Svid.from_chain([_bytes(text) for text in message.chain], key)
        if len(message.roots) != len(message.roots_of):
            raise MessageError("roots without trust domains")
        bundles = tuple(
            TrustBundle(
                TrustDomain.parse(domain),
                tuple(_bytes(root) for root, of in zip(message.roots, message.roots_of, strict=True) if of == number),
            )
            for number, domain in enumerate(message.trust_domains)
        )
    except (ValueError, TypeError, UnsupportedAlgorithm, VerificationError) as error:
        raise MessageError(f"no identity: {type(error).__name__}") from error
    return svid, bundles


def _text(der: bytes) -> str:
    return base64.b64encode(der).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise MessageError("a certificate is no base64") from error
