"""How much work an input may make: calls of functions, counted, since seconds depend on who else is at work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

_CALLS: Final = 60_000
_CALLS_A_BYTE: Final = 1_000


class TooMuchWorkError(Exception):
    """The input made more calls than its size allows."""


def within_budget(run: Callable[[bytes], None], data: bytes) -> int:
    """Run a target, and give the number of calls it made; TooMuchWorkError where these are too many."""
    limit = _CALLS + _CALLS_A_BYTE * len(data)
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        if event == "call" or event == "c_call":
            calls += 1
            if calls > limit:
                sys.setprofile(None)
                raise TooMuchWorkError(f"more than {limit} calls for {len(data)} bytes")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        run(data)
    finally:
        sys.setprofile(before)
    return calls
