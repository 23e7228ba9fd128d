"""A cell: calls that rules cannot tell apart, one of them as an example, and the engine's verdict on them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.cells.callers import Identity
from ringfence.policy.analysis.cells.dimensions import Dimension
from ringfence.policy.analysis.cells.space import Space
from ringfence.policy.analysis.cells.splits import Option, is_in
from ringfence.policy.decision import Decision


@dataclass(frozen=True, slots=True)
class Word:
    """What a cell has in common in one respect: ``kind`` such as ``method``, ``values`` those that it stands for."""

    kind: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """What a ``when`` comes to; nothing is known of it but that it comes to one or the other."""

    text: str
    value: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """``call`` is one of the calls that the cell is; ``callers`` all whose calls it has, of whom the example is one.

    ``decisions``: one for each of the policies that were looked at; they hold where ``conditions`` do. What ``words``
    do not speak of makes no difference.
    """

    call: Call
    callers: tuple[Identity, ...]
    words: tuple[Word, ...]
    conditions: tuple[Condition, ...]
    decisions: tuple[Decision, ...]
    space: Space = field(repr=False, compare=False)
    steps: tuple[tuple[Dimension, Option], ...] = field(repr=False, compare=False)

    def takes(self, call: Call, true: frozenset[str] = frozenset()) -> bool:
        """Whether ``call``, whose path is not ambiguous, is of this cell where just the conditions ``true`` are."""
        return is_in(call, self.space, self.steps, true)
