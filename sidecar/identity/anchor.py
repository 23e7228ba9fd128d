"""By what a sidecar knows its control plane: the fingerprint of a root, or a file of roots.

``PinnedVerifier`` decides; ``sidecar.tls`` brings it the chain that the control plane shows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ringfence.spiffe import (
    ChainVerifier,
    SpiffeId,
    TrustBundle,
    TrustDomain,
    VerificationError,
    VerifiedPeer,
    VerifyReason,
    fingerprint,
)
from ringfence.spiffe.leaf import read_certificate
from sidecar.identity.errors import IdentityError, IdentityUnavailable, WrongRoot

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


class PinnedVerifier:
    """Judges who answers at the join address, inside the TLS handshake, before anything secret is sent there.

    It is made for one handshake. ``roots`` is set if that succeeds; if it is refused, ``told`` says why.
    """

    def __init__(self, anchor: Anchor, trust_domain: TrustDomain, address: str) -> None:
        self._anchor = anchor
        self._trust_domain = trust_domain
        self._address = address
        self._wrong_root: WrongRoot | None = None
        self.roots: TrustBundle | None = None
        """The roots that vouched: of a fingerprint the one certificate of the chain that has it, else the bundle."""

    def verify(
        self, chain_der: Sequence[bytes], now: float, expected: Collection[SpiffeId] | None = None
    ) -> VerifiedPeer:
        """As ``ChainVerifier.verify``, against what is pinned."""
        try:
            roots = self._pinned(chain_der)
        except WrongRoot as wrong:
            self._wrong_root = wrong
            raise VerificationError(VerifyReason.UNTRUSTED, "the pinned root is not shown") from wrong
        shown = [der for der in chain_der if der not in roots.roots]
        peer = ChainVerifier([roots]).verify(shown, now, expected)
        self.roots = roots
        return peer

    def told(self, refused: VerificationError) -> IdentityError:
        """A refusal in the operator's words: WrongRoot, or IdentityUnavailable if only the clock stands in the way."""
        if self._wrong_root is not None:
            return self._wrong_root
        if refused.reason in (VerifyReason.EXPIRED, VerifyReason.NOT_YET_VALID):
            return IdentityUnavailable(
                f"the certificate of the control plane at {self._address} is {_tense(refused.reason)} by this "
                f"machine's clock: {refused.detail} (check the clock)"
            )
        return WrongRoot(
            f"{self._address} is not the control plane of {self._trust_domain}: {refused.reason}: {refused.detail} "
            "(check the join address and the trust domain)"
        )

    def _pinned(self, chain: Sequence[bytes]) -> TrustBundle:
        anchor = self._anchor
        if isinstance(anchor, TrustBundle):
            return anchor
        roots = tuple(der for der in chain if fingerprint(der) == anchor.sha256)[:1]
        if not roots:
            shown = fingerprint(chain[-1]) if chain else "no certificate"
            raise WrongRoot(
                f"the control plane at {self._address} does not show the pinned root: "
                f"pinned {anchor.sha256}, its chain ends in {shown} (check the join address and the fingerprint)"
            )
        certificate = read_certificate(roots[0])
        if certificate.issuer != certificate.subject:
            # It would hold until that authority is replaced, which is often, and then strand whoever pinned it.
            raise WrongRoot(f"the pinned certificate {anchor.sha256} is no root (give the root's fingerprint)")
        return TrustBundle(trust_domain=self._trust_domain, roots=roots)


def _tense(reason: VerifyReason) -> str:
    return "expired" if reason is VerifyReason.EXPIRED else "not yet valid"
