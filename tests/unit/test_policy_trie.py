"""The trie of segments: which patterns match, in which order, and what counts as nearest."""

from __future__ import annotations

from ringfence.policy.trie import Trie


def build(*patterns: str) -> Trie[str, list[str]]:
    trie: Trie[str, list[str]] = Trie()
    for pattern in patterns:
        words = pattern.split("/")
        rest = words[-1] == "**"
        segments = [None if word == "*" else word for word in (words[:-1] if rest else words)]
        found = trie.insert(segments, rest, [])
        found.append(pattern)
    return trie


def found(trie: Trie[str, list[str]], path: str) -> list[str]:
    return [pattern for value in trie.walk(path.split("/")) for pattern in value]


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
    assert trie.nearest(["a"]) is None


def test_the_same_pattern_is_one_slot() -> None:
    trie = build("a/*", "a/*")
    assert list(trie.walk(["a", "x"])) == [["a/*", "a/*"]]


def test_nearest_is_the_first_below_the_deepest_node_reached() -> None:
    trie = build("x/y", "a/b/c", "a/b/d", "a/*/e")
    assert trie.nearest(["a", "b", "z"]) == ["a/b/c"]
    assert trie.nearest(["a", "q", "z"]) == ["a/*/e"]
    assert trie.nearest(["q"]) == ["x/y"]
    assert trie.nearest(["x", "y", "too", "deep"]) == ["x/y"]
