"""W3C Trace Context, level 1: the ``traceparent`` header as a value. Pure.

    00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    version, trace id, id of the span that called, flags

What is not exactly of this form counts as absent (section 3.2.2.3). A higher version may have more behind the flags.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
SEVERAL: Final = b"?"
"""Stands for the value where a request has more than one ``traceparent``: it has none that counts."""

_SAMPLED: Final = 1
_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]{0,256})?")
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16
_SHARE_DIGITS: Final = 13  # 52 bits of a trace id's random end, which a float holds exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """Of which trace a request is part: ids in lower-case hex, 32 and 16 digits."""

    trace_id: str
    parent_id: str
    sampled: bool


def parse_traceparent(value: bytes) -> TraceContext | None:
    """The context in a header value; None if it is none."""
    match = _FORM.fullmatch(value)
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None) or trace_id == _NO_TRACE or parent_id == _NO_SPAN:
        return None
    return TraceContext(
        trace_id=trace_id.decode(), parent_id=parent_id.decode(), sampled=bool(int(flags, 16) & _SAMPLED)
    )


def traceparent(trace_id: str, span_id: str) -> bytes:
    """The value by which a sampled span tells the next hop."""
    return f"00-{trace_id}-{span_id}-01".encode()


def is_drawn(trace_id: str, share: float) -> bool:
    """Whether a trace belongs to a ``share`` (0 to 1) of all: the same for everybody who asks, and a trace of a small
    share belongs to every larger one."""
    return int(trace_id[-_SHARE_DIGITS:], 16) < share * 16**_SHARE_DIGITS


class TracedFields(Protocol):
    """The fields of a request's head."""

    @property
    def traceparent(self) -> bytes: ...


class Traced(Protocol):
    """A request, of either version of HTTP; ``note`` is the span that this sidecar made for it, if it made one."""

    note: Span | None

    @property
    def fields(self) -> TracedFields: ...


class Span(Protocol):
    """As far as logs care."""

    @property
    def trace_id(self) -> str: ...


def trace_id_of(request: Traced) -> str:
    """The trace of which a request is part; "" for none. Not for every request: it is read when it is asked for."""
    if request.note is not None:
        return request.note.trace_id
    value = request.fields.traceparent
    context = parse_traceparent(value) if value else None
    return context.trace_id if context is not None else ""
