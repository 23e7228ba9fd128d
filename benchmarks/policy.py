"""A decision under 10,000 rules against one under 10, in one process: the part of the product that decides, by itself.

Two shapes of policy. ``many callers``: each rule names a caller of its own, and one of them asks. ``one caller``: every
rule names the caller who asks, each with a path template of its own. Both are asked for 1,000 paths in turn, which are
all permitted. ``remembered``: decided before; ``fresh``: paths that were never asked for. ``connection``: a caller is
looked up and an opaque connection of it judged, as at the opening of a stream. All in CPU time: a burst takes a few
milliseconds, and what else runs on the machine would come down on one of the two.

Then the same beside Envoy (``policy_peer``), and how long a change takes to be enforced (``applying``).

What grows with the rules stands below, without a bar: the time to compile, the first decision after it (which makes a
caller's tables) and the memory that a compiled policy holds.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks import applying, policy_peer
from benchmarks.policy_shapes import SHAPES, Judge, Shape, megabytes
from benchmarks.results import Bar, Pair, Row, compare
from benchmarks.works import Plan, Say, Work, turns

FEW, MANY = 10, 10_000
BAR = Bar(limit=1.2)
_BURSTS = 30


KINDS: dict[str, Callable[[Judge], float]] = {
    "remembered": Judge.remembered,
    "fresh": Judge.fresh,
    "connection": Judge.connection,
}


def run(plan: Plan, say: Say) -> list[Row]:
    """Measure each shape and give the rows."""
    found: list[Row] = []
    for shape in SHAPES:
        rounds = [_round(shape, number) for number, _ in turns([FEW, MANY], plan.rounds)]
        found += _rows(shape.name, rounds)
        say(f"judged by rules of {shape.name}")
    return [*found, *policy_peer.run(plan, say), *applying.run(plan, say)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of one shape: microseconds a decision by kind, milliseconds to compile and to decide first, MiB."""

    decision: dict[str, Pair]
    compile_milliseconds: Pair
    first_milliseconds: Pair
    megabytes: Pair


def _round(shape: Shape, number: int) -> Round:
    """Compile both policies anew and ask them in turns, in short bursts; who is first changes with every burst."""
    many, few = Judge(shape, MANY), Judge(shape, FEW)
    gc.collect()
    gc.disable()  # a sidecar's collector hardly runs either, and would come down on one of the two here
    try:
        decision = {kind: _bursts(kind, few, many, number) for kind in KINDS}
    finally:
        gc.enable()
    return Round(
        decision=decision,
        compile_milliseconds=Pair(ours=many.compile_seconds * 1e3, theirs=few.compile_seconds * 1e3),
        first_milliseconds=Pair(ours=many.first_seconds * 1e3, theirs=few.first_seconds * 1e3),
        megabytes=Pair(ours=megabytes(shape, MANY), theirs=megabytes(shape, FEW)),
    )


def _bursts(kind: str, few: Judge, many: Judge, number: int) -> Pair:
    timed: dict[Judge, list[float]] = {few: [], many: []}
    for judge in _alternating(few, many, number):
        timed[judge].append(KINDS[kind](judge) * 1e6)
    return Pair(ours=median(timed[many]), theirs=median(timed[few]))


def _alternating(few: Judge, many: Judge, number: int) -> Iterator[Judge]:
    for burst in range(number, number + _BURSTS):
        yield from (few, many) if burst % 2 else (many, few)


def _rows(shape: str, rounds: Sequence[Round]) -> list[Row]:
    peer = f"{FEW} rules"
    found = [
        compare(
            "policy",
            f"{kind}, {shape}",
            f"decision_us_{MANY}_rules",
            peer,
            [each.decision[kind] for each in rounds],
            BAR,
        )
        for kind in KINDS
    ]
    growing: dict[str, Callable[[Round], Pair]] = {
        "compile_milliseconds": lambda each: each.compile_milliseconds,
        "first_decision_milliseconds": lambda each: each.first_milliseconds,
        "compiled_megabytes": lambda each: each.megabytes,
    }
    for metric, value in growing.items():
        found.append(compare("policy", shape, f"{metric}_{MANY}_rules", peer, [value(each) for each in rounds]))
    return found


WORK = Work(name="policy", summary="a decision under 10,000 rules against one under 10", run=run)
