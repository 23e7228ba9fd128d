"""What the claims of a token must say before anybody asks what they permit (RFC 7519, 8705, 8725). Pure.

The same for a JWT whose signature holds and for what an authorization server tells of an opaque token (RFC 7662).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping

from ringfence.policy.facts import Token, TokenRefused, VerifiedToken
from ringfence.policy.model import TokenIssuer


def check_claims(
    issuer: TokenIssuer, claims: Mapping[str, object], now: float, *, issuer_required: bool = True
) -> VerifiedToken | TokenRefused:
    """``iss``, ``aud``, ``exp`` and ``nbf`` at ``now``, Unix seconds; ``exp`` must be there.

    ``issuer_required``: also ``iss`` must; what an authorization server says over TLS is its own word, so there it may
    be left out, but not be another's. Of ``cnf`` see ``bound_to``.
    """
    iss = claims.get("iss")
    if iss != issuer.issuer and (issuer_required or iss is not None):
        return TokenRefused("it is of another issuer")
    if not _audience(claims.get("aud"), issuer.audiences):
        return TokenRefused("it is for another audience")
    ends, begins = _moment(claims, "exp"), _moment(claims, "nbf")
    if ends is None or not isinstance(ends, float):
        return TokenRefused("it has no exp that is a time")
    if now >= ends + issuer.leeway_seconds:
        return TokenRefused("it has expired")
    if isinstance(begins, str):
        return TokenRefused("its nbf is no time")
    if begins is not None and now < begins - issuer.leeway_seconds:
        return TokenRefused("it is not valid yet")
    return VerifiedToken(issuer=issuer.name, claims=claims, expires=ends + issuer.leeway_seconds)


def bound_to(token: VerifiedToken, leaf_sha256: str) -> Token:
    """``token`` for whoever showed the certificate with this SHA-256 (hexadecimal; empty: none) in its TLS handshake.

    A token that is bound to a certificate is good with that one alone (RFC 8705 section 3); one that is bound to a key
    whose proof nobody here reads (DPoP and others) is good with none.
    """
    confirmation = token.claims.get("cnf")
    if confirmation is None:
        return token
    if not isinstance(confirmation, dict) or set(confirmation) != {"x5t#S256"}:
        return TokenRefused("it is bound to a key whose proof is not read here")
    if not leaf_sha256 or confirmation["x5t#S256"] != thumbprint(leaf_sha256):
        return TokenRefused("it is bound to the certificate of another client")
    return token


def thumbprint(leaf_sha256: str) -> str:
    """A hexadecimal SHA-256 as ``x5t#S256`` has it."""
    return base64.urlsafe_b64encode(bytes.fromhex(leaf_sha256)).rstrip(b"=").decode("ascii")


def _audience(found: object, audiences: tuple[str, ...]) -> bool:
    if isinstance(found, str):
        return found in audiences
    return isinstance(found, list) and any(isinstance(one, str) and one in audiences for one in found)


def _moment(claims: Mapping[str, object], name: str) -> float | str | None:
    """Unix seconds; None: not there; a word: it is no time."""
    found = claims.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return "no number"
    try:
        seconds = float(found)
    except OverflowError:
        return "no number"
    return seconds if math.isfinite(seconds) else "no number"
