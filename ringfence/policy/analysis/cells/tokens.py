"""The tokens that rules can tell apart: what a part of one may be, and a token made of parts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ringfence.policy.facts import Token, TokenRefused, VerifiedToken

_LIFE_SECONDS: Final = 3600
_REFUSED: Final = TokenRefused("an example of a token that is not to be believed")


class TokenState(StrEnum):
    """Whether there is a token, and whether it is to be believed."""

    NONE = "no token"
    REFUSED = "an invalid token"
    VERIFIED = "a valid token"


@dataclass(slots=True, kw_only=True)
class TokenParts:
    """What was chosen of a token so far; an age of None: it does not say when the user proved who they are."""

    state: TokenState = TokenState.NONE
    issuer: str = ""
    scopes: list[str] = field(default_factory=list)
    claims: dict[str, tuple[str, ...]] = field(default_factory=dict)
    acr: str = ""
    amr: list[str] = field(default_factory=list)
    age_seconds: int | None = None

    def token(self, now: float) -> Token:
        """The token that says just this."""
        if self.state is TokenState.NONE:
            return None
        if self.state is TokenState.REFUSED:
            return _REFUSED
        claims: dict[str, object] = {}
        for name, values in sorted(self.claims.items()):
            if values:
                _put(claims, name, values[0] if len(values) == 1 else list(values))
        if self.scopes:
            claims["scope"] = " ".join(self.scopes)
        if self.acr:
            claims["acr"] = self.acr
        if self.amr:
            claims["amr"] = list(self.amr)
        if self.age_seconds is not None:
            claims["auth_time"] = int(now) - self.age_seconds
        return VerifiedToken(issuer=self.issuer, claims=claims, expires=now + _LIFE_SECONDS)


def parts_of(token: VerifiedToken, now: float) -> TokenParts:
    """The parts of a verified token; claims by their names with dots."""
    claims = token.claims
    scope, acr, amr, at = (claims.get(name) for name in ("scope", "acr", "amr", "auth_time"))
    return TokenParts(
        state=TokenState.VERIFIED,
        issuer=token.issuer,
        scopes=scope.split() if isinstance(scope, str) else [],
        claims=dict(_flat("", claims)),
        acr=acr if isinstance(acr, str) else "",
        amr=list(amr) if isinstance(amr, list) else [],
        age_seconds=int(now) - at if isinstance(at, int) else None,
    )


def _flat(prefix: str, claims: Mapping[str, object]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, value in claims.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif isinstance(value, str):
            yield prefix + name, (value,)
        elif isinstance(value, list):
            yield prefix + name, tuple(one for one in value if isinstance(one, str))


def _put(claims: dict[str, object], name: str, value: object) -> None:
    """Set a claim: within nested objects, or, where another claim stands in their place, under its very name, at which
    the judge looks first."""
    *outer, last = name.split(".")
    inner: object = claims
    for word in outer:
        inner = inner.setdefault(word, {}) if isinstance(inner, dict) else None
    if isinstance(inner, dict) and last not in inner:
        inner[last] = value
    else:
        claims[name] = value
