"""JSON that the API server sends, parts of which anybody may have written. Pure.

Where an object keeps what its kind does not know, whoever may write one can nest it deeper than Python's reader goes,
and would so take the whole list, or the watch, from everybody.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

DEPTH_LIMIT: Final = 100
"""Of what is kept of a text that is too deep to be read whole; no field that anything here reads lies so deep, and the
reader of documents refuses what is nested a third of it."""
# A text without end reaches to the end, so that no byte is looked at twice.
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_OPENING, _CLOSING = frozenset(b"[{"), frozenset(b"]}")


def decode(content: bytes) -> Any:
    """The value of a text. Of one that is nested too deep to be read, what lies below ``DEPTH_LIMIT`` is null. Raises
    ValueError."""
    try:
        return json.loads(content)
    except RecursionError:
        return json.loads(cut(content))


def cut(content: bytes) -> bytes:
    """The text with null for each value that lies deeper than ``DEPTH_LIMIT``. Raises ValueError where brackets do not
    match so far that it could still be too deep."""
    kept: list[bytes] = []
    depth = start = 0
    for found in _TOKEN.finditer(content):
        first = content[found.start()]
        if first in _OPENING:
            depth += 1
            if depth == DEPTH_LIMIT + 1:
                kept.append(content[start : found.start()])
        elif first in _CLOSING:
            if depth == DEPTH_LIMIT + 1:
                kept.append(b"null")
                start = found.end()
            depth -= 1
    if depth > DEPTH_LIMIT:
        raise ValueError("brackets without end")
    kept.append(content[start:])
    return b"".join(kept)
