"""By what a sidecar knows its control plane: the fingerprint of a root, or a file of roots.

``verified_roots`` decides, and is pure; ``identity/pinning.py`` brings it the chain that the control plane showed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from ringfence.spiffe import (
    ChainVerifier,
    TrustBundle,
    TrustDomain,
    VerificationError,
    VerifyReason,
    control_plane_id,
    fingerprint,
)
from sidecar.identity.errors import IdentityUnavailable, WrongRoot

_BUNDLE_LIMIT_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFingerprint:
    """SHA-256 of the root's DER, lower-case hex."""

    sha256: str


Anchor = RootFingerprint | TrustBundle


def read_bundle(path: Path, trust_domain: TrustDomain) -> TrustBundle:
    """The roots of a PEM file; ValueError with one line if it cannot be read or holds none."""
    try:
        with path.open("rb") as file:
            text = file.read(_BUNDLE_LIMIT_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read the bundle {path}: {(error.strerror or str(error)).lower()}") from error
    if len(text) > _BUNDLE_LIMIT_BYTES:
        raise ValueError(f"the bundle {path} is larger than {_BUNDLE_LIMIT_BYTES} bytes")
    try:
        bundle = TrustBundle.from_pem(trust_domain, text)
    except ValueError as error:
        raise ValueError(f"the bundle {path} is not a list of PEM certificates: {error}") from error
    if not bundle.roots:
        raise ValueError(f"the bundle {path} holds no certificate")
    return bundle


def verified_roots(
    chain: Sequence[bytes], anchor: Anchor, *, trust_domain: TrustDomain, now: float, address: str
) -> TrustBundle:
    """The roots to trust, given the chain (DER, leaf first) that ``address`` showed in a completed handshake.

    For a fingerprint that is the one certificate of the chain with that fingerprint; for a bundle, the bundle. Either
    way the chain must verify against them and its leaf must be the control plane's SVID. Raises WrongRoot, or
    IdentityUnavailable when only the clock stands in the way.
    """
    if isinstance(anchor, TrustBundle):
        bundle = anchor
    else:
        roots = tuple(der for der in chain if fingerprint(der) == anchor.sha256)[:1]
        if not roots:
            shown = fingerprint(chain[-1]) if chain else "no certificate"
            raise WrongRoot(
                f"the control plane at {address} does not show the pinned root: "
                f"pinned {anchor.sha256}, its chain ends in {shown} (check the join address and the fingerprint)"
            )
        certificate = x509.load_der_x509_certificate(roots[0])
        if certificate.issuer != certificate.subject:
            # grpcio builds paths to self-signed certificates only; its own words for that help nobody.
            raise WrongRoot(f"the pinned certificate {anchor.sha256} is no root (give the root's fingerprint)")
        bundle = TrustBundle(trust_domain=trust_domain, roots=roots)
    trusted = set(bundle.roots)
    shown_chain = [der for der in chain if der not in trusted]
    try:
        ChainVerifier([bundle]).verify(shown_chain, now, expected={control_plane_id(trust_domain)})
    except VerificationError as error:
        if error.reason in (VerifyReason.EXPIRED, VerifyReason.NOT_YET_VALID):
            raise IdentityUnavailable(
                f"the certificate of the control plane at {address} is {_tense(error.reason)} by this machine's clock: "
                f"{error.detail} (check the clock)"
            ) from error
        raise WrongRoot(
            f"{address} is not the control plane of {trust_domain}: {error.reason}: {error.detail} "
            "(check the join address and the trust domain)"
        ) from error
    return bundle


def _tense(reason: VerifyReason) -> str:
    return "expired" if reason is VerifyReason.EXPIRED else "not yet valid"
