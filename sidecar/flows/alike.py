"""Whether two paths surely have one shape, told without finding it. Pure."""

from __future__ import annotations

import re
from typing import Final

LIMIT_BYTES: Final = 512

_ZEROED: Final = bytes.maketrans(b"123456789", b"0" * 9)
# A segment that is a UUID or a hash, with a digit in it, as ``shapes`` takes them for made.
_HEX: Final = re.compile(
    rb"/(?=[^/]*[0-9])(?:[0-9A-Fa-f]{8,64}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})(?=/|\Z)"
)


def alike(path: bytes) -> bytes:
    """Equal for paths that differ in nothing but numbers, UUIDs and hashes; empty where that cannot be told cheaply.

    Paths for which it is equal have one shape, but for digits in words that are kept. An escape may spell anything.
    """
    if len(path) > LIMIT_BYTES or b"%" in path:
        return b""
    return _HEX.sub(b"/0", path).translate(_ZEROED)
