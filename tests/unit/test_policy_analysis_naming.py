"""A person's words become a call, or a refusal that says which word and what to write."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.naming import CallWords, WordError, call_of
from ringfence.policy.analysis.world import World, WorldPort, WorldService
from ringfence.policy.facts import VerifiedToken
from ringfence.policy.model import TokenIssuer
from ringfence.spiffe import SpiffeId, TrustDomain


def service(namespace: str, name: str, *ports: int, issuers: tuple[str, ...] = ()) -> WorldService:
    return WorldService(
        namespace=namespace,
        name=name,
        spiffe_id=SpiffeId.parse(f"spiffe://shop.example/ns/{namespace}/sa/{name}"),
        ports=tuple(WorldPort(port=port, protocol="http") for port in ports),
        token_issuers=tuple(TokenIssuer(name=one, issuer=f"https://{one}", audiences=("a",)) for one in issuers),
    )


WORLD = World(
    trust_domain=TrustDomain("shop.example"),
    services=(
        service("shop", "web", 80, 81),
        service("shop", "orders", 8080, issuers=("shop/people", "shop/robots")),
        service("edge", "web", 80, issuers=("edge/people",)),
        service("edge", "batch"),
    ),
)


def call(**words: Any) -> Call:
    return call_of(CallWords(**{"caller": "shop/web", "service": "orders", "time": 1000.0, **words}), WORLD)


def test_what_is_not_said_is_what_is_usual() -> None:
    assert call() == Call(
        caller=SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web"), service="shop/orders", port=8080, time=1000.0
    )


def test_callers_are_services_identities_or_nobody() -> None:
    assert call(caller="unauthenticated").caller is None
    assert call(caller="spiffe://partner.example/x").caller == SpiffeId.parse("spiffe://partner.example/x")
    assert call(caller="web", namespace="edge", service="web").service == "edge/web"


def test_grpc_says_method_path_and_the_headers_that_go_with_it() -> None:
    found = call(grpc="shop.v1.Orders/List")

    assert (found.method, found.path) == ("POST", "/shop.v1.Orders/List")
    assert ("content-type", "application/grpc") in found.headers


def test_a_token_is_made_of_what_is_said_of_it() -> None:
    token = call(issuer="people", scopes=["a", "b"], claims={"sub": "me", "realm.roles": ["x"]}).token

    claims = {"sub": "me", "realm": {"roles": ["x"]}, "scope": "a b"}
    assert token == VerifiedToken(issuer="shop/people", claims=claims, expires=4600.0)
    assert call(service="edge/web", claims={"sub": "me"}).token == VerifiedToken(
        issuer="edge/people", claims={"sub": "me"}, expires=4600.0
    )


@pytest.mark.parametrize(
    ("words", "part", "told"),
    [
        ({"service": "shop/order"}, "service", "there is no service 'shop/order' (did you mean shop/orders?)"),
        ({"service": "web"}, "service", "2 services are called 'web' (say which: shop/web, edge/web)"),
        ({"service": "web", "namespace": "shop"}, "port", "shop/web has 2 ports (say which: 80, 81)"),
        ({"service": "batch"}, "port", "edge/batch has no ports"),
        ({"port": 0}, "port", "port 0 is not from 1 to 65535"),
        ({"caller": "wbe"}, "caller", "there is no service 'wbe' (did you mean web?)"),
        ({"caller": "spiffe://shop.example"}, "caller", "names a trust domain"),
        ({"caller": "spiffe://shop.example/a\n"}, "caller", "character"),
        ({"method": "GET /"}, "method", "'GET /' is no HTTP method"),
        ({"path": "orders"}, "path", "does not start with '/' (write /orders)"),
        ({"path": "/\udcff"}, "path", "no valid text"),
        ({"grpc": "Orders"}, "grpc", "'Orders' is no gRPC method"),
        ({"grpc": "a.B/C", "path": "/"}, "grpc", "remove method and path"),
        ({"headers": [("a b", "c")]}, "headers", "'a b' is no name of a header"),
        ({"address": "localhost"}, "address", "'localhost' is no IP address"),
        ({"scopes": ["a"]}, "issuer", "2 token issuers (say which: shop/people, shop/robots)"),
        ({"issuer": "poeple"}, "issuer", "no token issuer 'poeple'"),
        ({"service": "edge/batch", "port": 1, "scopes": ["a"]}, "issuer", "give it a TokenIssuer"),
    ],
)
def test_words_that_name_no_call_are_refused_with_the_mend(words: dict[str, Any], part: str, told: str) -> None:
    with pytest.raises(WordError) as refused:
        call(**words)

    assert refused.value.part == part
    assert told in str(refused.value)
