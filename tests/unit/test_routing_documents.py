"""Route documents: what is read, and every error with its place and mend."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from ringfence.policy.envelope import read_kinds
from ringfence.policy.services import MeshService
from ringfence.routing.bind import bind_routes
from ringfence.routing.documents import KIND, RouteDocument, read_route
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

HEAD = """\
apiVersion: ringfence.io/v1alpha1
kind: Route
metadata: {name: orders, namespace: shop}
spec:
  service: orders
"""
FULL = """\
  ports: [8080]
  timeouts: {connect: 2s, responseHead: 30s, request: 1m, idle: 10m}
  maxAge: 1h
  retries: {attempts: 3, on: ["5xx", connect_failure], idempotent: true, budget: "10%", perTryTimeout: 500ms}
  circuitBreaker: {connections: 1000, pending: 100, requests: 500}
  outliers: {consecutive: 3, interval: 10s, ejection: 5s, maxEjected: "40%"}
  panicThreshold: "0%"
  routes:
    - name: writes
      methods: [POST]
      timeouts: {request: 5s}
    - name: reads
      methods: [GET]
      paths: ["/orders/{id}"]
      retries: {attempts: 0}
  limits:
    - {name: each, per: caller, methods: [GET], requests: "6000/m", burst: 200}
    - {name: all, per: route, connections: "10/s", bytes: "1MiB/s"}
