"""The groups of settings in a Route document: mappings with places to values. Pure.

What can mean nothing to opaque TCP is noted in ``HttpWords`` with its place, for ``bind`` to hold against the port.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ringfence.policy.lists import read_list
from ringfence.policy.problems import Place, Problem
from ringfence.policy.yamlnodes import MappingReader
from ringfence.routing import bounds
from ringfence.routing.model import (
    UNPROCESSED,
    CircuitBreaker,
    Outliers,
    RateLimit,
    RequestTimeouts,
    Retries,
    RetryOn,
    RouteMatch,
    Timeouts,
)
from ringfence.routing.rates import PERCENT_MEND, parse_percent

T = TypeVar("T")


@dataclass(slots=True)
class HttpWords:
    """The fields of a document that speak of requests, each by its name and place."""

    found: list[tuple[str, Place]] = field(default_factory=list)

    def note(self, reader: MappingReader, *keys: str) -> None:
        """Those of ``keys`` that are there."""
        self.found += [(f"{reader.what}.{key}", reader.place(key)) for key in keys if key in reader]


def read_group(spec: MappingReader, key: str) -> MappingReader:
    """The optional group at ``key``; an empty one is refused, as it says nothing."""
    group = spec.mapping(key, default=None)
    if group.present and not list(group):
        spec.problem(f"{key} is empty", "remove it, or set something in it", key=key)
    return group


def read_timeouts(spec: MappingReader, words: HttpWords) -> Timeouts:
    """``timeouts`` of a whole service."""
    group = read_group(spec, "timeouts")
    words.note(group, "responseHead", "request")
    timeouts = Timeouts(
        connect_seconds=_seconds(group, "connect", bounds.CONNECT_SECONDS),
        response_head_seconds=_seconds(group, "responseHead", bounds.RESPONSE_SECONDS),
        request_seconds=_seconds(group, "request", bounds.REQUEST_SECONDS),
        idle_seconds=_seconds(group, "idle", bounds.IDLE_SECONDS),
    )
    group.finish()
    return timeouts


def read_request_timeouts(match: MappingReader) -> RequestTimeouts | None:
    """``timeouts`` of some requests; None if it is not there."""
    group = read_group(match, "timeouts")
    timeouts = RequestTimeouts(
        response_head_seconds=_seconds(group, "responseHead", bounds.RESPONSE_SECONDS),
        request_seconds=_seconds(group, "request", bounds.REQUEST_SECONDS),
    )
    group.finish()
    return timeouts if group.present else None


def read_retries(reader: MappingReader, words: HttpWords, problems: list[Problem], *, whole: bool) -> Retries | None:
    """``retries``, of a ``whole`` service or of some requests, which have no budget of their own; None if absent."""
    group = read_group(reader, "retries")
    words.note(group, "idempotent", "perTryTimeout")
    idempotent = group.boolean("idempotent", default=False)
    on = read_list(
        group,
        "on",
        lambda item: RetryOn(item.choice(list(RetryOn))),
        problems,
        "remove it for connect_failure and refused, or write attempts: 0 for no retries",
    )
    for condition, place in on:
        if not condition.unprocessed:
            words.found.append((f"retries.on {condition}", place))
            if not idempotent:
                message = f"after {condition} an app may have seen the request already"
                mend = "add idempotent: true, then GET, PUT and their kind are sent again, or remove it"
                problems.append(place.problem(message, mend))
    retries = Retries(
        attempts=group.integer("attempts", *bounds.ATTEMPTS, default=Retries().attempts),
        on=tuple(sorted({condition for condition, _ in on}, key=list(RetryOn).index)) if on else UNPROCESSED,
        idempotent=idempotent,
        budget_percent=read_percent(group, "budget", Retries().budget_percent) if whole else Retries().budget_percent,
        per_try_seconds=_seconds(group, "perTryTimeout", bounds.REQUEST_SECONDS),
    )
    group.finish()
    return retries if group.present else None


def read_circuit_breaker(spec: MappingReader, words: HttpWords) -> CircuitBreaker:
    """``circuitBreaker``."""
    group = read_group(spec, "circuitBreaker")
    words.note(group, "requests")
    breaker = CircuitBreaker(
        connections=group.integer("connections", *bounds.OPEN, default=None),
        pending=group.integer("pending", *bounds.OPEN, default=None),
        requests=group.integer("requests", *bounds.OPEN, default=None),
    )
    group.finish()
    return breaker


def read_outliers(spec: MappingReader) -> Outliers | None:
    """``outliers``; None if absent."""
    group = read_group(spec, "outliers")
    usual = Outliers()
    outliers = Outliers(
        consecutive=group.integer("consecutive", *bounds.CONSECUTIVE, default=usual.consecutive),
        interval_seconds=_or(_seconds(group, "interval", bounds.INTERVAL_SECONDS), usual.interval_seconds),
        ejection_seconds=_or(_seconds(group, "ejection", bounds.EJECTION_SECONDS), usual.ejection_seconds),
        max_ejected_percent=read_percent(group, "maxEjected", usual.max_ejected_percent),
    )
    group.finish()
    return outliers if group.present else None


def read_percent(reader: MappingReader, key: str, default: int) -> int:
    """A share of the whole, in percent."""
    return _or(reader.parsed(key, parse_percent, mend=PERCENT_MEND, default=None), default)


def _seconds(reader: MappingReader, key: str, bound: tuple[float, float]) -> float | None:
    return reader.duration(key, default=None, low=bound[0], high=bound[1])


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def check_tries(match: MappingReader, retries: Retries | None, request_seconds: float | None) -> None:
    """One try must not have longer than all of them together."""
    if retries is None or retries.per_try_seconds is None or request_seconds is None:
        return
    if retries.per_try_seconds > request_seconds:
        message = f"perTryTimeout of {retries.per_try_seconds:g}s is longer than the request timeout"
        mend = f"the whole request has {request_seconds:g}s, tries and pauses together: shorten it"
        match.problem(message, mend, key="retries")


def check_path_count(spec: MappingReader, key: str, items: Sequence[RouteMatch | RateLimit]) -> None:
    """The items of the list at ``key`` must not name more paths together than a request can be held against."""
    count = sum(len(item.paths) for item in items)
    if count > bounds.PATH_LIMIT:
        mend = f"at most {bounds.PATH_LIMIT} together: use {{name}} or ** for what they have in common"
        spec.problem(f"{key} name {count} paths", mend, key=key)
