"""What an authorization server tells of an opaque token (RFC 7662): form to ask by, answer to read. Pure."""

from __future__ import annotations

from typing import Final

from ringfence.policy.facts import TokenRefused, VerifiedToken
from ringfence.policy.model import TokenIssuer
from ringfence.policy.tokens.claims import check_claims
from ringfence.policy.tokens.strict_json import StrictJsonError, read_object

ANSWER_LIMIT_BYTES: Final = 64 * 1024
_ACCESS: Final = frozenset({"bearer", "n_a", "access_token"})


def question(token: str) -> bytes:
    """The form that is posted; ``token`` is a ``b64token`` (RFC 6750), of which three characters are to be escaped."""
    escaped = token.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return f"token={escaped}&token_type_hint=access_token".encode("ascii")


def read_answer(issuer: TokenIssuer, body: bytes, now: float) -> VerifiedToken | TokenRefused:
    """The token as the server told of it, at ``now``; a token that does not say when it ends is good for no longer than
    an answer is remembered."""
    try:
        told = read_object(body, ANSWER_LIMIT_BYTES)
    except StrictJsonError as error:
        return TokenRefused(f"what the issuer tells of it is {error}")
    if told.get("active") is not True:
        return TokenRefused("its issuer says that it is not active")
    kind = told.get("token_type", "bearer")
    if not isinstance(kind, str) or kind.lower() not in _ACCESS:
        return TokenRefused("its issuer says that it is no bearer token")
    if "exp" not in told:
        assert issuer.introspection is not None
        told = {**told, "exp": now + issuer.introspection.cache_seconds}
    return check_claims(issuer, told, now, issuer_required=False)
