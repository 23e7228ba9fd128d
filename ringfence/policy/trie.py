"""A tree of segment patterns: literals, "any one segment", and "the rest". Pure; used for paths and for SPIFFE IDs.

A look-up follows literal children by dict and the wildcard child beside them, so its cost is set by the number of
segments asked for, and by how many patterns truly overlap on them, not by how many patterns there are. Nothing depends
on the order of insertion but ``nearest``, for which callers insert in an order of their own that is fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

S = TypeVar("S", bytes, str)
V = TypeVar("V")


class _Node(Generic[S, V]):
    """``end``: the value of a pattern that ends here; ``rest``: of one that takes all that follows, also nothing."""

    __slots__ = ("any", "end", "literals", "nearest", "rest")

    def __init__(self, nearest: V) -> None:
        self.literals: dict[S, _Node[S, V]] = {}
        self.any: _Node[S, V] | None = None
        self.end: V | None = None
        self.rest: V | None = None
        self.nearest = nearest


class Trie(Generic[S, V]):
    """Patterns to values of one mutable kind; ``make`` makes the value of a pattern that is new."""

    __slots__ = ("_make", "_root")

    def __init__(self, make: Callable[[], V]) -> None:
        self._make = make
        self._root: _Node[S, V] | None = None

    def slot(self, segments: Sequence[S | None], rest: bool) -> V:
        """The value at the pattern ``segments`` (None: any one segment that is not empty), made if it is new."""
        value: V | None = None
        if self._root is None:
            value = self._make()
            self._root = _Node(value)
        node = self._root
        for segment in segments:
            child = node.any if segment is None else node.literals.get(segment)
            if child is None:
                if value is None:
                    value = self._make()
                child = _Node(value)
                if segment is None:
                    node.any = child
                else:
                    node.literals[segment] = child
            node = child
        present = node.rest if rest else node.end
        if present is not None:
            return present
        if value is None:
            value = self._make()
        if rest:
            node.rest = value
        else:
            node.end = value
        return value

    def walk(self, segments: Sequence[S]) -> Iterator[V]:
        """The values of all patterns that match, the most specific first.

        Specific: at the first segment where two patterns differ, a literal before a wildcard before the rest.
        """
        if self._root is None:
            return
        count = len(segments)
        stack = [(self._root, 0)]
        while stack:
            node, index = stack.pop()
            if index < 0:  # came back to a node whose rest was put off until its children were done
                assert node.rest is not None
                yield node.rest
                continue
            if index == count:
                if node.end is not None:
                    yield node.end
                if node.rest is not None:
                    yield node.rest
                continue
            if node.rest is not None:
                stack.append((node, -1))
            segment = segments[index]
            if node.any is not None and segment:
                stack.append((node.any, index + 1))
            child = node.literals.get(segment)
            if child is not None:
                stack.append((child, index + 1))

    def nearest(self, segments: Sequence[S]) -> V | None:
        """The value that was inserted first below the deepest node that ``segments`` reach; None for an empty tree."""
        if self._root is None:
            return None
        best, best_index = self._root, 0
        stack = [(self._root, 0)]
        while stack:
            node, index = stack.pop()
            if index > best_index:
                best, best_index = node, index
            if index == len(segments):
                continue
            segment = segments[index]
            if node.any is not None and segment:
                stack.append((node.any, index + 1))
            child = node.literals.get(segment)
            if child is not None:
                stack.append((child, index + 1))
        return best.nearest
