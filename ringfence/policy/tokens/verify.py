"""A JWT against what one workload believes of its issuer (RFC 7515, 7519, 8725, 9068). Pure.

Order: the form and the header, then the key, then the signature, then the claims. Only the signature gives the claims a
meaning; ``claimed_issuer`` reads them before, to choose who might vouch, and nothing else is ever taken from it.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

from ringfence.policy.facts import TokenRefused, VerifiedToken
from ringfence.policy.model import TokenIssuer
from ringfence.policy.tokens.claims import check_claims
from ringfence.policy.tokens.keys import ALGORITHMS, KeySet, PublicKey, plain_algorithm
from ringfence.policy.tokens.strict_json import StrictJsonError, read_object

if TYPE_CHECKING:
    from joserfc.jws import JWSRegistry

TOKEN_LIMIT_BYTES: Final = 8 * 1024
_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# RFC 9068 for access tokens; others (logout+jwt, dpop+jwt) are made for something else, and must not pass for one.
_TYPES: Final = frozenset({"jwt", "application/jwt", "at+jwt", "application/at+jwt"})


def is_jwt(token: str) -> bool:
    """Whether it has the form of a signed JWT; what has not is opaque."""
    return len(token) <= TOKEN_LIMIT_BYTES and _FORM.fullmatch(token) is not None


def claimed_issuer(token: str) -> str:
    """The ``iss`` that a JWT claims, unverified; empty if it claims none that can be read."""
    if not is_jwt(token):
        return ""
    try:
        found = _part(token.split(".")[1]).get("iss")
    except StrictJsonError:
        return ""
    return found if isinstance(found, str) else ""


class JwtVerifier:
    """Verifies tokens of one issuer by one key set."""

    __slots__ = ("_issuer", "_keys", "_made", "_registry")

    def __init__(self, issuer: TokenIssuer, keys: KeySet | None) -> None:
        """``keys`` None: there are none, and every token is refused; none is ever made up."""
        self._issuer = issuer
        self._keys = keys.keys if keys is not None else ()
        self._made: dict[PublicKey, object] = {}
        self._registry: JWSRegistry | None = None

    def verify(self, token: str, now: float) -> VerifiedToken | TokenRefused:
        """``token`` at ``now``, Unix seconds. Whose it is, is for ``bound_to``."""
        if len(token) > TOKEN_LIMIT_BYTES:
            return TokenRefused(f"it is larger than {TOKEN_LIMIT_BYTES} bytes")
        if _FORM.fullmatch(token) is None:
            return TokenRefused("it is no JWT")
        if not self._keys:
            return TokenRefused("there are no keys of its issuer: it never answered")
        try:
            key = self._key(_part(token.split(".", 1)[0]))
        except StrictJsonError as error:
            return TokenRefused(f"its header is {error}")
        if isinstance(key, TokenRefused):
            return key
        payload = self._payload(token, key)
        if payload is None:
            return TokenRefused("its signature does not hold")
        try:
            claims = read_object(payload, TOKEN_LIMIT_BYTES)
        except StrictJsonError as error:
            return TokenRefused(f"its claims are {error}")
        return check_claims(self._issuer, claims, now)

    def _key(self, header: dict[str, object]) -> PublicKey | TokenRefused:
        """The one key that may have signed a token with this header."""
        algorithm = plain_algorithm(header.get("alg"))
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or algorithm not in self._issuer.algorithms:
            return TokenRefused("its algorithm is none of the issuer's")
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            return TokenRefused("its typ is not that of an access token")
        if "crit" in header or "b64" in header:
            return TokenRefused("its header demands what is not understood here")
        kid = header.get("kid", "")
        if not isinstance(kid, str):
            return TokenRefused("its kid is no text")
        if kid:
            named = [key for key in self._keys if key.kid == kid]
            if not named:
                return TokenRefused(f"its kid {kid[:64]!r} is in no key set of its issuer")
            if not named[0].fits(algorithm):
                return TokenRefused("its algorithm does not fit the key of its kid")
            return named[0]
        fitting = [key for key in self._keys if key.fits(algorithm)]
        if len(fitting) != 1:
            return TokenRefused(f"it names no kid, and {len(fitting)} keys fit its algorithm")
        return fitting[0]

    def _payload(self, token: str, key: PublicKey) -> bytes | None:
        """What was signed, if it was signed by ``key``."""
        from joserfc import jws
        from joserfc.errors import JoseError

        registry = self._registry
        if registry is None:
            registry = self._registry = _registry()
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = key.made()
        try:
            found = jws.extract_compact(token.encode("ascii"), registry=registry)
            valid = jws.validate_compact(found, made, registry=registry)  # type: ignore[arg-type]
        except (JoseError, ValueError, TypeError):
            return None
        return found.payload if valid else None


def _registry() -> JWSRegistry:
    """The library's, with no algorithms but ours and with bounds that are ours."""
    from joserfc.jws import JWSRegistry

    class Registry(JWSRegistry):
        max_header_length = max_payload_length = max_signature_length = TOKEN_LIMIT_BYTES

        def get_alg(self, name: str):  # type: ignore[no-untyped-def]
            """As the library does, but without its warning of ``EdDSA``, by which issuers call Ed25519."""
            if plain_algorithm(name) not in ALGORITHMS:
                raise ValueError("algorithm")
            return self.algorithms[name]

    return Registry(strict_check_header=False)


def _part(text: str) -> dict[str, object]:
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise StrictJsonError("no base64url") from None
    return read_object(decoded, TOKEN_LIMIT_BYTES)
