"""A tree of segment patterns: literals, "any one segment", and "the rest". Pure; used for paths and for SPIFFE IDs.

A look-up follows literal children by dict and the wildcard child beside them, so its cost is set by the number of
segments asked for, and by how many patterns truly overlap on them, not by how many patterns there are. Nothing depends
on the order of insertion but ``nearest``, for which callers insert in an order of their own that is fixed.

Among ten thousand patterns a look-up costs what it misses in the processor's cache, so it is to touch few objects.
Where a pattern parts from all others its value stands in the tree itself, as a leaf, and what is left of the pattern is
a tail that all with the same ending share: for ``/part-1/orders/{id}`` among many such, a dict and then the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

S = TypeVar("S", bytes, str)


class _Tail(Generic[S]):
    """The segments below a leaf, and whether all that follows is taken, also nothing."""

    __slots__ = ("rest", "segments")

    def __init__(self, segments: tuple[S | None, ...], rest: bool) -> None:
        self.segments: tuple[S | None, ...] = segments
        self.rest = rest

    def reached(self, segments: Sequence[S], index: int) -> int:
        """How many of its segments those from ``index`` on match."""
        count = 0
        for wanted, segment in zip(self.segments, segments[index:], strict=False):
            if wanted != segment and (wanted is not None or not segment):
                break
            count += 1
        return count


class Leaf:
    """What every value is, so that it can stand in the tree without an object between: a value is of one pattern only.

    ``tail`` is the tree's, and holds as long as the value stands in place of a node.
    """

    __slots__ = ("tail",)

    tail: _Tail[Any]


V = TypeVar("V", bound=Leaf)


class _Node(Generic[S, V]):
    """``end``: the value of a pattern that ends here; ``rest``: of one that takes all that follows, also nothing."""

    __slots__ = ("any", "end", "literals", "nearest", "rest")

    def __init__(self, nearest: V) -> None:
        self.literals: dict[S, _Node[S, V] | V] = {}
        self.any: _Node[S, V] | V | None = None
        self.end: V | None = None
        self.rest: V | None = None
        self.nearest = nearest


class Trie(Generic[S, V]):
    """Patterns to values."""

    __slots__ = ("_root", "_segments", "_tails")

    def __init__(self) -> None:
        self._root: _Node[S, V] | None = None
        self._segments: dict[S, S] = {}  # each literal once, however many patterns have it
        self._tails: dict[tuple[tuple[S | None, ...], bool], _Tail[S]] = {}

    def insert(self, segments: Sequence[S | None], rest: bool, value: V) -> V:
        """Put ``value`` at the pattern ``segments`` (None: any one segment that is not empty) and answer it; or answer
        the value that is there already, which stays."""
        node = self._root
        if node is None:
            node = self._root = _Node(value)
        for index, segment in enumerate(segments):
            child = node.any if segment is None else node.literals.get(segment)
            if isinstance(child, _Node):
                node = child
                continue
            left = tuple(segments[index + 1 :])
            if child is None:
                value.tail = self._tail(left, rest)
                self._put(node, segment, value)
                return value
            if child.tail.segments == left and child.tail.rest == rest:
                return child
            parted = self._parted(child, left)
            self._put(node, segment, parted)
            node = parted
        if rest:
            if node.rest is None:
                node.rest = value
            return node.rest
        if node.end is None:
            node.end = value
        return node.end

    def _put(self, node: _Node[S, V], segment: S | None, child: _Node[S, V] | V) -> None:
        if segment is None:
            node.any = child
        else:
            node.literals[self._segments.setdefault(segment, segment)] = child

    def _tail(self, segments: tuple[S | None, ...], rest: bool) -> _Tail[S]:
        found = self._tails.get((segments, rest))
        if found is None:
            found = self._tails[segments, rest] = _Tail(segments, rest)
        return found

    def _parted(self, leaf: V, other: tuple[S | None, ...]) -> _Node[S, V]:
        """Nodes that say what ``leaf`` does, as far as ``other`` goes the same way; answers the topmost."""
        tail: _Tail[S] = leaf.tail
        words = tail.segments
        at = 0
        top = node = _Node[S, V](leaf)
        while at < min(len(words), len(other)) and words[at] == other[at]:
            below = _Node[S, V](leaf)
            self._put(node, words[at], below)
            node = below
            at += 1
        if at < len(words):
            leaf.tail = self._tail(words[at + 1 :], tail.rest)
            self._put(node, words[at], leaf)
        elif tail.rest:
            node.rest = leaf
        else:
            node.end = leaf
        return top

    def walk(self, segments: Sequence[S]) -> Iterator[V]:
        """The values of all patterns that match, the most specific first.

        Specific: at the first segment where two patterns differ, a literal before a wildcard before the rest.
        """
        if self._root is None:
            return
        count = len(segments)
        stack: list[tuple[_Node[S, V] | V, int]] = [(self._root, 0)]
        while stack:
            node, index = stack.pop()
            if not isinstance(node, _Node):
                tail = node.tail
                left = count - index - len(tail.segments)
                if left == 0 or (left > 0 and tail.rest):
                    for wanted in tail.segments:
                        segment = segments[index]
                        if wanted != segment and (wanted is not None or not segment):
                            break
                        index += 1
                    else:
                        yield node
                continue
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
        best, best_index = self._root.nearest, 0
        stack: list[tuple[_Node[S, V] | V, int]] = [(self._root, 0)]
        while stack:
            node, index = stack.pop()
            if not isinstance(node, _Node):
                index += node.tail.reached(segments, index)
                if index > best_index:
                    best, best_index = node, index
                continue
            if index > best_index:
                best, best_index = node.nearest, index
            if index == len(segments):
                continue
            segment = segments[index]
            if node.any is not None and segment:
                stack.append((node.any, index + 1))
            child = node.literals.get(segment)
            if child is not None:
                stack.append((child, index + 1))
        return best
