"""What ``cuts`` says of the parts of a token. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ringfence.policy.analysis.cells import tokens
from ringfence.policy.analysis.cells.dimensions import Dimension, Kind
from ringfence.policy.analysis.cells.requests import value_sets
from ringfence.policy.analysis.cells.space import Live, Space
from ringfence.policy.analysis.cells.tokens import TokenParts, TokenState
from ringfence.policy.facts import Token, VerifiedToken

_After = tuple[Live, object]


@dataclass(frozen=True, slots=True)
class TokenCut:
    """As ``Cut``; ``of`` reads the parts of the call's token."""

    values: Callable[[Space, Dimension, Live], Iterable[tuple[Any, str]]]
    after: Callable[[Space, Dimension, Live, Any], _After]
    of: Callable[[TokenParts, Dimension], Any]


def _states(space: Space, _: Dimension, __: Live) -> Iterator[tuple[Any, str]]:
    yield TokenState.NONE, TokenState.NONE
    yield TokenState.REFUSED, TokenState.REFUSED
    if space.issuers():
        yield TokenState.VERIFIED, TokenState.VERIFIED


def _after_state(space: Space, dimension: Dimension, live: Live, value: TokenState) -> _After:
    return live if value is TokenState.VERIFIED else live - set(space.speaking(live, dimension)), value


def _issuers(space: Space, _: Dimension, __: Live) -> Iterator[tuple[Any, str]]:
    yield from ((issuer, issuer) for issuer in space.issuers())


def _after_issuer(space: Space, dimension: Dimension, live: Live, value: str) -> _After:
    return live - {at for at in space.speaking(live, dimension) if value not in space.vouching(at)}, None


def _flags(_: Space, __: Dimension, ___: Live) -> Iterator[tuple[Any, str]]:
    yield False, "no"
    yield True, "yes"


def _after_flag(space: Space, dimension: Dimension, live: Live, value: bool) -> _After:
    return live if value else live - set(space.speaking(live, dimension)), None


def _wanted(space: Space, at: int, name: str) -> list[tuple[str, ...]]:
    return [values for one, values in space.token(at).claims if one == name]


def _claims(space: Space, dimension: Dimension, live: Live) -> Iterator[tuple[Any, str]]:
    wanted = [values for at in space.speaking(live, dimension) for values in _wanted(space, at, dimension.name)]
    for values in value_sets(wanted):
        yield values, " and ".join(values) or "none of those that rules name"


def _after_claim(space: Space, dimension: Dimension, live: Live, value: tuple[str, ...]) -> _After:
    def takes(at: int) -> bool:
        return all(not set(values).isdisjoint(value) for values in _wanted(space, at, dimension.name))

    return live - {at for at in space.speaking(live, dimension) if not takes(at)}, None


def _acrs(space: Space, dimension: Dimension, live: Live) -> Iterator[tuple[Any, str]]:
    yield "", "any other"
    for acr in sorted({acr for at in space.speaking(live, dimension) for acr in space.token(at).acr}):
        yield acr, acr


def _after_acr(space: Space, dimension: Dimension, live: Live, value: str) -> _After:
    return live - {at for at in space.speaking(live, dimension) if value not in space.token(at).acr}, None


def _ages(space: Space, dimension: Dimension, live: Live) -> Iterator[tuple[Any, str]]:
    limits = {space.token(at).max_age_seconds for at in space.speaking(live, dimension)}
    for limit in sorted(limit for limit in limits if limit is not None):
        yield limit, f"within {limit}s"
    yield None, "longer ago, or not said"


def _after_age(space: Space, dimension: Dimension, live: Live, value: int | None) -> _After:
    def takes(at: int) -> bool:
        limit = space.token(at).max_age_seconds
        return limit is None or (value is not None and value <= limit)

    return live - {at for at in space.speaking(live, dimension) if not takes(at)}, None


CUTS: Final[Mapping[Kind, TokenCut]] = {
    Kind.TOKEN: TokenCut(_states, _after_state, lambda parts, _: parts.state),
    Kind.ISSUER: TokenCut(_issuers, _after_issuer, lambda parts, _: parts.issuer),
    Kind.SCOPE: TokenCut(_flags, _after_flag, lambda parts, dimension: dimension.name in parts.scopes),
    Kind.CLAIM: TokenCut(_claims, _after_claim, lambda parts, dimension: parts.claims.get(dimension.name, ())),
    Kind.ACR: TokenCut(_acrs, _after_acr, lambda parts, _: parts.acr),
    Kind.AMR: TokenCut(_flags, _after_flag, lambda parts, dimension: dimension.name in parts.amr),
    Kind.AGE: TokenCut(_ages, _after_age, lambda parts, _: parts.age_seconds),
}


def read(token: Token, now: float) -> TokenParts:
    """The parts of a token, as far as cuts ask for them."""
    if token is None:
        return TokenParts()
    if not isinstance(token, VerifiedToken):
        return TokenParts(state=TokenState.REFUSED)
    return tokens.parts_of(token, now)
