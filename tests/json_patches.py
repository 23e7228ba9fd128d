"""RFC 6902 for tests: the operations that an injector uses, applied by the letter."""

from __future__ import annotations

import copy
from typing import Any


def patched(document: Any, patch: list[dict[str, Any]]) -> Any:
    """A new document."""
    whole = {"": copy.deepcopy(document)}
    for operation in patch:
        *parents, last = operation["path"].split("/")
        target: Any = whole[""] if parents else whole
        for key in parents[1:]:
            target = target[_key(target, key)]
        _apply(target, last, operation)
    return whole[""]


def _apply(target: Any, last: str, operation: dict[str, Any]) -> None:
    kind, value = operation["op"], copy.deepcopy(operation.get("value"))
    if kind == "add" and isinstance(target, list):
        at = len(target) if last == "-" else int(last)
        assert 0 <= at <= len(target)
        target.insert(at, value)
        return
    key = _key(target, last)
    if kind == "add":
        target[key] = value
    elif kind == "replace":
        target[key]  # must be there
        target[key] = value
    elif kind == "remove":
        del target[key]
    else:
        raise AssertionError(kind)


def _key(target: Any, word: str) -> Any:
    return int(word) if isinstance(target, list) else word.replace("~1", "/").replace("~0", "~")
