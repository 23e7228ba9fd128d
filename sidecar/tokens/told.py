"""What the app is told of a verified token: claims as header fields. Pure.

A value that cannot stand in a header as it is, is not told at all: an app that finds nothing knows nothing, while one
that finds something made up believes it. So text is told if it is printable ASCII; lists of such words are joined by
commas, where none holds one; what has parts is told as JSON, which is ASCII.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from ringfence.policy.claims import claim_of

VALUE_LIMIT_BYTES: Final = 4096
_WORD: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")

Told = tuple[tuple[bytes, bytes], ...]
"""Name and value of each field, in lower case and lawful."""


def told_of(claims: Mapping[str, object], headers: tuple[tuple[str, str], ...]) -> Told:
    """The fields for ``headers`` (header, claim), of those claims that there are."""
    found: list[tuple[bytes, bytes]] = []
    for header, claim in headers:
        text = _text_of(claim_of(claims, claim))
        if text is not None and len(text) <= VALUE_LIMIT_BYTES and _WORD.fullmatch(text):
            found.append((header.encode("ascii"), text.encode("ascii")))
    return tuple(found)


def _text_of(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, str) and _is_plain(one) for one in value):
        return ",".join(value)
    return json.dumps(value, separators=(",", ":"))


def _is_plain(word: str) -> bool:
    return "," not in word and _WORD.fullmatch(word) is not None
