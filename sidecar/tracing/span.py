"""A span while its request lives, and after it. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class OpenSpan:
    """Ids in lower-case hex; ``parent_id`` is "" where the trace begins here, ``began`` is Unix seconds."""

    trace_id: str
    span_id: str
    parent_id: str
    began: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSpan:
    """What is exported. ``attributes``: names by OpenTelemetry's conventions for HTTP, and ``ringfence.…``."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    is_server: bool
    began: float
    seconds: float
    failed: bool
    attributes: dict[str, str | int]
