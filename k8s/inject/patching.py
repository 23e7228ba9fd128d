"""The difference of two JSON documents as an RFC 6902 patch. Pure.

Lists are compared where they stay what they were but for additions at their front or end, as a pod's do here; any other
list is replaced as a whole. So other webhooks' readers see what was done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

Operation: TypeAlias = dict[str, Any]


def difference(old: Any, new: Any) -> list[Operation]:
    """Operations that turn ``old`` into ``new``; none where they are equal."""
    return list(_between(old, new, ""))


def _between(old: Any, new: Any, path: str) -> Iterator[Operation]:
    if _same(old, new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            if key not in new:
                yield {"op": "remove", "path": f"{path}/{_escaped(key)}"}
        for key, value in new.items():
            where = f"{path}/{_escaped(key)}"
            if key in old:
                yield from _between(old[key], value, where)
            else:
                yield {"op": "add", "path": where, "value": value}
        return
    if isinstance(old, list) and isinstance(new, list) and old and len(new) >= len(old):
        more = len(new) - len(old)
        if _names(new[more:]) == _names(old):
            yield from _of_each(old, new[more:], path)
            # Each goes to the front, so the last of them first.
            for value in reversed(new[:more]):
                yield {"op": "add", "path": f"{path}/0", "value": value}
            return
        if _names(new[: len(old)]) == _names(old):
            yield from _of_each(old, new, path)
            for value in new[len(old) :]:
                yield {"op": "add", "path": f"{path}/-", "value": value}
            return
    yield {"op": "replace", "path": path, "value": new}


def _of_each(old: list[Any], new: list[Any], path: str) -> Iterator[Operation]:
    for number, (before, after) in enumerate(zip(old, new, strict=False)):
        yield from _between(before, after, f"{path}/{number}")


def _same(old: Any, new: Any) -> bool:
    """Equal as JSON: ``1`` is not ``true``."""
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_same(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return bool(old == new)


def _names(items: list[Any]) -> list[Any]:
    """By what an element is known again."""
    return [item.get("name") if isinstance(item, dict) else item for item in items]


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
