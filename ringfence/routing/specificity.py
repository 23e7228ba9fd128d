"""Which of two matches names a request more precisely: by what they say, never by where they stand. Pure.

Paths are compared segment by segment from the left: text before a variable, a variable before ``**``, any path before
none. Between equal paths, methods that are named come before all methods. Two templates that both match one path and
are equally precise are the same template but for the names in it, so what remains can be refused as a repetition.
"""

from __future__ import annotations

from typing import Final

from ringfence.policy.paths import PathTemplate, parse_template
from ringfence.routing.model import RouteMatch

_ANY_PATH: Final = (3,)


def precedence(path: PathTemplate | None, *, methods: bool) -> tuple[tuple[int, ...], int]:
    """Sorts the more specific first; None: every path."""
    if path is None:
        return _ANY_PATH, 0 if methods else 1
    shape = tuple(0 if isinstance(part, bytes) else 1 for part in path.segments)
    return (*shape, 2 if path.rest else 0), 0 if methods else 1


class Claims:
    """What the matches of one route name, in a time that grows with their paths alone."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[tuple[object, str], RouteMatch] = {}

    def take(self, match: RouteMatch) -> tuple[RouteMatch, str] | None:
        """An earlier match that names requests of ``match`` equally precisely, and which, for a message; None if all of
        them can be told apart."""
        named: list[tuple[str, object]] = [(text, _nameless(text)) for text in match.paths]
        for text, shape in named or [("every path", None)]:
            for method in sorted(match.methods) or [""]:
                first = self._taken.setdefault((shape, method), match)
                if first is not match:
                    return first, f"{method} {text}".lstrip()
        return None


def _nameless(text: str) -> tuple[object, ...]:
    path = parse_template(text)
    return (*(part if isinstance(part, bytes) else None for part in path.segments), path.rest)
