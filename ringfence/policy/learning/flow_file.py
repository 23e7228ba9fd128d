"""Flows as a file and back: JSON Lines, of which the first says what the file is. Pure.

    {"format": "ringfence flows 1", "unrecorded": {"shop/orders": 12}}
    {"caller": "spiffe://shop.example/ns/shop/sa/web", "service": "shop/orders", "port": 8080, "protocol": "http",
     "method": "GET", "path": "/orders/{id}", "verdict": "permit", "rule": "shop/orders-callers/web-reads",
     "reason": "", "shadow": "", "count": 31, "missed": 0, "address": "",
     "first_seen": "2026-03-01T12:00:00.000Z", "last_seen": "2026-03-01T12:09:30.000Z"}

(each flow on one line; ``address`` may be left out). ``caller`` is null without an identity; ``unrecorded`` are calls
that no flow counts, a service. What is read is taken whole or refused whole, with each error's line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.policy.learning.flow_checks import COUNT_MAXIMUM, fault_of
from ringfence.policy.problems import Problem, nearest, shown
from ringfence.spiffe import SpiffeId, SpiffeIdError

FORMAT: Final = "ringfence flows 1"
LIMIT_BYTES: Final = 256 << 20
LIMIT_LINE_BYTES: Final = 16 << 10
LIMIT_PROBLEMS: Final = 200

_FIELDS: Final = tuple(one.name for one in fields(Flow))
_LATER: Final = ("address",)  # fields that files of earlier releases do not have
_TEXTS: Final = ("service", "protocol", "method", "path", "rule", "reason", "shadow", "address")
_NUMBERS: Final = ("port", "count", "missed")
_TIMES: Final = ("first_seen", "last_seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFile:
    """What a file of flows says."""

    flows: tuple[Flow, ...] = ()
    unrecorded: Mapping[str, int] = field(default_factory=dict)


def flow_document(flow: Flow) -> dict[str, object]:
    """A flow as plain values for JSON."""
    told: dict[str, object] = {name: getattr(flow, name) for name in _FIELDS}
    told["caller"] = str(flow.caller) if flow.caller is not None else None
    told["verdict"] = flow.verdict.value
    for name in _TIMES:
        told[name] = time_words(getattr(flow, name))
    return told


def time_words(seconds: float) -> str:
    """Unix seconds as RFC 3339 has them, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def file_lines(file: FlowFile) -> Iterator[str]:
    """The lines of a file, without their ends."""
    yield json.dumps({"format": FORMAT, "unrecorded": dict(file.unrecorded)})
    for flow in file.flows:
        yield json.dumps(flow_document(flow))


def read_file(content: bytes, file: str) -> tuple[FlowFile, list[Problem]]:
    """The flows of a file called ``file``, and all that is wrong with it; with any problem there are none."""
    if len(content) > LIMIT_BYTES:
        return FlowFile(), [Problem(file, 1, 1, f"file of more than {LIMIT_BYTES >> 20} MB", "export a shorter time")]
    problems: list[Problem] = []
    flows: list[Flow] = []
    unrecorded: dict[str, int] = {}
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines or [b""], 1):
        try:
            told = _object(line)
            if number == 1:
                unrecorded = _head(told)
            else:
                flows.append(flow_from(told))
        except _LineError as error:
            problems.append(Problem(file, number, 1, *error.args))
            if number == 1 or len(problems) >= LIMIT_PROBLEMS:
                break
    return (FlowFile(), problems) if problems else (FlowFile(flows=tuple(flows), unrecorded=unrecorded), [])


class _LineError(ValueError):
    """What is wrong with a line, and the mend."""


def flows_from_documents(documents: Iterable[Any]) -> list[Flow]:
    """Flows from what ``flow_document`` gave. Raises ValueError."""
    return [flow_from(document) for document in documents]


def flow_from(told: Any) -> Flow:
    """A flow from what ``flow_document`` gave. Raises ValueError, of what is wrong and the mend."""
    if not isinstance(told, dict):
        raise _LineError("is no JSON object", "")
    for name in told:
        if name not in _FIELDS:
            near = nearest(name, _FIELDS)
            raise _LineError(f"unknown field {shown(name)}", f"did you mean {near}?" if near else "remove it")
    told = {**dict.fromkeys(_LATER, ""), **told}
    for name in _FIELDS:
        if name not in told:
            raise _LineError(f"{name} is missing", "export the flows again")
    for name in _TEXTS:
        if not isinstance(told[name], str):
            raise _LineError(f"{name} is no text", "")
    for name in _NUMBERS:
        if not isinstance(told[name], int) or isinstance(told[name], bool):
            raise _LineError(f"{name} is no whole number", "")
    values = {name: told[name] for name in (*_TEXTS, *_NUMBERS)}
    flow = Flow(
        **values,
        caller=_caller(told["caller"]),
        verdict=_verdict(told["verdict"]),
        first_seen=_time("first_seen", told["first_seen"]),
        last_seen=_time("last_seen", told["last_seen"]),
    )
    fault = fault_of(flow)
    if fault is not None:
        raise _LineError(f"{fault[0]} {shown(str(told[fault[0]]))} {fault[1]}", "")
    return flow


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > LIMIT_LINE_BYTES:
        raise _LineError(f"line of more than {LIMIT_LINE_BYTES} bytes", "a flow is shorter")
    try:
        told = json.loads(line, object_pairs_hook=_pairs)
    except (ValueError, RecursionError) as error:
        raise _LineError(f"line is no JSON: {shown(str(error))}", "write one object a line") from error
    if not isinstance(told, dict):
        raise _LineError("line is no JSON object", "write one object a line")
    return told


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) < len(pairs):
        raise ValueError("a key is there twice")
    return told


def _head(told: dict[str, Any]) -> dict[str, int]:
    if told.get("format") != FORMAT:
        mend = "export them by `ringfence policy flows --output FILE`"
        raise _LineError(f"first line has no format {FORMAT!a}", mend)
    if told.keys() != {"format", "unrecorded"} or not isinstance(told["unrecorded"], dict):
        raise _LineError("first line has other fields than format and unrecorded", "export the flows again")
    for service, count in told["unrecorded"].items():
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= COUNT_MAXIMUM:
            raise _LineError(f"unrecorded of {shown(service)} is no number of calls", "")
    return dict(told["unrecorded"])


def _caller(told: object) -> SpiffeId | None:
    if told is None:
        return None
    if not isinstance(told, str):
        raise _LineError("caller is no text", "write null for callers without an identity")
    try:
        return SpiffeId.parse(told)
    except SpiffeIdError as error:
        raise _LineError(f"caller: {error}", "") from error


def _verdict(told: object) -> Verdict:
    try:
        return Verdict(str(told))
    except ValueError as error:
        words = ", ".join(one.value for one in Verdict)
        raise _LineError(f"verdict {shown(str(told))} is unknown", f"use one of {words}") from error


def _time(name: str, told: object) -> float:
    try:
        moment = datetime.fromisoformat(str(told)) if isinstance(told, str) else None
        if moment is not None and moment.tzinfo is not None:
            seconds = moment.timestamp()
            if math.isfinite(seconds):
                return seconds
    except (ValueError, OverflowError):
        pass
    raise _LineError(f"{name} {shown(str(told))} is no time", "write it like 2026-03-01T12:00:00Z")
