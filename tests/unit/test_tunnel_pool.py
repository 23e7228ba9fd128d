"""Which endpoint a new connection goes to, and which links stay."""

from __future__ import annotations

from dataclasses import replace

from ringfence.kit.clock import SystemClock
from ringfence.snapshot import Endpoint
from ringfence.spiffe import SpiffeId
from tests.data_path import WEB, Side
from tests.pki import TestCa

PAYMENTS = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/payments")
DRAWS = 200


def endpoint(host: int, *, ready: bool = True) -> Endpoint:
    address = f"10.0.0.{host}"
    return Endpoint(mesh_host=address, mesh_port=15008, address=address, spiffe_id=PAYMENTS, ready=ready)


def chosen(*endpoints: Endpoint) -> set[str]:
    pool = Side(WEB, TestCa("shop.example"), SystemClock()).outbound.pool
    return {pool.choose(endpoints).address for _ in range(DRAWS)}


def test_every_endpoint_is_chosen() -> None:
    assert chosen(endpoint(1), endpoint(2), endpoint(3)) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_endpoint_that_is_not_ready_is_never_chosen_while_another_is() -> None:
    assert chosen(endpoint(1), endpoint(2, ready=False), endpoint(3)) == {"10.0.0.1", "10.0.0.3"}
    assert chosen(endpoint(1, ready=False), endpoint(2, ready=False), endpoint(3)) == {"10.0.0.3"}


def test_where_none_is_ready_all_are_chosen() -> None:
    assert chosen(endpoint(1, ready=False)) == {"10.0.0.1"}
    assert chosen(endpoint(1, ready=False), endpoint(2, ready=False)) == {"10.0.0.1", "10.0.0.2"}


def test_readiness_makes_no_other_endpoint() -> None:
    found = endpoint(1)
    assert {found: "link"}[replace(found, ready=False)] == "link"
