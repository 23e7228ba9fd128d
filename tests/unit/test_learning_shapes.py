"""Paths come to few shapes: what is made by a machine or names one thing is never kept, what a programmer named is."""

from __future__ import annotations

import pytest

from ringfence.policy.learning.flow import Flow, Verdict, caller_words
from ringfence.policy.learning.shapes import LIMIT_SEGMENTS, REST, grpc_shape_of, joined, shape_of
from ringfence.policy.paths import judged_path
from ringfence.spiffe import SpiffeId


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        (b"/", "/"),
        (b"/orders", "/orders"),
        (b"/orders/", "/orders/"),
        (b"/orders/7/lines", "/orders/{id}/lines"),
        (b"/v1/oauth2/token", "/v1/oauth2/token"),
        (b"/api/v1.2/index.html", "/api/v1.2/index.html"),
        (b"/.well-known/jwks.json", "/.well-known/jwks.json"),
        (b"/feedface/cafe", "/feedface/cafe"),
        (b"/blobs/deadbeef01", "/blobs/{id}"),
        (b"/x/550e8400-e29b-41d4-a716-446655440000", "/x/{id}"),
        (b"/x/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/x/{id}"),
        (b"/days/2024-01-02", "/days/{id}"),
        (b"/users/alice@example.com", "/users/{id}"),
        (b"/files/r%C3%A9sum%C3%A9.pdf", "/files/{id}"),
        (b"/" + b"a" * 65, "/{id}"),
        (b"/" + b"a" * 64, "/" + "a" * 64),
    ],
)
def test_what_is_made_becomes_a_parameter_and_what_is_named_stays(path: bytes, shape: str) -> None:
    assert joined(shape_of(path)) == shape


def test_a_long_path_is_cut_and_says_so() -> None:
    assert shape_of(b"/a" * 40) == ("a",) * LIMIT_SEGMENTS + (REST,)
    assert joined(shape_of(b"/" + b"/".join([b"word" * 15] * 8))).endswith("/{rest}")
    assert shape_of(b"/a" * LIMIT_SEGMENTS) == ("a",) * LIMIT_SEGMENTS


def test_no_path_can_spell_the_words_for_what_was_merged() -> None:
    judged = judged_path(b"/orders/{id}")
    assert judged == b"/orders/%7Bid%7D"
    assert judged_path(b"/orders/{rest}") == b"/orders/%7Brest%7D"


def test_grpc_methods_keep_their_names_however_they_look() -> None:
    assert grpc_shape_of(b"/shop.v2.Orders/ListOrdersByCustomer2024And25") == (
        "shop.v2.Orders",
        "ListOrdersByCustomer2024And25",
    )
    assert grpc_shape_of(b"/shop.Orders/Get%20It") == ("shop.Orders", "{id}")
    assert grpc_shape_of(b"/a/b/7") == ("a", "b", "{id}")


def flow(**changes: object) -> Flow:
    known: dict[str, object] = {
        "caller": SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web"),
        "service": "shop/orders",
        "port": 8080,
        "protocol": "http",
        "verdict": Verdict.PERMIT,
        "count": 1,
        "first_seen": 1.0,
        "last_seen": 2.0,
        **changes,
    }
    return Flow(**known)  # type: ignore[arg-type]


def test_a_flow_gives_a_target_that_the_judge_can_be_asked_about() -> None:
    found = flow(method="GET", path="/orders/{id}/lines/{rest}")
    assert found.example_target() == "/orders/0/lines/0"
    assert judged_path(found.example_target().encode()) is not None


def test_only_a_grpc_path_names_a_grpc_method() -> None:
    assert flow(protocol="grpc", path="/shop.Orders/Get").grpc_method == ("shop.Orders", "Get")
    assert flow(protocol="grpc", path="/shop.Orders/Get/x").grpc_method is None
    assert flow(protocol="grpc", path="/shop.Orders/").grpc_method is None
    assert flow(protocol="http", path="/shop.Orders/Get").grpc_method is None


def test_opaque_and_unauthenticated_are_said_in_words() -> None:
    assert flow(protocol="tcp").is_opaque
    assert not flow(protocol="http").is_opaque
    assert caller_words(None) == "unauthenticated"
