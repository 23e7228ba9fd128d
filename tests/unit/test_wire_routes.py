"""Routes and limits over the wire: each bound is held again where they arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

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
from ringfence.wire.fields import WireError
from ringfence.wire.gen import control_pb2 as pb
from ringfence.wire.routes import limits_to_wire, read_limits, read_route, route_to_wire

FULL = Route(
    name="shop/orders",
    timeouts=Timeouts(connect_seconds=1, response_head_seconds=2, request_seconds=3, idle_seconds=4),
    max_age_seconds=60,
    retries=Retries(attempts=3, on=(RetryOn.REFUSED, RetryOn.SERVER_ERROR), idempotent=True, per_try_seconds=1),
    circuit_breaker=CircuitBreaker(connections=1, pending=2, requests=3),
    outliers=Outliers(consecutive=1),
    matches=(
        RouteMatch(name="a", methods=("GET",), timeouts=RequestTimeouts(request_seconds=1)),
        RouteMatch(name="b", paths=("/a/{id}",), retries=Retries(attempts=0)),
    ),
)
LIMITS = (
    RateLimit(name="a", per=Per.CALLER, methods=("GET",), requests=Rate(amount=5, seconds=60), burst=9),
    RateLimit(name="b", per=Per.ROUTE, connections=Rate(amount=5, seconds=1), bytes=Rate(amount=1, seconds=3600)),
)


def message(route: Route = FULL) -> pb.Route:
    wire = route_to_wire(route)
    assert wire is not None
    return wire


def test_a_route_that_is_sent_arrives() -> None:
    assert read_route("r", message(), http=True) == FULL
    plain = Route(name="shop/ledger", timeouts=Timeouts(connect_seconds=1))
    assert read_route("r", message(plain), http=False) == plain
    assert route_to_wire(None) is None
    assert read_limits("l", limits_to_wire(LIMITS), http=True) == LIMITS


def _change(message: pb.Route, field: str, value: object) -> None:
    *path, last = field.split(".")
    target: object = message
    for part in path:
        target = getattr(target, part)
    setattr(target, last, value)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("name", "", "r.name:"),
        ("name", "n" * 508, "r.name:"),
        ("timeouts.connect_seconds", 0.0, "r.timeouts.connect_seconds: 0.0 is not from 0.01 to 60"),
        ("timeouts.request_seconds", float("nan"), "r.timeouts.request_seconds: nan"),
        ("timeouts.idle_seconds", float("inf"), "r.timeouts.idle_seconds: inf"),
        ("timeouts.response_head_seconds", -1.0, "r.timeouts.response_head_seconds: -1"),
        ("max_age_seconds", 1e9, "r.max_age_seconds:"),
        ("retries.attempts", 11, "r.retries.attempts: 11 is not from 0 to 10"),
        ("retries.budget_percent", 101, "r.retries.budget_percent:"),
        ("retries.idempotent", False, "r.retries.on: repeats what an app may have seen"),
        ("retries.per_try_seconds", 0.0, "r.retries.per_try_seconds:"),
        ("circuit_breaker.requests", 0, "r.circuit_breaker.requests: 0 is not from 1"),
        ("outliers.consecutive", 0, "r.outliers.consecutive:"),
        ("outliers.interval_seconds", 0.0, "r.outliers.interval_seconds:"),
        ("outliers.ejection_seconds", 1e6, "r.outliers.ejection_seconds:"),
        ("outliers.max_ejected_percent", 101, "r.outliers.max_ejected_percent:"),
        ("panic_percent", 101, "r.panic_percent:"),
    ],
)
def test_a_route_out_of_bounds_is_refused(field: str, value: object, told: str) -> None:
    broken = message()
    _change(broken, field, value)
    with pytest.raises(WireError) as caught:
        read_route("r", broken, http=True)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("field", ["timeouts", "retries", "circuit_breaker"])
def test_a_route_in_part_is_refused(field: str) -> None:
    broken = message()
    broken.ClearField(field)  # type: ignore[arg-type]
    with pytest.raises(WireError, match="not whole"):
        read_route("r", broken, http=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], r"r.retries.on: empty"),
        (["refused", "refused"], r"r.retries.on\[1\]: a duplicate"),
        (["4xx"], r"r.retries.on\[0\]: '4xx' is none of"),
        (["refused"] * 6, r"r.retries.on: 6 are more than 5"),
    ],
)
def test_what_is_retried_on_must_be_known(words: list[str], told: str) -> None:
    broken = message()
    broken.retries.on[:] = words
    with pytest.raises(WireError, match=told):
        read_route("r", broken, http=True)


@pytest.mark.parametrize(
    "match",
    [
        pb.RouteMatch(name="c"),
        pb.RouteMatch(name="a", paths=["/z"]),
        pb.RouteMatch(name="c", methods=["GET"]),
        pb.RouteMatch(name="c", paths=["/a/*"]),
        pb.RouteMatch(name="c", paths=["a"]),
        pb.RouteMatch(name="c", methods=["get"]),
    ],
)
def test_matches_that_cannot_be_told_apart_are_refused(match: pb.RouteMatch) -> None:
    broken = message()
    broken.matches.append(match)
    with pytest.raises(WireError, match=r"^r\.matches\[2\]"):
        read_route("r", broken, http=True)


@pytest.mark.parametrize(
    "route",
    [
        Route(name="r", timeouts=Timeouts(request_seconds=1)),
        Route(name="r", timeouts=Timeouts(response_head_seconds=1)),
        Route(name="r", retries=Retries(idempotent=True)),
        Route(name="r", retries=Retries(per_try_seconds=1)),
        Route(name="r", circuit_breaker=CircuitBreaker(requests=1)),
        replace(FULL, timeouts=Timeouts(), retries=Retries(), circuit_breaker=CircuitBreaker()),
    ],
)
def test_what_speaks_of_requests_is_refused_for_opaque_tcp(route: Route) -> None:
    assert read_route("r", message(route), http=True) == route
    with pytest.raises(WireError, match="speaks of requests"):
        read_route("r", message(route), http=False)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda limit: limit.ClearField("requests"), "burst: is of requests|has no rate"),
        (lambda limit: setattr(limit, "per", "token"), "per: 'token' is none of caller, route"),
        (lambda limit: setattr(limit, "name", "b"), "a duplicate"),
        (lambda limit: setattr(limit, "burst", 0), "burst: 0"),
        (lambda limit: setattr(limit, "burst", 26_280_001), "burst: takes more than ten years"),
        (lambda limit: setattr(limit.requests, "amount", 0), "requests.amount: 0"),
        (lambda limit: setattr(limit.requests, "amount", 2**51), "requests.amount"),
        (lambda limit: setattr(limit.requests, "seconds", 2), "requests.seconds: 2 is none of 1, 60, 3600"),
        (lambda limit: limit.bytes.CopyFrom(pb.Rate(amount=1, seconds=1)), "counts connections or bytes by"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(change: Callable[[pb.RateLimit], object], told: str) -> None:
    messages = limits_to_wire(LIMITS)
    change(messages[0])
    with pytest.raises(WireError, match=told):
        read_limits("l", messages, http=True)


def test_a_limit_of_requests_is_refused_for_opaque_tcp() -> None:
    assert read_limits("l", limits_to_wire(LIMITS[1:]), http=False) == LIMITS[1:]
    with pytest.raises(WireError, match=r"l\[0\]: speaks of requests"):
        read_limits("l", limits_to_wire(LIMITS), http=False)


def test_more_paths_than_a_request_may_be_held_against_are_refused() -> None:
    def paths(first: int, count: int) -> tuple[str, ...]:
        return tuple(f"/a/{number}" for number in range(first, first + count))

    quick = RequestTimeouts(request_seconds=1)
    one, other = (RouteMatch(name=f"m{at}", paths=paths(at, 500), timeouts=quick) for at in (0, 500))
    route = Route(name="shop/orders", matches=(one, other))
    assert read_route("r", message(route), http=True) == route
    beyond = RouteMatch(name="n", paths=("/b",), timeouts=quick)
    with pytest.raises(WireError, match=r"r\.matches: 1001 paths are more than 1000"):
        read_route("r", message(replace(route, matches=(one, other, beyond))), http=True)
    limits = [
        RateLimit(name=f"l{at}", per=Per.ROUTE, paths=paths(0, at), requests=Rate(amount=1, seconds=1))
        for at in (500, 501)
    ]
    with pytest.raises(WireError, match="l: 1001 paths are more than 1000"):
        read_limits("l", limits_to_wire(limits), http=True)


def test_every_name_that_a_document_may_have_arrives() -> None:
    route = replace(FULL, name="n" * 63 + "/" + ".".join(["a" * 63] * 4)[:253])
    assert read_route("r", message(route), http=True) == route
