"""JSON from strangers: one object, of a bounded size, no member twice, no numbers that are none. Pure.

A member that is there twice means one thing to one reader and another to the next (RFC 8259 section 4, RFC 8725
section 2.4), so an object that has one says nothing.
"""

from __future__ import annotations

import json
from typing import NoReturn


class StrictJsonError(ValueError):
    """It is no such object; the message never holds any of it."""


def read_object(text: bytes | str, limit_bytes: int) -> dict[str, object]:
    """The object in ``text``; raises StrictJsonError."""
    if len(text) > limit_bytes:
        raise StrictJsonError(f"larger than {limit_bytes} bytes")
    try:
        found: object = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except StrictJsonError:
        raise
    except RecursionError:
        raise StrictJsonError("nested too deeply") from None
    except ValueError:  # also of bytes that are no UTF-8, and of numbers with thousands of digits
        raise StrictJsonError("no JSON") from None
    if not isinstance(found, dict):
        raise StrictJsonError("no JSON object")
    return found


def _once(members: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(members)
    if len(found) != len(members):
        raise StrictJsonError("has a member twice")
    return found


def _no_number(_: str) -> NoReturn:
    raise StrictJsonError("has a number that is none")
