"""Paths brought to few shapes, so that what is kept of them is bounded and tells nothing of single things. Pure.

A segment that looks made rather than named (a number, a UUID, a hash, a token) becomes ``{id}``; one that took very
many words becomes ``{word}`` (the sidecar counts them); a path that is too long is cut and ends in ``{rest}``. None of
these can stand in a judged path, where braces are escaped.
"""

from __future__ import annotations

import re
from typing import Final

PARAMETER: Final = "{id}"
MERGED: Final = "{word}"
REST: Final = "{rest}"
LIMIT_SEGMENTS: Final = 12
LIMIT_SEGMENT_CHARACTERS: Final = 64
LIMIT_PATH_CHARACTERS: Final = 256

# Numbers and dates; hexadecimal of eight digits and more with a digit in it; UUIDs. Anything longer that mixes letters
# with two or more digits is a made name, too (a ULID, a base64 token); v1 or oauth2 are not.
_MADE: Final = re.compile(
    rb"[0-9][0-9:.,_-]*"
    rb"|(?=[^0-9]*[0-9])[0-9A-Fa-f]{8,}"
    rb"|(?=[^0-9]*[0-9])[0-9A-Fa-f]{4,}(?:-[0-9A-Fa-f]{4,}){2,}"
    rb"|(?=[^0-9]*[0-9][^0-9]*[0-9])[0-9A-Za-z_=~-]{20,}"
)
_NAMED: Final = re.compile(rb"[A-Za-z0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*")
# What protobuf lets a service and a method be called: such names are made by a programmer, however they look.
_GRPC: Final = re.compile(rb"/([A-Za-z0-9_.]{1,128})/([A-Za-z_][A-Za-z0-9_]{0,127})")


def shape_of(path: bytes) -> tuple[str, ...]:
    """The segments of a judged path (``ringfence.policy.paths.judged_path``; not ``*``) in their shape."""
    found: list[str] = []
    left = LIMIT_PATH_CHARACTERS
    words = path[1:].split(b"/", LIMIT_SEGMENTS)
    for number, word in enumerate(words):
        shown = _shape(word)
        left -= len(shown) + 1
        if number == LIMIT_SEGMENTS or left < 0:
            found.append(REST)
            break
        found.append(shown)
    return tuple(found)


def grpc_shape_of(path: bytes) -> tuple[str, ...]:
    """The same of the path of a gRPC call, which names a service and a method; what does not is a path like others."""
    named = _GRPC.fullmatch(path)
    return (named[1].decode("ascii"), named[2].decode("ascii")) if named else shape_of(path)


def joined(segments: tuple[str, ...]) -> str:
    """The path of these segments."""
    return "/" + "/".join(segments)


def _shape(word: bytes) -> str:
    # Whatever is escaped or carries a character of data (an "@" of an address) names one thing, and may name a person.
    if not word:
        return ""
    if len(word) > LIMIT_SEGMENT_CHARACTERS or not _NAMED.fullmatch(word) or _MADE.fullmatch(word):
        return PARAMETER
    return word.decode("ascii")
