"""Looks for a call of a cell for which its conditions come to what the cell assumes. Pure.

A condition is a program, and is not solved: the words that stand in it are tried where it reads something. What is
found is judged by the engine, conditions and all, so a call that is answered is one; that none is found says nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from ringfence.policy.addresses import parse_address
from ringfence.policy.analysis.calls import Call, compile_for, decide
from ringfence.policy.analysis.cells.cell import Cell
from ringfence.policy.analysis.cells.dimensions import Side
from ringfence.policy.analysis.examples import with_claim
from ringfence.policy.conditions import Condition, Conditions
from ringfence.policy.decide import DecisionTable
from ringfence.policy.facts import VerifiedToken
from ringfence.policy.lists import METHODS
from ringfence.policy.paths import judged_path

LIMIT_TRIED: Final = 400
_HOUR_SECONDS: Final = 3600
_HOURS: Final = (*range(1, 24), *range(24, 24 * 7, 24))
_TEXTS: Final = re.compile(r"'([^'\\]*)'|\"([^\"\\]*)\"")
_CLAIMS: Final = re.compile(r"token\.claims\.([A-Za-z_]\w*)|token\.claims\[['\"]([^'\"]+)['\"]\]")


class Realiser:
    """Looks for calls to one service, whose policies at the sides of its cells it compiles once."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self._sides = sides
        self._tables: list[DecisionTable | None] | None = None
        self._conditions = Conditions()

    def call(self, cell: Cell) -> Call | None:
        """A call of the cell that is judged as the cell says with its conditions evaluated; None if none was found."""
        if not cell.conditions:
            return cell.call
        true = frozenset(one.text for one in cell.conditions if one.value)
        for call in itertools.islice(self._candidates(cell), LIMIT_TRIED):
            if self._is_judged_so(cell, call) and cell.takes(call, true):
                return call
        return None

    def _candidates(self, cell: Cell) -> Iterator[Call]:
        yield cell.call
        changed: list[Call] = []
        compiled = [self._conditions.compile(one.text) for one in cell.conditions]
        for call in _varied(cell.call, compiled):
            changed.append(call)
            yield call
        for call in changed:
            yield from _varied(call, compiled)

    def _is_judged_so(self, cell: Cell, call: Call) -> bool:
        if self._tables is None:
            self._tables = [
                compile_for(side.service, side.policy, side.trust_domain) if side.service is not None else None
                for side in self._sides
            ]
        for side, table, expected in zip(self._sides, self._tables, cell.decisions, strict=True):
            if side.service is None or table is None or not side.service.has_sidecar:
                continue
            if decide(table, side.service, call).permitted != expected.permitted:
                return False
        return True


def _varied(call: Call, conditions: Iterable[Condition]) -> Iterator[Call]:
    """The call with one thing otherwise that a condition reads."""
    for condition in conditions:
        texts = list(dict.fromkeys(one or other for one, other in _TEXTS.findall(condition.text)))
        reads = condition.reads
        if "now" in reads:
            yield from (replace(call, time=call.time + hours * _HOUR_SECONDS) for hours in _HOURS)
        if "source.address" in reads:
            yield from (replace(call, address=text) for text in texts if parse_address(text) is not None)
        if call.opaque:
            continue
        for name in condition.headers:
            others = tuple(header for header in call.headers if header[0] != name)
            yield from (replace(call, headers=(*others, (name, text))) for text in texts if text.isprintable())
        if "request.path" in reads:
            yield from (replace(call, path=text) for text in texts if text[:1] == "/" and _is_path(text))
        if "request.method" in reads:
            yield from (replace(call, method=text) for text in texts if text in METHODS)
        if "request.host" in reads:
            yield from (replace(call, host=text) for text in texts if text.isascii())
        if isinstance(call.token, VerifiedToken):
            yield from _with_claims(call, call.token, condition.text, texts)


def _with_claims(call: Call, token: VerifiedToken, text: str, values: Sequence[str]) -> Iterator[Call]:
    for one, other in _CLAIMS.findall(text):
        for value in values:
            claims = with_claim(token.claims, one or other, value)
            yield replace(call, token=replace(token, claims=claims))


def _is_path(text: str) -> bool:
    return text.isascii() and judged_path(text.encode()) is not None
