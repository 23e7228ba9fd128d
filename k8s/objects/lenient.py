"""Fields of JSON objects of which nothing is believed beforehand. Pure.

A manifest may say anything anywhere; a field that is not of its type is read as if it were not there, and never raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def at(value: object, *path: str) -> object:
    """What stands at ``path`` in nested objects; None where there is nothing."""
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def text(value: object, *path: str) -> str:
    """The text at ``path``; empty for none."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def integer(value: object, *path: str) -> int | None:
    """The number at ``path``."""
    found = at(value, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def mapping(value: object, *path: str) -> Json:
    """The object at ``path``; an empty one for none."""
    found = at(value, *path)
    return found if isinstance(found, Mapping) else {}


def objects(value: object, *path: str) -> list[Json]:
    """The objects of the list at ``path``."""
    found = at(value, *path)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def texts(value: object, *path: str) -> list[str]:
    """The texts of the list at ``path``."""
    found = at(value, *path)
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def labels(value: object, *path: str) -> dict[str, str]:
    """The texts by name at ``path``: labels, annotations, match labels."""
    found = mapping(value, *path)
    return {str(name): one for name, one in found.items() if isinstance(one, str)}
