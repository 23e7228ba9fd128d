"""Which words the segment patterns of paths and of SPIFFE IDs can tell apart: one example for each set of patterns that
some word matches. Pure.

The patterns are followed all at once, as an automaton whose states are the sets of patterns that are still possible.
From a state only the segments that some pattern names lead to different places, and any other one to a common place;
so one fresh segment stands for all others, and the answer is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

LIMIT_STATES: Final = 100_000
LIMIT_WORK: Final = 5_000_000


class CellsError(ValueError):
    """The calls of a policy cannot be cut into cells; the message says why, with the mend."""


class TooManyClassesError(CellsError):
    """The words of a policy cut the calls into more classes than can be looked at."""


@dataclass(frozen=True, slots=True)
class SegmentPattern:
    """Literal segments, None for any one that is not empty, and ``rest`` for what follows, also nothing."""

    segments: tuple[str | None, ...]
    rest: bool = False

    def takes(self, words: Sequence[str]) -> bool:
        """Whether the pattern matches the whole of ``words``."""
        count = len(self.segments)
        if len(words) < count or (len(words) > count and not self.rest):
            return False
        return all(
            wanted == word if wanted is not None else bool(word)
            for wanted, word in zip(self.segments, words, strict=False)
        )


class PatternIndex:
    """Finds which of many patterns take a word without asking each: most begin with a literal, or have nothing else."""

    __slots__ = ("_by_first", "_exact", "_others", "_patterns")

    def __init__(self, patterns: Sequence[SegmentPattern]) -> None:
        self._patterns = patterns
        self._exact: dict[tuple[str | None, ...], list[int]] = {}
        self._by_first: dict[str, list[int]] = {}
        self._others: list[int] = []
        for at, pattern in enumerate(patterns):
            words = pattern.segments
            if not pattern.rest and None not in words:
                self._exact.setdefault(words, []).append(at)
            elif words and words[0] is not None:
                self._by_first.setdefault(words[0], []).append(at)
            else:
                self._others.append(at)

    def matching(self, words: Sequence[str]) -> list[int]:
        """The positions of the patterns that take ``words``, which has at least one segment."""
        likely = (*self._by_first.get(words[0], ()), *self._others)
        return [*self._exact.get(tuple(words), ()), *(at for at in likely if self._patterns[at].takes(words))]


def _never(segment: str) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRules:
    """What words there are: ``fresh`` answers a segment that is none of those given; a word has at least ``least``
    segments; one that is ``last_only`` has no other behind it, and ``may_end_empty`` if the empty one is of these."""

    fresh: Callable[[frozenset[str]], str]
    least: int = 1
    last_only: Callable[[str], bool] = _never
    may_end_empty: bool = False


def segment_classes(patterns: Sequence[SegmentPattern], rules: SegmentRules) -> dict[frozenset[int], tuple[str, ...]]:
    """For each set of patterns (by position) that are exactly those that match some word, a shortest such word."""
    found: dict[frozenset[int], tuple[str, ...]] = {}
    live = frozenset(range(len(patterns)))
    rested = frozenset(at for at in live if patterns[at].rest and not patterns[at].segments)
    level: dict[tuple[frozenset[int], frozenset[int]], tuple[str, ...]] = {(live, rested): ()}
    depth = states = work = 0
    while level:
        following: dict[tuple[frozenset[int], frozenset[int]], tuple[str, ...]] = {}
        for (live, rested), word in level.items():
            work += len(live)
            for segment, after in _steps(patterns, live, depth, rules):
                work += len(after)
                ends = {at for at in after if len(patterns[at].segments) == depth + 1}
                took = rested | {at for at in ends if patterns[at].rest}
                if depth + 1 >= rules.least:
                    found.setdefault(took | ends, (*word, segment))
                state = (after - ends, took)
                # With nothing left to tell apart, each longer word is like this one.
                if not rules.last_only(segment) and (state[0] or ends - took or depth + 1 < rules.least):
                    following.setdefault(state, (*word, segment))
        states += len(following)
        if states > LIMIT_STATES or work > LIMIT_WORK:
            raise TooManyClassesError(f"{len(patterns)} patterns overlap in more than {LIMIT_STATES} ways")
        level = following
        depth += 1
    return found


def _steps(
    patterns: Sequence[SegmentPattern],
    live: frozenset[int],
    depth: int,
    rules: SegmentRules,
) -> list[tuple[str, frozenset[int]]]:
    """Each segment that leads to a place of its own, with the patterns that are possible after it."""
    named: dict[str, set[int]] = {}
    any_segment: set[int] = set()
    for at in live:
        segments = patterns[at].segments
        if len(segments) <= depth:
            continue
        wanted = segments[depth]
        if wanted is None:
            any_segment.add(at)
        else:
            named.setdefault(wanted, set()).add(at)
    steps = [(word, frozenset(named[word] | any_segment)) for word in sorted(named) if word]
    steps.append((rules.fresh(frozenset(named)), frozenset(any_segment)))
    if rules.may_end_empty:
        steps.append(("", frozenset(named.get("", ()))))
    return steps
