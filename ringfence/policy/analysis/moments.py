"""Moments as RFC 3339 writes them, with their zone, to and from Unix seconds. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_FORM: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
MEND: Final = "write it with its zone, like 2026-03-01T12:00:00Z"


def parse_moment(text: str) -> float:
    """Unix seconds; ValueError for what is no moment, has no zone, or lies before 1970."""
    if not _FORM.fullmatch(text):
        raise ValueError("it has not the form of RFC 3339")
    moment = datetime.fromisoformat(text.upper())
    try:
        seconds = moment.timestamp()
    except OverflowError as error:
        raise ValueError("it is out of range") from error
    if seconds < 0:
        raise ValueError("it lies before 1970")
    return seconds


def format_moment(seconds: float) -> str:
    """In UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
