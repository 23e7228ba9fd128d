"""Walks the dimensions in which calls to one service differ, and answers the cells. Pure.

At each step the rules that may still speak of the call are known; the next dimension is one of which one of them says
something, and values between which those rules do not differ are one branch. So a policy of hundreds of rules, each for
its own callers, ports and paths, comes to about as many cells, and not to the product of all its words. A branch ends
where each policy's verdict cannot change any more.

The engine judges the example of each cell. That the verdict is the one that the walk predicts is checked each time: if
the two ever differ, this model does not know all that the engine looks at, and nothing that it says may be believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.cells.callers import Identity
from ringfence.policy.analysis.cells.cell import Cell, Condition, Word
from ringfence.policy.analysis.cells.cuts import Entry, open_of, reached_sides
from ringfence.policy.analysis.cells.dimensions import (
    ADDRESS,
    CALLER,
    HOST,
    ISSUER,
    METHOD,
    PATH,
    PORT,
    TOKEN,
    Dimension,
    Kind,
    Side,
)
from ringfence.policy.analysis.cells.requests import ASTERISK, OPTIONS
from ringfence.policy.analysis.cells.segments import CellsError, TooManyClassesError
from ringfence.policy.analysis.cells.space import Chosen, Live, Space
from ringfence.policy.analysis.cells.splits import Option, split
from ringfence.policy.analysis.cells.tokens import TokenParts, TokenState
from ringfence.policy.analysis.cells.verdicts import Verdicts
from ringfence.policy.analysis.world import Effect

LIMIT_CELLS: Final = 200_000
_KIND_NAMES: Final = {Kind.AMR: "amr", Kind.ACR: "acr", Kind.AGE: "authenticated"}


_SPOKEN_OF: Final = {
    "scope": Kind.SCOPE,
    "scp": Kind.SCOPE,
    "acr": Kind.ACR,
    "amr": Kind.AMR,
    "auth_time": Kind.AGE,
}


class ModelError(Exception):
    """The engine's verdict is not the model's: a defect of this package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """What is looked for. ``known``: the mesh's services, as callers. ``now``: Unix seconds of the example calls.

    ``focus``: a side of whose rules one must match for a call to matter, None for none. ``reasons``: cells are to be
    of one reason, too, not only of one verdict.
    """

    known: Sequence[Identity] = ()
    now: float = 0.0
    focus: int | None = None
    reasons: bool = False
    limit_cells: int = LIMIT_CELLS


def cells(service: str, sides: Sequence[Side], looking: Looking) -> Iterator[Cell]:
    """The cells of the calls to ``service`` (its full name), each with the verdict of each side.

    Raises CellsError when there are more than can be looked at.
    """
    try:
        walk = _Walk(service, sides, looking)
        yield from walk.refine(frozenset(range(len(walk.space.rules))), {}, {})
    except CellsError as error:
        raise CellsError(f"the policy of {service} cannot be looked at whole: {error}") from error


def _refuse_double_words(rules: Iterable[frozenset[Dimension]]) -> None:
    """A claim that another word of the language speaks of, too, would be two dimensions of which each says what the
    other is: refused, as a part of the calls would not be looked at."""
    dimensions = {dimension for rule in rules for dimension in rule}
    kinds = {dimension.kind for dimension in dimensions}
    for name, kind in _SPOKEN_OF.items():
        if kind in kinds and Dimension(Kind.CLAIM, name) in dimensions:
            raise CellsError(f"rules speak of the claim {name} under claims, and otherwise (write it in one way)")


