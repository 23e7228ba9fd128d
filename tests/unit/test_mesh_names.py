"""The names of upstreams: nothing is known but what the workload declares."""

from __future__ import annotations

import pytest

from ringfence.snapshot import Protocol, Upstream
from sidecar.mesh_names import MeshNames


def upstream(service: str, port: int, namespace: str = "shop", addresses: tuple[str, ...] = ()) -> Upstream:
    return Upstream(
        service=service,
        namespace=namespace,
        port=port,
        protocol=Protocol.HTTP,
        listen_host="",
        listen_port=0,
        endpoints=(),
        addresses=addresses,
    )


ORDERS = upstream("orders", 8080, addresses=("10.96.0.1", "fd96::1"))
WEB, WEB_ADMIN = upstream("web", 80), upstream("web", 8081)
VAULT = upstream("vault", 443, "bank")
NAMES = MeshNames((ORDERS, WEB, WEB_ADMIN, VAULT), "shop")


@pytest.mark.parametrize(
    "name",
    ["orders", "orders.shop", "orders.shop.svc", "orders.shop.svc.cluster.local", "10.96.0.1", "fd96::1"],
)
def test_an_upstream_is_found_by_each_of_its_names(name: str) -> None:
    assert NAMES.find(name, 8080) is ORDERS
    assert NAMES.find(name, None) is ORDERS
    assert NAMES.find(name, 8081) is None
    assert NAMES.find(name, 80) is None


@pytest.mark.parametrize(
    "name", ["order", "orders.", "orders.bank", "orders.shop.svc.", "orders.shop.example", "a.orders.shop", "vault", ""]
)
def test_no_other_name_means_one(name: str) -> None:
    assert NAMES.find(name, 8080) is None
    assert NAMES.find(name, None) is None


def test_a_service_of_another_namespace_has_its_full_name_alone() -> None:
    assert NAMES.find("vault.bank", 443) is VAULT


def test_without_a_port_it_is_that_of_http_or_the_only_one() -> None:
    assert NAMES.find("web", None) is WEB
    assert MeshNames((WEB_ADMIN, upstream("web", 8082)), "shop").find("web", None) is None
