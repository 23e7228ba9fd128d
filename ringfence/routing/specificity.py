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


def same_requests(one: RouteMatch, other: RouteMatch) -> str | None:
    """What both name equally precisely, for a message; None if they can be told apart."""
    methods = set(one.methods) & set(other.methods)
    if bool(one.methods) != bool(other.methods) or (one.methods and not methods):
        return None
    shown = f"{sorted(methods)[0]} " if methods else ""
    if not one.paths and not other.paths:
        return f"{shown}every path"
    known = {_nameless(text) for text in one.paths}
    path = next((text for text in other.paths if _nameless(text) in known), None)
    return f"{shown}{path}" if path is not None else None


def _nameless(text: str) -> tuple[object, ...]:
    path = parse_template(text)
    return (*(part if isinstance(part, bytes) else None for part in path.segments), path.rest)
