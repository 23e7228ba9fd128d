"""Reading JSON that may be anything: each reader gives its type, or tells where in the object the wrong thing stands.

The API server has looked at what it serves; files and whoever else reaches a webhook have not. Absent and ``null`` are
the same, as the API has it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from ringfence.policy.problems import shown

JsonObject: TypeAlias = Mapping[str, object]

_EMPTY: Final[JsonObject] = {}


class MalformedObjectError(ValueError):
    """An object of the API has not the shape that it must have; the text is one line with the path and the mend."""


def as_object(value: object, path: str) -> JsonObject:
    """``value`` as a JSON object; an empty one if it is absent."""
    if value is None:
        return _EMPTY
    if not isinstance(value, Mapping):
        raise MalformedObjectError(f"{path}: not an object (see kubectl explain)")
    for key in value:
        if not isinstance(key, str):
            raise MalformedObjectError(f"{path}: a key is no text: {shown(str(key))} (quote it)")
    return value


def objects(parent: JsonObject, key: str, path: str = "") -> Iterator[tuple[str, JsonObject]]:
    """Path and value of each object of a list."""
    found = parent.get(key)
    where = _below(path, key)
    if found is None:
        return
    if not isinstance(found, list):
        raise MalformedObjectError(f"{where}: not a list (see kubectl explain)")
    for number, one in enumerate(found):
        here = f"{where}[{number}]"
        if not isinstance(one, Mapping):
            raise MalformedObjectError(f"{here}: not an object (see kubectl explain)")
        yield here, as_object(one, here)


def child(parent: JsonObject, key: str, path: str = "") -> JsonObject:
    """The object below ``key``; an empty one if it is absent."""
    return as_object(parent.get(key), _below(path, key))


def text(parent: JsonObject, key: str, path: str = "") -> str:
    """Text, empty if it is absent."""
    found = parent.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise MalformedObjectError(f"{_below(path, key)}: not text (quote it)")
    return found


def texts(parent: JsonObject, key: str, path: str = "") -> dict[str, str]:
    """Labels or annotations."""
    where = _below(path, key)
    found = child(parent, key, path)
    for name, value in found.items():
        if not isinstance(value, str):
            # As it can be anything in a file, or in what says that it is from the API server.
            raise MalformedObjectError(f"{where}.{ascii(name[:80])[1:-1]}: not text (quote it)")
    return {name: value for name, value in found.items() if isinstance(value, str)}


def integer(parent: JsonObject, key: str, path: str = "", *, default: int = 0) -> int:
    """A whole number; ``default`` if it is absent."""
    found = parent.get(key)
    if found is None:
        return default
    if isinstance(found, bool) or not isinstance(found, int):
        raise MalformedObjectError(f"{_below(path, key)}: not a whole number (see kubectl explain)")
    return found


def optional_integer(parent: JsonObject, key: str, path: str = "") -> int | None:
    """A whole number, or None if it is absent."""
    return None if parent.get(key) is None else integer(parent, key, path)


def flag(parent: JsonObject, key: str, path: str = "") -> bool:
    """A boolean, false if it is absent."""
    found = parent.get(key)
    if found is None:
        return False
    if not isinstance(found, bool):
        raise MalformedObjectError(f"{_below(path, key)}: not true or false (leave out the quotes)")
    return found


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
