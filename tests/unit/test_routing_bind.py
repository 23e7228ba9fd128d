"""Binding routes to the ports of services: nobody routes another's service, and nothing is silently not enforced."""

from __future__ import annotations

import pytest

from ringfence.policy.envelope import read_kinds
from ringfence.policy.services import MeshService
from ringfence.routing.bind import bind_routes
from ringfence.routing.documents import KIND, RouteDocument, read_route

SERVICES = {
    "shop/orders": MeshService(ports={8080: "http", 8081: "grpc", 9000: "tcp"}),
    "shop/ledger": MeshService(ports={5432: "tcp"}),
    "bank/vault": MeshService(ports={443: "http"}),
    "shop/empty": MeshService(ports={}),
    "shop/search": MeshService(ports={8443: "http"}, has_sidecar=False),
}


def document(name: str, spec: str, namespace: str = "shop", file: str = "") -> RouteDocument:
    text = (
        "apiVersion: ringfence.io/v1alpha1\nkind: Route\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
    (found,), problems = read_kinds(text, file or f"{name}.yaml", {KIND: read_route})
    assert problems == []
    return found


def told(*documents: RouteDocument) -> list[str]:
    bound, problems = bind_routes(documents, SERVICES)
    assert (bound == {}) == bool(problems)
    return [str(problem) for problem in problems]


def test_a_route_holds_on_the_ports_that_it_names_and_without_any_on_all() -> None:
    named = document("a", "service: orders, ports: [8080, 8081], timeouts: {request: 1s}")
    every = document("b", 'service: ledger, limits: [{name: all, per: route, connections: "5/s"}]')
    bound, problems = bind_routes([every, named], SERVICES)
    assert problems == []
    assert {service: sorted(ports) for service, ports in bound.items()} == {
        "shop/orders": [8080, 8081],
        "shop/ledger": [5432],
    }
    assert bound["shop/orders"][8081].route.name == "shop/a"
    assert [limit.name for limit in bound["shop/ledger"][5432].limits] == ["all"]
    assert bind_routes([named, every], SERVICES)[0] == bound


def test_a_namespaces_owner_cannot_route_another_namespaces_service() -> None:
    mine = document("mine", "service: vault, maxAge: 1h", namespace="shop")
    assert told(mine) == [
        "mine.yaml:4:17: namespace shop has no service 'vault' "
        "(bank/vault exists: a route stands in the namespace of the service)"
    ]
    assert told(document("theirs", "service: vault, maxAge: 1h", namespace="bank")) == []


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("service: order, maxAge: 1h", "namespace shop has no service 'order' (did you mean orders?)"),
        ("service: orders, ports: [8082], maxAge: 1h", "shop/orders has no port 8082 (its ports: 8080, 8081, 9000)"),
        ("service: empty, ports: [1], maxAge: 1h", "shop/empty has no port 1 (its ports: none: it has no ports)"),
        ("service: ledger, timeouts: {request: 1s}", "timeouts.request speaks of requests, but port 5432 of"),
        ("service: ledger, timeouts: {responseHead: 1s}", "timeouts.responseHead speaks of requests"),
        ("service: ledger, retries: {idempotent: true}", "retries.idempotent speaks of requests"),
        ("service: ledger, retries: {perTryTimeout: 1s}", "retries.perTryTimeout speaks of requests"),
        ("service: ledger, retries: {idempotent: true, on: [5xx]}", "retries.on 5xx speaks of requests"),
        ("service: ledger, circuitBreaker: {requests: 1}", "circuitBreaker.requests speaks of requests"),
        (
            "service: ledger, routes: [{name: a, methods: [GET], timeouts: {request: 1s}}]",
            "a.yaml:4:33: routes speaks of requests, but port 5432 of shop/ledger carries opaque TCP",
        ),
        ('service: ledger, limits: [{name: a, per: route, requests: "1/s"}]', "requests speaks of requests"),
        # One opaque port among others is enough: there the group would not be enforced.
        ("service: orders, timeouts: {request: 1s}", "but port 9000 of shop/orders carries opaque TCP (remove it, or"),
        ("service: orders, ports: [8080, 9000], timeouts: {request: 1s}", "but port 9000 of shop/orders"),
    ],
)
def test_what_cannot_be_enforced_is_an_error(spec: str, problem: str) -> None:
    problems = told(document("a", spec))
    assert any(problem in one for one in problems), problems


@pytest.mark.parametrize(
    "spec",
    [
        "service: ledger, timeouts: {connect: 1s, idle: 1h}, maxAge: 1h, panicThreshold: 0%",
        "service: ledger, retries: {attempts: 1}, circuitBreaker: {connections: 1}, outliers: {ejection: 1s}",
        'service: ledger, limits: [{name: a, per: caller, connections: "1/s", bytes: "1B/s"}]',
    ],
)
def test_what_opaque_tcp_can_keep_is_taken_there(spec: str) -> None:
    assert told(document("a", spec)) == []


def test_two_routes_for_one_port_are_an_error_at_the_second() -> None:
    first = document("first", "service: orders, ports: [8080], maxAge: 1h", file="a.yaml")
    second = document("second", "service: orders, maxAge: 2h", file="b.yaml")
    expected = [
        "b.yaml:4:17: port 8080 of shop/orders has the route shop/first already "
        "(at a.yaml:3: merge the two, or name different ports)"
    ]
    assert told(first, second) == told(second, first) == expected
    assert told(first, document("second", "service: orders, ports: [9000], maxAge: 2h", file="b.yaml")) == []


def test_two_routes_of_one_name_are_an_error() -> None:
    first = document("a", "service: orders, ports: [8080], maxAge: 1h", file="a.yaml")
    second = document("a", "service: orders, ports: [9000], maxAge: 1h", file="b.yaml")
    assert told(second, first) == ["b.yaml:3:18: duplicate route 'shop/a' (first given at a.yaml:3: rename one)"]


def test_limits_that_no_sidecar_would_keep_are_an_error_and_how_callers_reach_it_is_not() -> None:
    limits = document("a", 'service: search, limits: [{name: all, per: route, connections: "5/s"}]')
    assert told(limits) == [
        "a.yaml:4:17: shop/search has no sidecar, so that nobody would keep these limits "
        "(remove limits, or give the service a sidecar)"
    ]
    assert told(document("b", "service: search, timeouts: {request: 1s}")) == []


def test_an_age_of_mesh_connections_to_a_service_that_has_none_is_an_error() -> None:
    assert told(document("a", "service: search, maxAge: 1h")) == [
        "a.yaml:4:17: shop/search has no sidecar, so there are no mesh connections to it whose age could be bounded "
        "(remove maxAge, or give the service a sidecar)"
    ]
