"""What a verified token says, and what a rule asks of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ringfence.policy.facts import Facts, TokenRefused, VerifiedToken
from ringfence.policy.model import TokenMatch
from ringfence.policy.reasons import DenyReason

DEFAULT_LEEWAY_SECONDS: Final = 30


def token_lacks(match: TokenMatch, facts: Facts, leeways: Mapping[str, int]) -> DenyReason | None:
    """The first thing that the call's token lacks; None if it is all that ``match`` asks for.

    ``leeways``: by the name of its issuer, how many seconds its clock may be ahead.
    """
    token = facts.token()
    if token is None:
        return DenyReason.TOKEN_MISSING
    if isinstance(token, TokenRefused) or facts.now > token.expires:
        return DenyReason.TOKEN_INVALID
    claims = token.claims
    if match.issuers and token.issuer not in match.issuers:
        return DenyReason.TOKEN_INSUFFICIENT
    if match.scopes and not scopes_of(token).issuperset(match.scopes):
        return DenyReason.TOKEN_INSUFFICIENT
    for name, values in match.claims:
        if not any(text in values for text in texts_of(claim_of(claims, name))):
            return DenyReason.TOKEN_INSUFFICIENT
    if match.acr and claims.get("acr") not in match.acr:
        return DenyReason.STEP_UP_REQUIRED
    if match.amr:
        methods = claims.get("amr")
        if not isinstance(methods, list) or not set(match.amr).issubset(texts_of(methods)):
            return DenyReason.STEP_UP_REQUIRED
    if match.max_age_seconds is not None:
        age = _age_seconds(claims, facts.now)
        leeway = leeways.get(token.issuer, DEFAULT_LEEWAY_SECONDS)
        if age is None or not -leeway <= age <= match.max_age_seconds:
            return DenyReason.STEP_UP_REQUIRED
    return None


def _age_seconds(claims: Mapping[str, object], now: float) -> float | None:
    """How long ago the user proved who they are; None where that moment, or the present one, is not known."""
    at = claims.get("auth_time")
    if isinstance(at, bool) or not isinstance(at, int | float) or now <= 0:
        return None
    return now - at


def scopes_of(token: VerifiedToken) -> frozenset[str]:
    """Words of ``scope`` (RFC 8693 section 4.2) and of ``scp``, each either a text of words or a list of them."""
    found: set[str] = set()
    for name in ("scope", "scp"):
        value = token.claims.get(name)
        if isinstance(value, str):
            found.update(word for word in value.split(" ") if word)
        elif isinstance(value, list):
            found.update(word for word in value if isinstance(word, str))
    return frozenset(found)


def claim_of(claims: Mapping[str, object], name: str) -> object:
    """The claim of that very name (``https://shop.example/roles`` is one), else that to which its dots lead."""
    if name in claims:
        return claims[name]
    value: object = claims
    for word in name.split("."):
        if not isinstance(value, Mapping) or word not in value:
            return None
        value = value[word]
    return value


def texts_of(value: object) -> Iterator[str]:
    """What a claim is compared by: its text, a whole number or a truth as JSON writes it; of a list, each of these."""
    for each in value if isinstance(value, list) else (value,):
        if isinstance(each, bool):
            yield "true" if each else "false"
        elif isinstance(each, str | int):
            yield str(each)
