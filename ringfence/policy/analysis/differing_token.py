"""Differences in the token of a request: that there is one, who issued it, and what it says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from ringfence.policy.analysis.differing import Difference, Dimension, Mending
from ringfence.policy.analysis.examples import with_claim, with_scopes
from ringfence.policy.claims import claim_of, scopes_of
from ringfence.policy.facts import TokenRefused, VerifiedToken
from ringfence.policy.model import TokenMatch

_NEVER: Final = float(1 << 40)
_NO_ISSUER: Final = ("one of an issuer, and the service believes none",)


def differ_token(mending: Mending) -> None:
    """Each part of what the rule asks of a token."""
    wanted = mending.rule.token
    if wanted is None:
        return
    if not mending.takes(token=TokenMatch()):
        _differ_presence(mending, wanted)
    if wanted.issuers and not mending.takes(token=TokenMatch(issuers=wanted.issuers)):
        token = _token(mending)
        difference = Difference(dimension=Dimension.ISSUER, has=token.issuer, wants=wanted.issuers)
        mending.differ(difference, replace(mending.call, token=replace(token, issuer=wanted.issuers[0])))
    lacking = tuple(scope for scope in wanted.scopes if not mending.takes(token=TokenMatch(scopes=(scope,))))
    if lacking:
        token = _token(mending)
        has = " ".join(sorted(scopes_of(token))) or "none"
        _differ_claims(mending, Dimension.SCOPE, has, (" and ".join(lacking),), with_scopes(token, lacking))
    for name, values in wanted.claims:
        if not mending.takes(token=TokenMatch(claims=((name, values),))):
            claims = _token(mending).claims
            mended = with_claim(claims, name, values[0])
            _differ_claims(mending, Dimension.CLAIM, spelled_claim(claims, name), values, mended, name)
    _differ_authentication(mending, wanted)


def _differ_authentication(mending: Mending, wanted: TokenMatch) -> None:
    if wanted.acr and not mending.takes(token=TokenMatch(acr=wanted.acr)):
        claims = _token(mending).claims
        mended = with_claim(claims, "acr", wanted.acr[0])
        _differ_claims(mending, Dimension.ACR, spelled_claim(claims, "acr"), wanted.acr, mended)
    if wanted.amr and not mending.takes(token=TokenMatch(amr=wanted.amr)):
        claims = _token(mending).claims
        held = claims.get("amr")
        # All of them are wanted, beside whatever there is.
        methods = list(dict.fromkeys([*(held if isinstance(held, list) else ()), *wanted.amr]))
        mended = with_claim(claims, "amr", methods)
        _differ_claims(mending, Dimension.AMR, spelled_claim(claims, "amr"), (" and ".join(wanted.amr),), mended)
    if wanted.max_age_seconds is not None and not mending.takes(
        token=TokenMatch(max_age_seconds=wanted.max_age_seconds)
    ):
        claims = _token(mending).claims
        wants = (f"at most {wanted.max_age_seconds} s ago",)
        mended = with_claim(claims, "auth_time", int(mending.call.time))
        _differ_claims(mending, Dimension.AUTH_AGE, _age(claims, mending.call.time), wants, mended)


def _differ_presence(mending: Mending, wanted: TokenMatch) -> None:
    token = mending.call.token
    if isinstance(token, TokenRefused):
        has = f"refused: {token.detail}"
    else:
        has = "none" if token is None else f"of {token.issuer}, expired or not believed here"
    known = tuple(issuer.name for issuer in mending.matcher.service.token_issuers)
    issuers = wanted.issuers or known
    claims = token.claims if isinstance(token, VerifiedToken) else {}
    difference = Difference(
        dimension=Dimension.TOKEN, has=has, wants=tuple(f"one of {name}" for name in issuers) or _NO_ISSUER
    )
    made = VerifiedToken(issuer=issuers[0] if issuers else "", claims=claims, expires=_NEVER)
    mending.differ(difference, replace(mending.call, token=made))


def _differ_claims(
    mending: Mending,
    dimension: Dimension,
    has: str,
    wants: Sequence[str],
    mended: Mapping[str, object],
    name: str = "",
) -> None:
    difference = Difference(dimension=dimension, has=has, wants=tuple(wants), name=name)
    mending.differ(difference, replace(mending.call, token=replace(_token(mending), claims=mended)))


def _token(mending: Mending) -> VerifiedToken:
    token = mending.call.token
    return token if isinstance(token, VerifiedToken) else VerifiedToken(issuer="", claims={}, expires=_NEVER)


def spelled_claim(claims: Mapping[str, object], name: str) -> str:
    """What a token says under a claim's name."""
    value = claim_of(claims, name)
    if value is None:
        return "absent"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _age(claims: Mapping[str, object], now: float) -> str:
    at = claims.get("auth_time")
    return f"{now - at:.0f} s ago" if isinstance(at, int | float) else "not told"
