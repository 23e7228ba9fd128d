"""Routes and rate limits to messages and back; every number is held against its bounds again. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from ringfence.routing import bounds
from ringfence.routing.model import (
    CircuitBreaker,
    Outliers,
    Per,
    Rate,
    RateLimit,
    RequestTimeouts,
    Retries,
    RetryOn,
    Route,
    RouteMatch,
    Timeouts,
)
from ringfence.routing.specificity import Claims
from ringfence.wire.fields import (
    WireError,
    check_unique,
    read_full_name,
    read_list,
    read_method,
    read_name,
    read_path_template,
    read_word,
)
from ringfence.wire.gen import control_pb2

_WORD_LIMIT = 1_000


# --------------------------------------------------------------------------------------------------------- to the wire


def route_to_wire(route: Route | None) -> control_pb2.Route | None:
    """The message for a route; total."""
    if route is None:
        return None
    timeouts, breaker, outliers = route.timeouts, route.circuit_breaker, route.outliers
    return control_pb2.Route(
        name=route.name,
        timeouts=control_pb2.Timeouts(
            connect_seconds=timeouts.connect_seconds,
            response_head_seconds=timeouts.response_head_seconds,
            request_seconds=timeouts.request_seconds,
            idle_seconds=timeouts.idle_seconds,
        ),
        max_age_seconds=route.max_age_seconds,
        retries=_retries_to_wire(route.retries),
        circuit_breaker=control_pb2.CircuitBreaker(
            connections=breaker.connections, pending=breaker.pending, requests=breaker.requests
        ),
        outliers=None
        if outliers is None
        else control_pb2.Outliers(
            consecutive=outliers.consecutive,
            interval_seconds=outliers.interval_seconds,
            ejection_seconds=outliers.ejection_seconds,
            max_ejected_percent=outliers.max_ejected_percent,
        ),
        panic_percent=route.panic_percent,
        matches=[_match_to_wire(match) for match in route.matches],
    )


def _retries_to_wire(retries: Retries | None) -> control_pb2.Retries | None:
    if retries is None:
        return None
    return control_pb2.Retries(
        attempts=retries.attempts,
        on=[condition.value for condition in retries.on],
        idempotent=retries.idempotent,
        budget_percent=retries.budget_percent,
        per_try_seconds=retries.per_try_seconds,
    )


def _match_to_wire(match: RouteMatch) -> control_pb2.RouteMatch:
    timeouts = match.timeouts
    return control_pb2.RouteMatch(
        name=match.name,
        methods=match.methods,
        paths=match.paths,
        timeouts=None
        if timeouts is None
        else control_pb2.RequestTimeouts(
            response_head_seconds=timeouts.response_head_seconds, request_seconds=timeouts.request_seconds
        ),
        retries=_retries_to_wire(match.retries),
    )


def limits_to_wire(limits: Sequence[RateLimit]) -> list[control_pb2.RateLimit]:
    """The messages for rate limits; total."""
    return [
        control_pb2.RateLimit(
            name=limit.name,
            per=limit.per.value,
            methods=limit.methods,
            paths=limit.paths,
            requests=_rate_to_wire(limit.requests),
            burst=limit.burst,
            connections=_rate_to_wire(limit.connections),
            bytes=_rate_to_wire(limit.bytes),
        )
        for limit in limits
    ]


def _rate_to_wire(rate: Rate | None) -> control_pb2.Rate | None:
    return control_pb2.Rate(amount=rate.amount, seconds=rate.seconds) if rate is not None else None


# ------------------------------------------------------------------------------------------------------- from the wire


def read_route(path: str, message: control_pb2.Route, *, http: bool) -> Route:
    """The checked route of an upstream that speaks ``http`` or does not."""
    if not (message.HasField("timeouts") and message.HasField("retries") and message.HasField("circuit_breaker")):
        raise WireError(f"{path}: not whole")
    _check_path_count(f"{path}.matches", message.matches)
    matches = read_list(f"{path}.matches", message.matches, bounds.MATCH_LIMIT, _match)
    check_unique(f"{path}.matches", (match.name for match in matches))
    claims = Claims()
    for index, match in enumerate(matches):
        clash = claims.take(match)
        if clash is not None:
            raise WireError(f"{path}.matches[{index}]: cannot be told from {clash[0].name}")
    route = Route(
        name=read_full_name(f"{path}.name", message.name),
        timeouts=_timeouts(f"{path}.timeouts", message.timeouts),
        max_age_seconds=_seconds(path, message, "max_age_seconds", bounds.AGE_SECONDS),
        retries=_retries(f"{path}.retries", message.retries),
        circuit_breaker=CircuitBreaker(
            connections=_open(f"{path}.circuit_breaker", message.circuit_breaker, "connections"),
            pending=_open(f"{path}.circuit_breaker", message.circuit_breaker, "pending"),
            requests=_open(f"{path}.circuit_breaker", message.circuit_breaker, "requests"),
        ),
        outliers=_outliers(f"{path}.outliers", message.outliers) if message.HasField("outliers") else None,
        panic_percent=_whole(f"{path}.panic_percent", message.panic_percent, (0, 100)),
        matches=matches,
    )
    if not http:
        _check_opaque(path, route)
    return route


def _check_opaque(path: str, route: Route) -> None:
    """What speaks of requests would not be enforced on opaque TCP, so it must not be there."""
    if route.speaks_http:
        raise WireError(f"{path}: speaks of requests, and the port carries opaque TCP")


def _timeouts(path: str, message: control_pb2.Timeouts) -> Timeouts:
    return Timeouts(
        connect_seconds=_seconds(path, message, "connect_seconds", bounds.CONNECT_SECONDS),
        response_head_seconds=_seconds(path, message, "response_head_seconds", bounds.RESPONSE_SECONDS),
        request_seconds=_seconds(path, message, "request_seconds", bounds.REQUEST_SECONDS),
        idle_seconds=_seconds(path, message, "idle_seconds", bounds.IDLE_SECONDS),
    )


def _retries(path: str, message: control_pb2.Retries) -> Retries:
    on = read_list(f"{path}.on", message.on, len(RetryOn), lambda at, text: read_word(at, text, RetryOn))
    check_unique(f"{path}.on", on)
    if not on:
        raise WireError(f"{path}.on: empty")
    if not message.idempotent and not all(condition.unprocessed for condition in on):
        raise WireError(f"{path}.on: repeats what an app may have seen, without idempotent")
    return Retries(
        attempts=_whole(f"{path}.attempts", message.attempts, bounds.ATTEMPTS),
        on=on,
        idempotent=message.idempotent,
        budget_percent=_whole(f"{path}.budget_percent", message.budget_percent, (0, 100)),
        per_try_seconds=_seconds(path, message, "per_try_seconds", bounds.REQUEST_SECONDS),
    )


def _outliers(path: str, message: control_pb2.Outliers) -> Outliers:
    interval, ejection = message.interval_seconds, message.ejection_seconds
    return Outliers(
        consecutive=_whole(f"{path}.consecutive", message.consecutive, bounds.CONSECUTIVE),
        interval_seconds=_within(f"{path}.interval_seconds", interval, bounds.INTERVAL_SECONDS),
        ejection_seconds=_within(f"{path}.ejection_seconds", ejection, bounds.EJECTION_SECONDS),
        max_ejected_percent=_whole(f"{path}.max_ejected_percent", message.max_ejected_percent, (0, 100)),
    )


def _match(path: str, message: control_pb2.RouteMatch) -> RouteMatch:
    timeouts = message.timeouts
    match = RouteMatch(
        name=read_name(f"{path}.name", message.name),
        methods=read_list(f"{path}.methods", message.methods, _WORD_LIMIT, read_method),
        paths=read_list(f"{path}.paths", message.paths, _WORD_LIMIT, read_path_template),
        timeouts=RequestTimeouts(
            response_head_seconds=_seconds(path, timeouts, "response_head_seconds", bounds.RESPONSE_SECONDS),
            request_seconds=_seconds(path, timeouts, "request_seconds", bounds.REQUEST_SECONDS),
        )
        if message.HasField("timeouts")
        else None,
        retries=_retries(f"{path}.retries", message.retries) if message.HasField("retries") else None,
    )
    if not match.methods and not match.paths:
        raise WireError(f"{path}: names no requests")
    return match


def read_limits(path: str, messages: Sequence[control_pb2.RateLimit], *, http: bool) -> tuple[RateLimit, ...]:
    """The checked limits of a port that speaks ``http`` or does not."""
    _check_path_count(path, messages)
    limits = read_list(path, messages, bounds.LIMIT_LIMIT, _limit)
    check_unique(path, (limit.name for limit in limits))
    for index, limit in enumerate(limits):
        if limit.speaks_http and not http:
            raise WireError(f"{path}[{index}]: speaks of requests, and the port carries opaque TCP")
    return limits


def _limit(path: str, message: control_pb2.RateLimit) -> RateLimit:
    limit = RateLimit(
        name=read_name(f"{path}.name", message.name),
        per=read_word(f"{path}.per", message.per, Per),
        methods=read_list(f"{path}.methods", message.methods, _WORD_LIMIT, read_method),
        paths=read_list(f"{path}.paths", message.paths, _WORD_LIMIT, read_path_template),
        requests=_rate(f"{path}.requests", message.requests) if message.HasField("requests") else None,
        burst=_whole(f"{path}.burst", message.burst, bounds.BURST) if message.HasField("burst") else None,
        connections=_rate(f"{path}.connections", message.connections) if message.HasField("connections") else None,
        bytes=_rate(f"{path}.bytes", message.bytes) if message.HasField("bytes") else None,
    )
    counted = limit.connections is not None or limit.bytes is not None
    if limit.requests is None and not counted:
        raise WireError(f"{path}: has no rate")
    if limit.burst is not None and limit.requests is None:
        raise WireError(f"{path}.burst: is of requests, and there is no rate of them")
    if limit.burst_seconds > bounds.BURST_SECONDS:
        raise WireError(f"{path}.burst: takes more than ten years to be earned again")
    if counted and (limit.methods or limit.paths):
        raise WireError(f"{path}: counts connections or bytes by what is known of a request only")
    return limit


def _check_path_count(path: str, messages: Sequence[control_pb2.RouteMatch] | Sequence[control_pb2.RateLimit]) -> None:
    """Before any is parsed."""
    count = sum(len(message.paths) for message in messages)
    if count > bounds.PATH_LIMIT:
        raise WireError(f"{path}: {count} paths are more than {bounds.PATH_LIMIT}")


def _rate(path: str, message: control_pb2.Rate) -> Rate:
    if message.seconds not in bounds.RATE_SECONDS:
        raise WireError(f"{path}.seconds: {message.seconds} is none of {', '.join(map(str, bounds.RATE_SECONDS))}")
    return Rate(amount=_whole(f"{path}.amount", message.amount, bounds.RATE_AMOUNT), seconds=message.seconds)


def _seconds(path: str, message: Message, field: str, bound: tuple[float, float]) -> float | None:
    return _within(f"{path}.{field}", getattr(message, field), bound) if message.HasField(field) else None


def _open(path: str, message: control_pb2.CircuitBreaker, field: str) -> int | None:
    return _whole(f"{path}.{field}", getattr(message, field), bounds.OPEN) if message.HasField(field) else None  # type: ignore[arg-type]


def _within(path: str, value: float, bound: tuple[float, float]) -> float:
    if not bound[0] <= value <= bound[1]:  # false for a NaN, too
        raise WireError(f"{path}: {value} is not from {bound[0]:g} to {bound[1]:g}")
    return value


def _whole(path: str, value: int, bound: tuple[int, int]) -> int:
    if not bound[0] <= value <= bound[1]:
        raise WireError(f"{path}: {value} is not from {bound[0]} to {bound[1]}")
    return value
