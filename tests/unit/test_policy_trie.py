"""The trie of segments: which patterns match, in which order, and what counts as nearest."""

from __future__ import annotations

from ringfence.policy.trie import Leaf, Trie


class Found(Leaf):
    """The patterns that were put at one place."""

    __slots__ = ("patterns",)

    def __init__(self) -> None:
        self.patterns: list[str] = []


def build(*patterns: str) -> Trie[str, Found]:
    trie: Trie[str, Found] = Trie()
    for pattern in patterns:
        words = pattern.split("/")
        rest = words[-1] == "**"
        segments = [None if word == "*" else word for word in (words[:-1] if rest else words)]
        found = trie.insert(segments, rest, Found())
        found.patterns.append(pattern)
    return trie


def found(trie: Trie[str, Found], path: str) -> list[str]:
    return [pattern for value in trie.walk(path.split("/")) for pattern in value.patterns]


def nearest(trie: Trie[str, Found], path: str) -> list[str] | None:
    near = trie.nearest(path.split("/"))
    return None if near is None else near.patterns


def test_literals_come_before_wildcards_and_these_before_the_rest() -> None:
    trie = build("**", "a/**", "*/*", "a/*", "*/b", "a/b", "a/b/**", "a")
    assert found(trie, "a/b") == ["a/b", "a/b/**", "a/*", "a/**", "*/b", "*/*", "**"]
    assert found(trie, "a") == ["a", "a/**", "**"]
    assert found(trie, "x/y/z") == ["**"]


def test_a_wildcard_takes_no_empty_segment_and_the_rest_takes_any() -> None:
    trie = build("a/*", "a/**")
    assert found(trie, "a/") == ["a/**"]
    assert found(trie, "a/x") == ["a/*", "a/**"]


def test_an_empty_tree_matches_nothing() -> None:
    trie = build()
    assert found(trie, "a") == []
    assert nearest(trie, "a") is None


def test_the_same_pattern_is_one_slot() -> None:
    trie = build("a/*", "a/*")
    assert [value.patterns for value in trie.walk(["a", "x"])] == [["a/*", "a/*"]]


def test_nearest_is_the_first_below_the_deepest_node_reached() -> None:
    trie = build("x/y", "a/b/c", "a/b/d", "a/*/e")
    assert nearest(trie, "a/b/z") == ["a/b/c"]
    assert nearest(trie, "a/q/z") == ["a/*/e"]
    assert nearest(trie, "q") == ["x/y"]
    assert nearest(trie, "x/y/too/deep") == ["x/y"]


def test_a_pattern_is_found_before_and_after_others_part_from_it() -> None:
    alone = ("a/b/*/d", "a/b/*/d/**")
    for patterns in (alone[:1], alone, ("a/b", *alone), (*alone, "a/*/c/d", "a/b/c/d", "a/b/c")):
        trie = build(*patterns)
        assert "a/b/*/d" in found(trie, "a/b/c/d")
        assert found(trie, "a/b/c/x") == found(trie, "a/b//d") == []
        assert ("a/b/*/d/**" in found(trie, "a/b/c/d/e")) == (len(patterns) > 1)
        assert found(trie, "a/b/c") == [pattern for pattern in patterns if pattern == "a/b/c"]