"""


def read(spec: str) -> tuple[list[RouteDocument], list[str]]:
    text = HEAD + textwrap.indent(textwrap.dedent(spec), "  ")
    documents, problems = read_kinds(text, "r.yaml", {KIND: read_route})
    return documents, [str(problem) for problem in problems]


def test_a_whole_route_is_read() -> None:
    (document,), problems = read(FULL)
    assert problems == []
    assert document.service_full_name == "shop/orders"
    assert [port for port, _ in document.ports] == [8080]
    assert document.route == Route(
        name="shop/orders",
        timeouts=Timeouts(connect_seconds=2, response_head_seconds=30, request_seconds=60, idle_seconds=600),
        max_age_seconds=3600,
        retries=Retries(
            attempts=3,
            on=(RetryOn.CONNECT_FAILURE, RetryOn.SERVER_ERROR),
            idempotent=True,
            budget_percent=10,
            per_try_seconds=0.5,
        ),
        circuit_breaker=CircuitBreaker(connections=1000, pending=100, requests=500),
        outliers=Outliers(consecutive=3, interval_seconds=10, ejection_seconds=5, max_ejected_percent=40),
        panic_percent=0,
        matches=(
            RouteMatch(name="reads", methods=("GET",), paths=("/orders/{id}",), retries=Retries(attempts=0)),
            RouteMatch(name="writes", methods=("POST",), timeouts=RequestTimeouts(request_seconds=5)),
        ),
    )
    assert document.limits == (
        RateLimit(name="each", per=Per.CALLER, methods=("GET",), requests=Rate(amount=6000, seconds=60), burst=200),
        RateLimit(
            name="all", per=Per.ROUTE, connections=Rate(amount=10, seconds=1), bytes=Rate(amount=1 << 20, seconds=1)
        ),
    )


def test_what_is_not_said_is_the_default() -> None:
    (document,), problems = read("timeouts: {connect: 1s}")
    assert problems == []
    assert document.route == Route(name="shop/orders", timeouts=Timeouts(connect_seconds=1))
    assert document.route.retries.on == (RetryOn.CONNECT_FAILURE, RetryOn.REFUSED)
    assert not document.http


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("timeout: {connect: 1s}", "r.yaml:6:3: unknown field 'timeout' in spec (did you mean timeouts?)"),
        ("timeouts: {}", "r.yaml:6:13: timeouts is empty (remove it, or set something in it)"),
        ("timeouts: {connect: 1}", "r.yaml:6:23: connect '1' is not a duration"),
        ("timeouts: {connect: 2m}", "r.yaml:6:23: connect '2m' is out of range (from 0.01s to 60s)"),
        ("timeouts: {connect: 0s}", "r.yaml:6:23: connect '0s' is out of range"),
        ("timeouts: {request: -1s}", "r.yaml:6:23: request '-1s' is not a duration"),
        ("maxAge: 31d", "r.yaml:6:11: maxAge '31d' is out of range (from 1s to 2.592e+06s)"),
        ("retries: {attempts: 11}", "r.yaml:6:23: attempts 11 is out of range (from 0 to 10)"),
        ("retries: {on: []}", "r.yaml:6:17: on is empty"),
        ("retries: {on: [refuse]}", "r.yaml:6:18: item of on 'refuse' is not known (did you mean refused?)"),
        ("retries: {on: [refused, refused]}", "r.yaml:6:27: item of on is there twice"),
        ("retries: {on: [5xx]}", "r.yaml:6:18: after 5xx an app may have seen the request already (add idempotent"),
        ('retries: {budget: "101%"}', "r.yaml:6:21: budget '101%' is not valid: not a share from 0% to 100%"),
        ("retries: {budget: 20}", "r.yaml:6:21: budget '20' is not valid: must be text"),
        (
            "retries: {perTryTimeout: 2s}\ntimeouts: {request: 1s}",
            "r.yaml:6:12: perTryTimeout of 2s is longer than the request timeout (the whole request has 1s",
        ),
        ("circuitBreaker: {requests: 0}", "r.yaml:6:30: requests 0 is out of range"),
        ("outliers: {consecutive: 0}", "r.yaml:6:27: consecutive 0 is out of range"),
        ("outliers: {maxEjected: 50%, ejected: 1s}", "unknown field 'ejected' in outliers (did you mean maxEjected?)"),
        ("panicThreshold: half", "r.yaml:6:19: panicThreshold 'half' is not valid"),
        ("ports: [8080]", "r.yaml:5:3: route sets nothing"),
        ("routes: []", "r.yaml:6:11: routes is empty"),
        ("routes: [{name: a, timeouts: {request: 1s}}]", "r.yaml:6:12: route names no requests"),
        ("routes: [{name: a, methods: [GET]}]", "r.yaml:6:12: route sets nothing"),
        (
            "routes: [{name: a, methods: [GET], timeouts: {idle: 1s}}]",
            "unknown field 'idle' in timeouts",
        ),
        (
            'routes: [{name: a, methods: [GET], retries: {budget: "1%"}}]',
            "unknown field 'budget' in retries",
        ),
        (
            "routes:\n"
            "  - {name: a, methods: [GET, PUT], timeouts: {request: 1s}}\n"
            "  - {name: b, methods: [PUT], timeouts: {request: 2s}}",
            "r.yaml:8:14: b is for PUT every path, which another route names (a on line 7 names them as precisely",
        ),
        (
            "routes:\n"
            "  - {name: a, paths: ['/o/{id}'], timeouts: {request: 1s}}\n"
            "  - {name: b, paths: ['/o/*'], timeouts: {request: 2s}}",
            "r.yaml:8:14: b is for /o/*, which another route names",
        ),
        (
            "routes:\n"
            "  - {name: a, paths: [/a], timeouts: {request: 1s}}\n"
            "  - {name: a, paths: [/b], timeouts: {request: 2s}}",
            "r.yaml:8:14: duplicate route name 'a' (first used on line 7: rename one)",
        ),
        ("limits: [{name: a, per: caller}]", "r.yaml:6:12: limit has no rate"),
        ('limits: [{name: a, per: token, requests: "1/s"}]', "r.yaml:6:27: per: token needs the subjects of verified"),
        ('limits: [{name: a, per: calle, requests: "1/s"}]', "per 'calle' is not known (did you mean caller?)"),
        ('limits: [{name: a, requests: "1/s"}]', "lacks per (add per)"),
        ('limits: [{name: a, per: route, requests: "0/s"}]', "requests '0/s' is not valid: not a rate"),
        ('limits: [{name: a, per: route, requests: "1/d"}]', "(write it like 100/s, 6000/m or 50/h)"),
        ('limits: [{name: a, per: route, bytes: "1Mib/s"}]', "bytes '1Mib/s' is not valid: not a rate of bytes"),
        ('limits: [{name: a, per: route, bytes: "999999999999999GiB/s"}]', "more than can be told from no limit"),
        ('limits: [{name: a, per: route, connections: "1/s", burst: 5}]', "burst is of requests"),
        ('limits: [{name: a, per: route, requests: "1/h", burst: 87601}]', "burst of 87601 takes more than ten years"),
        (
            'limits: [{name: a, per: route, methods: [GET], requests: "1/s", bytes: "1B/s"}]',
            "bytes cannot be limited by methods",
        ),
        (
            'limits: [{name: a, per: route, requests: "1/s"}, {name: a, per: route, requests: "2/s"}]',
            "r.yaml:6:59: duplicate limit name 'a'",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_mend(spec: str, told: str) -> None:
    _, problems = read(spec)
    assert any(told in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("key", "rest"),
    [("routes", "timeouts: {request: 1s}"), ("limits", 'per: route, requests: "1/s"')],
)
def test_no_more_paths_can_be_named_than_a_request_may_be_held_against(key: str, rest: str) -> None:
    def problems(count: int) -> list[str]:
        items = [f"  - {{name: m{number}, paths: [/a{number}/b, /a{number}/c], {rest}}}" for number in range(4)]
        long = ", ".join(f"/long/{number}" for number in range(count - 8))
        return read(f"{key}:\n" + "\n".join([*items, f"  - {{name: long, paths: [{long}], {rest}}}"]))[1]

    assert problems(1000) == []
    assert [problem.partition(" (")[0] for problem in problems(1001)] == [f"r.yaml:7:5: {key} name 1001 paths"]


def test_the_service_of_another_namespace_cannot_even_be_written() -> None:
    text = HEAD.replace("service: orders", "service: bank/vault") + "  maxAge: 1h\n"
    _, problems = read_kinds(text, "r.yaml", {KIND: read_route})
    assert [str(problem).partition(" (")[0] for problem in problems] == [
        "r.yaml:5:12: service 'bank/vault' is not a valid name"
    ]


def test_a_name_is_no_longer_than_what_sidecars_take() -> None:
    def problems(name: str) -> list[str]:
        text = HEAD.replace("name: orders,", f"name: {name},") + "  maxAge: 1h\n"
        return [str(problem) for problem in read_kinds(text, "r.yaml", {KIND: read_route})[1]]

    assert problems(".".join(["a" * 63] * 4)[:253]) == []
    assert problems(".".join(["a" * 63] * 4)[:254]) == [
        "r.yaml:3:18: name has 254 characters (at most 253: shorten it)"
    ]


def test_a_kind_that_is_nearly_one_is_told_which() -> None:
    _, problems = read_kinds(HEAD.replace("kind: Route", "kind: Routes"), "r.yaml", {KIND: read_route})
    assert "kind 'Routes' is not known here (did you mean Route?)" in str(problems[0])


@pytest.mark.parametrize("source", ["README.md", "ringfence/routing/documents.py"])
def test_the_examples_that_people_copy_are_valid(source: str) -> None:
    text = (Path(__file__).parents[2] / source).read_text()
    found = re.search(r"^ *apiVersion: [^\n]*\n *kind: Route\n.*?(?=\n```|\n\"\"\")", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    (document,), problems = read_kinds(textwrap.dedent(found[0]), source, {KIND: read_route})
    assert problems == []
    bound, problems = bind_routes([document], {"shop/orders": MeshService(ports={8080: "http"})})
    assert problems == []
    assert bound["shop/orders"][8080].limits
