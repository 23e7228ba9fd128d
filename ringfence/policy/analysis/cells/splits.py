"""Cuts calls along one dimension into branches, and finds the branch of a call. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.cells.cuts import CUTS
from ringfence.policy.analysis.cells.dimensions import Dimension, Kind
from ringfence.policy.analysis.cells.space import Chosen, Live, Space


@dataclass(slots=True)
class Option:
    """A branch: ``value`` is the example, ``values`` and ``labels`` all for which it stands.

    ``live``: the rules that may still speak of such calls; ``apart``: what else keeps it from others with these rules.
    """

    live: Live
    apart: object
    values: list[Any]
    labels: list[str]

    @property
    def value(self) -> Any:
        return self.values[0]


def split(space: Space, dimension: Dimension, live: Live, chosen: Chosen) -> list[Option]:
    """The branches of ``dimension``; values that no live rule can tell apart are one."""
    cut = CUTS[dimension.kind]
    merged: dict[tuple[Live, object], Option] = {}
    for value, label, known in cut.values(space, dimension, live, chosen):
        after, apart = known if known is not None else cut.after(space, dimension, live, chosen, value)
        option = merged.setdefault((after, apart), Option(after, apart, [], []))
        option.values.append(value)
        option.labels.append(label)
    return list(merged.values())


def is_in(call: Call, space: Space, steps: Iterable[tuple[Dimension, Option]], true: frozenset[str]) -> bool:
    """Whether ``call`` takes these branches, one after the other, where just the conditions ``true`` are."""
    live: Live = frozenset(range(len(space.rules)))
    chosen: dict[Dimension, Any] = {}
    for dimension, option in steps:
        cut = CUTS[dimension.kind]
        value = dimension.name in true if dimension.kind is Kind.WHEN else cut.of(call, dimension)
        if cut.after(space, dimension, live, chosen, value) != (option.live, option.apart):
            return False
        live = option.live
        chosen[dimension] = option.value
    return True
