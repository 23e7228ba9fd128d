"""Which settings hold for a request: the most specific match, whatever the order."""

from __future__ import annotations

from itertools import permutations

import pytest

from ringfence.routing.model import RequestTimeouts, Retries, Route, RouteMatch, Timeouts
from ringfence.routing.table import RouteTable


def match(name: str, *paths: str, methods: tuple[str, ...] = ()) -> RouteMatch:
    return RouteMatch(name=name, methods=methods, paths=paths, timeouts=RequestTimeouts(request_seconds=1))


MATCHES = (
    match("exact", "/orders/7"),
    match("variable", "/orders/{id}"),
    match("variable-get", "/orders/{id}", methods=("GET",)),
    match("rest", "/orders/**"),
    match("early", "/orders/{id}/lines"),
    match("late", "/{kind}/7/lines"),
    match("puts", methods=("PUT",)),
)


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        (b"GET", b"/orders/7", "exact"),
        (b"GET", b"/orders/8?a=b", "variable-get"),
        (b"POST", b"/orders/8", "variable"),
        (b"GET", b"/orders", "rest"),
        (b"GET", b"/orders/", "rest"),
        (b"GET", b"/orders/7/lines", "early"),
        (b"GET", b"/other/7/lines", "late"),
        (b"PUT", b"/orders/8", "variable"),
        (b"PUT", b"/elsewhere", "puts"),
        (b"GET", b"/elsewhere", ""),
        (b"GET", b"/ordersx", ""),
        (b"GET", b"/orders/..%2f7", ""),
        (b"GET", b"/%6frders/7", "exact"),
        (b"OPTIONS", b"*", ""),
    ],
)
def test_the_most_specific_match_holds(method: bytes, target: bytes, name: str) -> None:
    for order in permutations(MATCHES, len(MATCHES)) if name == "late" else [MATCHES, MATCHES[::-1]]:
        table = RouteTable(Route(name="r", matches=tuple(order)))
        assert table.settings(method, target).name == name
        assert table.settings(method, target).name == name  # remembered


def test_what_a_match_does_not_set_is_the_routes_own() -> None:
    retries = Retries(attempts=1)
    route = Route(
        name="r",
        timeouts=Timeouts(request_seconds=9, response_head_seconds=3),
        retries=retries,
        matches=(
            match("a", "/a"),
            RouteMatch(name="b", paths=("/b",), retries=Retries(attempts=7)),
        ),
    )
    table = RouteTable(route)
    a, b, other = (table.settings(b"GET", target) for target in (b"/a", b"/b", b"/c"))
    assert (a.request_seconds, a.response_head_seconds, a.retries) == (1, 3, retries)
    assert (b.request_seconds, b.retries.attempts) == (9, 7)
    assert (other.request_seconds, other.retries) == (9, retries)
    assert not table.uniform
    assert RouteTable(Route(name="r")).uniform


def test_the_memory_of_requests_is_bounded() -> None:
    table = RouteTable(Route(name="r", matches=(match("a", "/a/{id}"),)))
    for number in range(5000):
        assert table.settings(b"GET", b"/a/%d" % number).name == "a"
    table.settings(b"GET", b"/a/" + b"x" * 5000)
    assert len(table._memory) <= 1024
    assert max(len(target) for _, target in table._memory) <= 1024
