"""The one shape of every work: a name, what it measures, and how to run or profile it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.results import Row

Say = Callable[[str], None]
"""Tells a person how the run gets on; never the result."""

T = TypeVar("T")


class BenchmarkError(Exception):
    """The run cannot give a figure: a program is missing or died, or an answer was not what it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to measure.

    ``rounds``: how often each peer has its turn. ``turn_seconds``: how long a turn is meant to last; its number of
    requests is reckoned from the rate of the warm-up. ``levels``: None for the work's own, else the work's numbers.
    """

    rounds: int = 5
    turn_seconds: float = 4.0
    levels: tuple[int, ...] | None = None

    def with_turn_seconds(self, seconds: float) -> Plan:
        """The same with turns of another length, for a work that cannot have longer ones, or needs none so long."""
        return dataclasses.replace(self, turn_seconds=seconds)


QUICK = Plan(rounds=3, turn_seconds=2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Something the mesh does that has a price. ``profile`` returns a table as text; None where there is none.

    ``apart``: run only where it is named, as it needs what few machines have.
    """

    name: str
    summary: str
    run: Callable[[Plan, Say], list[Row]]
    profile: Callable[[Plan, Say], str] | None = None
    apart: bool = False


def turns(peers: Sequence[T], rounds: int) -> Iterator[tuple[int, list[T]]]:
    """Each round's number and the peers in the order of their turns, back to front in every second round.

    So no peer always runs on the machine that the other one warmed up, and a steady drift cancels out.
    """
    for number in range(rounds):
        yield number, list(peers) if number % 2 == 0 else list(reversed(peers))
