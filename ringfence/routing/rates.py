"""Words of limits: rates, sizes and shares. Pure; each parser raises ValueError with what is wrong.

100/s   6000/m   50/h        so many in a second, a minute, an hour
1MiB/s  500kB/s              bytes: B, kB, MB, GB in thousands, KiB, MiB, GiB in 1024s
20%                          a share of the whole, in whole percent
"""

from __future__ import annotations

import re
from typing import Final

from ringfence.routing.bounds import RATE_AMOUNT
from ringfence.routing.model import Rate

RATE_MEND: Final = "write it like 100/s, 6000/m or 50/h"
BYTE_RATE_MEND: Final = "write it like 1MiB/s or 500kB/s"
PERCENT_MEND: Final = "write it like 20%, in whole percent"

_PERIODS: Final = {"s": 1, "m": 60, "h": 3_600}
_SIZES: Final = {
    "B": 1,
    "kB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_RATE: Final = re.compile(r"([1-9][0-9]{0,14})/([smh])")
_BYTE_RATE: Final = re.compile(r"([1-9][0-9]{0,14})(B|kB|MB|GB|KiB|MiB|GiB)/([smh])")
_PERCENT: Final = re.compile(r"(0|[1-9][0-9]{0,2})%")


def parse_rate(text: str) -> Rate:
    """``100/s``: so many requests or connections in a period."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError("not a rate")
    return _rate(int(match[1]), match[2])


def parse_byte_rate(text: str) -> Rate:
    """``1MiB/s``: so many bytes in a period."""
    match = _BYTE_RATE.fullmatch(text)
    if match is None:
        raise ValueError("not a rate of bytes")
    return _rate(int(match[1]) * _SIZES[match[2]], match[3])


def _rate(amount: int, period: str) -> Rate:
    if amount > RATE_AMOUNT[1]:
        raise ValueError("more than can be told from no limit")
    return Rate(amount=amount, seconds=_PERIODS[period])


def parse_percent(text: str) -> int:
    """``20%``: from 0 to 100."""
    match = _PERCENT.fullmatch(text)
    if match is None or int(match[1]) > 100:
        raise ValueError("not a share from 0% to 100%")
    return int(match[1])
