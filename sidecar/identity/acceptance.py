"""Whether what the CA sent is an identity to live by. Pure.

The channel was authenticated already; this is the second look, with the verifier that peers will use, so that a fault
of the CA shows here and not as a refusal by every peer. It also tells a wrong clock from a wrong certificate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from ringfence.spiffe import ChainVerifier, SpiffeId, TrustBundle, VerificationError, X509Svid
from sidecar.identity.client import Issued
from sidecar.identity.errors import UnsoundIdentity, WrongIdentity

_SKEW_WORTH_TELLING_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An identity to use, with the bundle to judge own-domain peers by."""

    svid: X509Svid
    bundle: TrustBundle
    left_seconds: float
    """Lifetime that remained at ``Issued.local_time``, by the CA's clock."""
    skew_seconds: float
    """The CA's clock less this machine's: positive when this machine is behind."""


def accept(issued: Issued, private_key: ec.EllipticCurvePrivateKey, spiffe_id: SpiffeId) -> Accepted:
    """The SVID for ``private_key``; raises WrongIdentity or UnsoundIdentity.

    The chain is verified at the CA's time: with a clock that is behind, the certificate would look not yet valid here
    although every peer with a right clock takes it. A clock that is so far ahead that the SVID looks expired is told.
    """
    try:
        svid = X509Svid.from_chain(issued.chain, private_key)
        bundle = TrustBundle(spiffe_id.trust_domain, issued.roots)
    except (VerificationError, ValueError) as error:
        raise UnsoundIdentity(f"the CA sent an unsound identity: {error}") from error
    if svid.spiffe_id != spiffe_id or issued.spiffe_id != str(spiffe_id):
        raise WrongIdentity(f"the CA issued {svid.spiffe_id}, but this sidecar is set to be {spiffe_id}")
    if not math.isfinite(issued.ca_time):
        raise UnsoundIdentity("the CA sent no time of its own")
    try:
        # Both bundles: what peers will check against, and what authenticated the CA just now.
        for roots in {bundle, issued.trusted}:
            ChainVerifier([roots]).verify(issued.chain, issued.ca_time, expected={spiffe_id})
    except (VerificationError, ValueError) as error:
        raise UnsoundIdentity(f"the CA sent an identity that does not verify: {error}") from error
    skew_seconds = issued.ca_time - issued.local_time
    if issued.local_time >= svid.not_after:
        raise UnsoundIdentity(f"a new identity looks expired: {skew_words(skew_seconds)} (set the clock)")
    return Accepted(svid=svid, bundle=bundle, left_seconds=svid.not_after - issued.ca_time, skew_seconds=skew_seconds)


def is_worth_telling(skew_seconds: float) -> bool:
    """Whether clocks are so far apart that certificates may be misjudged."""
    return abs(skew_seconds) >= _SKEW_WORTH_TELLING_SECONDS


def skew_words(skew_seconds: float) -> str:
    """``your clock is 93 s behind the CA's``."""
    direction = "behind" if skew_seconds >= 0 else "ahead of"
    return f"your clock is {abs(skew_seconds):.0f} s {direction} the CA's"
