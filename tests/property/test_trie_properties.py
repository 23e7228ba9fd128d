"""The trie of segments against a list of patterns that is searched naively, in whatever order they were inserted."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.policy.trie import Leaf, Trie


@dataclass(frozen=True, slots=True)
class Pattern:
    segments: tuple[str | None, ...]
    rest: bool

    def matches(self, path: tuple[str, ...]) -> bool:
        fits = len(path) >= len(self.segments) if self.rest else len(path) == len(self.segments)
        return fits and self.reaches(path, len(self.segments))

    def reaches(self, path: tuple[str, ...], depth: int) -> bool:
        """Whether the first ``depth`` segments of both are there and match."""
        return depth <= min(len(self.segments), len(path)) and all(
            bool(segment) if wanted is None else wanted == segment
            for wanted, segment in zip(self.segments[:depth], path, strict=False)
        )

    def order(self) -> tuple[tuple[int, str], ...]:
        """Sorts the most specific first: a literal, any one, the end here, all that follows."""
        return (*specific(self.segments), (3, "") if self.rest else (2, ""))


def specific(segments: tuple[str | None, ...]) -> tuple[tuple[int, str], ...]:
    return tuple((1, "") if segment is None else (0, segment) for segment in segments)


class Value(Leaf):
    __slots__ = ("pattern",)

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern


# Few words, so that patterns part at every depth, and long enough for endings that others share.
PATTERNS = st.builds(Pattern, st.lists(st.sampled_from(["a", "b", "", None]), max_size=6).map(tuple), st.booleans())
PATHS = st.lists(st.sampled_from(["a", "b", "", "z"]), max_size=7).map(tuple)


def nearest(patterns: list[Pattern], path: tuple[str, ...]) -> Pattern:
    """The first pattern through the deepest place that ``path`` reaches, the most specific of places so deep."""
    places = {
        pattern.segments[:depth]
        for pattern in patterns
        for depth in range(len(pattern.segments) + 1)
        if pattern.reaches(path, depth)
    }
    place = min(places, key=lambda place: (-len(place), specific(place)))
    return next(pattern for pattern in patterns if pattern.segments[: len(place)] == place)


@settings(max_examples=400, deadline=None)
@given(st.lists(PATTERNS, min_size=1, max_size=10), st.lists(PATHS, min_size=1, max_size=5))
def test_a_tree_finds_what_a_list_does_and_in_the_order_of_specificity(
    patterns: list[Pattern], paths: list[tuple[str, ...]]
) -> None:
    trie: Trie[str, Value] = Trie()
    first: dict[Pattern, Value] = {}
    for pattern in patterns:
        made = Value(pattern)
        assert trie.insert(pattern.segments, pattern.rest, made) is first.setdefault(pattern, made)
    # Paths that were drawn seldom match; those that are made of the patterns do.
    made_of = [tuple("z" if word is None else word for word in pattern.segments) for pattern in patterns]
    for path in (*paths, *made_of, *((*path, "a") for path in made_of)):
        expected = sorted({pattern for pattern in patterns if pattern.matches(path)}, key=Pattern.order)
        assert [value.pattern for value in trie.walk(path)] == expected
        near = trie.nearest(path)
        assert near is not None
        assert near.pattern == nearest(patterns, path)
