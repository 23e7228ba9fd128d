"""A tree of segment patterns: literals, "any one segment", and "the rest". Pure; used for paths and for SPIFFE IDs.

A look-up follows literal children by dict and the wildcard child beside them, so its cost is set by the number of
segments asked for, and by how many patterns truly overlap on them, not by how many patterns there are. Nothing depends
on the order of insertion but ``nearest``, for which callers insert in an order of their own that is fixed.

Nodes are small, and what many of them say is one object: among ten thousand patterns a look-up costs what it misses in
the processor's cache. So a node's first literal child stands in the node, and only the second makes a dict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

S = TypeVar("S", bytes, str)
V = TypeVar("V")


class _Node(Generic[S, V]):
    """``end``: the value of a pattern that ends here; ``rest``: of one that takes all that follows, also nothing."""

    __slots__ = ("any", "child", "end", "literals", "nearest", "rest", "segment")

    def __init__(self, nearest: V) -> None:
        self.segment: S | None = None  # of the first literal child; None again when there are several
        self.child: _Node[S, V] | None = None
        self.literals: dict[S, _Node[S, V]] | None = None
        self.any: _Node[S, V] | None = None
        self.end: V | None = None
        self.rest: V | None = None
        self.nearest = nearest

    def literal(self, segment: S) -> _Node[S, V] | None:
        """The child for exactly ``segment``."""
        if self.literals is not None:
            return self.literals.get(segment)
        return self.child if self.segment == segment else None

    def add(self, segment: S, nearest: V) -> _Node[S, V]:
        """A new child for ``segment``, which has none."""
        made: _Node[S, V] = _Node(nearest)
        if self.literals is not None:
            self.literals[segment] = made
        elif self.child is None or self.segment is None:
            self.segment, self.child = segment, made
        else:
            self.literals = {self.segment: self.child, segment: made}
            self.segment = self.child = None
        return made


class Trie(Generic[S, V]):
    """Patterns to values."""

    __slots__ = ("_root", "_segments")

    def __init__(self) -> None:
        self._root: _Node[S, V] | None = None
        self._segments: dict[S, S] = {}  # each literal once, however many patterns have it

    def insert(self, segments: Sequence[S | None], rest: bool, value: V) -> V:
        """Put ``value`` at the pattern ``segments`` (None: any one segment that is not empty) and answer it; or answer
        the value that is there already, which stays."""
        node = self._root
        if node is None:
            node = self._root = _Node(value)
        for segment in segments:
            if segment is None:
                child = node.any
                if child is None:
                    child = node.any = _Node(value)
            else:
                child = node.literal(segment)
                if child is None:
                    child = node.add(self._segments.setdefault(segment, segment), value)
            node = child
        if rest:
            if node.rest is None:
                node.rest = value
            return node.rest
        if node.end is None:
            node.end = value
        return node.end

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
            child = node.child if node.segment == segment else None
            if node.literals is not None:
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
            child = node.literal(segment)
            if child is not None:
                stack.append((child, index + 1))
        return best.nearest
