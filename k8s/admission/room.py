"""How much the documents of a namespace and of the cluster may be. Pure.

The control plane holds all documents, read, which is some twenty times their text. So whoever may write in one
namespace could fill its memory and end the mesh for all: what is over a limit is refused when it is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

NAMESPACE_LIMIT: Final = 2_000
NAMESPACE_LIMIT_BYTES: Final = 4 << 20
CLUSTER_LIMIT_BYTES: Final = 16 << 20

_MEND: Final = "share what repeats in a Role or CallerSet, or remove what nobody needs"


class HeldSize(NamedTuple):
    """One document that is there: its namespace, its full name (as in ``WrittenDocument``), and its bytes."""

    namespace: str
    name: str
    size_bytes: int


class Room:
    """``held`` gives the documents that are there now; ``root_namespace``: whose may be as many as the cluster's."""

    def __init__(self, held: Callable[[], Iterable[HeldSize]], root_namespace: str) -> None:
        self._held = held
        self._root_namespace = root_namespace

    def lacks(self, document: HeldSize) -> str:
        """Why there is no room for it, in one line with the mend; empty where there is.

        What becomes no larger always has room, so that nobody over a limit is kept from mending it. Once the cluster's
        limit is reached, a namespace has room up to an even share of it: one that fills the cluster stops itself, and
        none that has less.
        """
        sizes: dict[str, int] = defaultdict(int)
        count = before = 0
        for one in self._held():
            if one.name == document.name:
                before = one.size_bytes
                continue
            sizes[one.namespace] += one.size_bytes
            count += one.namespace == document.namespace
        if before and document.size_bytes <= before:
            return ""
        namespace = document.namespace
        size = sizes[namespace] = sizes[namespace] + document.size_bytes
        if namespace != self._root_namespace:
            if count >= NAMESPACE_LIMIT:
                return f"namespace {namespace} has {count} documents, which is the most of one ({_MEND})"
            if size > NAMESPACE_LIMIT_BYTES:
                return (
                    f"with it the documents of namespace {namespace} would be {size} bytes, "
                    f"at most {NAMESPACE_LIMIT_BYTES} ({_MEND})"
                )
        total = sum(sizes.values())
        if total > CLUSTER_LIMIT_BYTES and size > CLUSTER_LIMIT_BYTES // len(sizes):
            return (
                f"with it the documents of the cluster would be {total} bytes, at most {CLUSTER_LIMIT_BYTES}, "
                f"and {namespace} has more of them than an even share ({_MEND})"
            )
        return ""
