"""Postures: services that are only observed, until a moment. Pure.

kind: Posture
spec: {service: orders, posture: observe, until: 2027-01-31T18:00:00Z}
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from ringfence.policy.reading.context import Context
from ringfence.policy.reading.selectors import read_selector
from ringfence.policy.written import Placed, PostureDocument
from ringfence.policy.yamlnodes import MappingReader

POSTURES: Final = ("observe",)
# RFC 3339 section 5.6, without the leap second that no clock here can show.
MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_ZONELESS: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ].*[0-9])?")


def read_posture(spec: MappingReader, context: Context) -> PostureDocument:
    """The posture in ``spec``; whether its end is past, or too far, is told where there is a clock."""
    spec.choice("posture", POSTURES)
    return PostureDocument(
        header=context.header, selector=read_selector(spec, context.problems), until=_read_until(spec)
    )


def _read_until(spec: MappingReader) -> Placed[float]:
    """Unix seconds; 0, which is long past, stands in for what is wrong."""
    found = spec.parsed("until", read_moment, mend="write it like 2027-01-31T18:00:00Z")
    return Placed(found if found is not None else 0.0, spec.place("until"))


def read_moment(text: str) -> float:
    """Unix seconds of a moment in RFC 3339; ValueError for one without a zone, or that is none."""
    if not MOMENT.fullmatch(text):
        zoneless = _ZONELESS.fullmatch(text) is not None and not re.search(r"[Zz]|[+-][0-9]{2}:", text[10:])
        raise ValueError("it has no time zone" if zoneless else "not a moment in RFC 3339")
    seconds = datetime.fromisoformat(text).timestamp()
    if seconds <= 0:
        raise ValueError("it is before 1970")
    return seconds
