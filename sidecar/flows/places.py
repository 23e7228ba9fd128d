"""Where the paths of one caller branch, so that a place with very many words becomes one parameter. Pure.

A place holds a few dozen words; one more turns those into ``{word}`` that were not met often. Words that were keep
their names. So a caller that asks for thousands of names costs the memory of a few dozen, and cannot take their names
from the paths that are really used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ringfence.policy.learning.shapes import MERGED, PARAMETER, REST

LIMIT_WORDS: Final = 50  # at one place
LIMIT_PLACES: Final = 256
SETTLED_COUNT: Final = 20

_Prefix = tuple[str, ...]
Met = Callable[[], Iterable[tuple[_Prefix, int]]]
"""Kept paths of calls that are not yet ``counted``, each with their number."""


class Places:
    """The branching places of one caller's paths, each under the segments before it."""

    __slots__ = ("_merged", "_words")

    def __init__(self) -> None:
        self._words: dict[_Prefix, dict[str, int]] = {}
        self._merged: set[_Prefix] = set()

    def placed(self, segments: _Prefix, met: Met) -> tuple[_Prefix, bool]:
        """The path as it is to be kept, and whether a place has just become a parameter (older paths are then to be
        placed again)."""
        kept: _Prefix = ()
        changed = False
        for word in segments:
            if word not in (PARAMETER, MERGED, REST):
                words = self._words.get(kept)
                if words is None:
                    if len(self._words) >= LIMIT_PLACES:
                        return (*kept, REST), changed
                    words = self._words[kept] = {}
                if word not in words:
                    if kept not in self._merged and len(words) >= LIMIT_WORDS:
                        changed = self._merge(kept, words, met) or changed
                    if kept in self._merged:
                        word = MERGED
                    else:
                        words[word] = 0
            kept = (*kept, word)
            if word == REST:
                break
        return kept, changed

    def counted(self, segments: _Prefix, count: int) -> None:
        """So many calls had this kept path, and were not told that there is no such thing."""
        for depth, word in enumerate(segments):
            words = self._words.get(segments[:depth])
            if words is not None and word in words:
                words[word] += count

    def _merge(self, place: _Prefix, words: dict[str, int], met: Met) -> bool:
        """Forget the words of a place that are not settled; False if there was nothing to forget."""
        self._merged.add(place)
        depth = len(place)
        for segments, count in met():
            if len(segments) > depth and segments[:depth] == place and segments[depth] in words:
                words[segments[depth]] += count
        unsettled = [word for word, count in words.items() if count < SETTLED_COUNT]
        for word in unsettled:
            del words[word]
            under = (*place, word)
            for deeper in [one for one in self._words if one[: len(under)] == under]:
                del self._words[deeper]
                self._merged.discard(deeper)
        return bool(unsettled)