@dataclass(slots=True)
class _Walk:
    service: str
    sides: Sequence[Side]
    looking: Looking
    space: Space = field(init=False)
    verdicts: Verdicts = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.space = Space(self.sides, self.looking.known)
        _refuse_double_words(rule.dimensions for rule in self.space.rules)
        self.verdicts = Verdicts(self.sides)

    def refine(self, live: Live, chosen: Chosen, options: Mapping[Dimension, Option]) -> Iterator[Cell]:
        """The cells of the calls of which the ``chosen`` values are known and the rules ``live`` may speak."""
        focus = self.looking.focus
        if focus is not None and not any(self.space.rules[at].side == focus for at in live):
            return
        dimension = self._next(live, chosen)
        if dimension is None:
            yield from self._cell(live, chosen, options)
            return
        for option in split(self.space, dimension, live, chosen):
            yield from self.refine(option.live, {**chosen, dimension: option.value}, {**options, dimension: option})

    def _next(self, live: Live, chosen: Chosen) -> Dimension | None:
        """The next dimension that could change a verdict; None when none could."""
        if CALLER not in chosen:
            return CALLER
        open_dimensions: set[Dimension] = set()
        for side in range(len(self.sides)):
            open_dimensions |= self._open(side, live, chosen)
        if PORT not in chosen:
            return ADDRESS if ADDRESS in open_dimensions else PORT
        return min(open_dimensions, default=None)

    def _open(self, side: int, live: Live, chosen: Chosen) -> set[Dimension]:
        """The dimensions on which the side's verdict still hangs."""
        rules = [self.space.rules[at] for at in live if self.space.rules[at].side == side]
        left = [(rule.effect, open_of(rule, chosen)) for rule in rules]
        if not self.looking.reasons:
            if any(effect is Effect.DENY and not dimensions for effect, dimensions in left):
                return set()
            allows = [dimensions for effect, dimensions in left if effect is Effect.ALLOW]
            if not self._observed(side) and not allows:
                return set()
            if not all(allows) or self._observed(side):
                left = [one for one in left if one[0] is Effect.DENY]
        return {dimension for _, dimensions in left for dimension in dimensions}

    def _observed(self, side: int) -> bool:
        until = self.sides[side].policy.observe_until
        return until is not None and until > self.looking.now

    def _cell(self, live: Live, chosen: Chosen, options: Mapping[Dimension, Option]) -> Iterator[Cell]:
        self.count += 1
        if self.count > self.looking.limit_cells:
            raise TooManyClassesError(f"its words cut the calls into more than {self.looking.limit_cells} classes")
        token = _token(chosen, next(iter(self.space.issuers()), ""))
        entry: Entry = chosen[PORT]
        path = chosen.get(PATH, "/")
        call = Call(
            caller=chosen[CALLER],
            service=self.service,
            port=entry.port,
            address=chosen.get(ADDRESS, ""),
            method=chosen.get(METHOD, OPTIONS if path == ASTERISK else "GET"),
            path=path,
            host=chosen.get(HOST, ""),
            headers=tuple(
                (dimension.name, value)
                for dimension, values in chosen.items()
                if dimension.kind is Kind.HEADER
                for value in values
            ),
            token=token.token(self.looking.now),
            time=self.looking.now,
            opaque=entry.opaque,
        )
        sides = reached_sides(self.space, call.caller, entry)
        true = frozenset(at.name for at, value in chosen.items() if at.kind is Kind.WHEN and value)
        decisions = self.verdicts.decide(call, true)
        for side, decision in enumerate(decisions):
            if decision.permitted != self._predicted(side, live, sides):
                raise ModelError(f"the engine says {decision} of {call}, which the model does not (please report it)")
        callers = options[CALLER]
        yield Cell(
            call=call,
            callers=tuple(Identity(*pair) for pair in zip(callers.values, callers.labels, strict=True)),
            words=tuple(_words(options)),
            conditions=tuple(Condition(at.name, value) for at, value in chosen.items() if at.kind is Kind.WHEN),
            decisions=decisions,
            space=self.space,
            steps=tuple(options.items()),
        )

    def _predicted(self, side: int, live: Live, sides: frozenset[int]) -> bool:
        if side not in sides:
            return False
        effects = {self.space.rules[at].effect for at in live if self.space.rules[at].side == side}
        return Effect.DENY not in effects and (Effect.ALLOW in effects or self._observed(side))


def _token(chosen: Chosen, issuer: str) -> TokenParts:
    parts = TokenParts(state=chosen.get(TOKEN, TokenState.NONE), issuer=chosen.get(ISSUER, issuer))
    for dimension, value in chosen.items():
        if dimension.kind is Kind.SCOPE and value:
            parts.scopes.append(dimension.name)
        elif dimension.kind is Kind.CLAIM:
            parts.claims[dimension.name] = value
        elif dimension.kind is Kind.AMR and value:
            parts.amr.append(dimension.name)
        elif dimension.kind is Kind.ACR:
            parts.acr = value
        elif dimension.kind is Kind.AGE:
            parts.age_seconds = value
    return parts


def _words(options: Mapping[Dimension, Option]) -> Iterator[Word]:
    for dimension, option in options.items():
        if dimension.kind in (Kind.CALLER, Kind.WHEN):
            continue
        kind = _KIND_NAMES.get(dimension.kind, dimension.kind.name.lower())
        yield Word(f"{kind} {dimension.name}" if dimension.name else kind, tuple(option.labels))
