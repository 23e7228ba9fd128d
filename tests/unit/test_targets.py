"""Which service speaks for a pod that several have: the same one whatever the order."""

from __future__ import annotations

from itertools import permutations

from ringfence.snapshot import Endpoint, Protocol, Transport, Upstream
from ringfence.spiffe import SpiffeId
from sidecar.targets import pins

DB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/db")
POD = Endpoint(mesh_host="10.1.0.1", mesh_port=15008, address="10.1.0.1", spiffe_id=DB, port=5432)


def upstream(service: str, port: int, *addresses: str, endpoint: Endpoint = POD) -> Upstream:
    return Upstream(
        service=service,
        namespace="shop",
        port=port,
        protocol=Protocol.TCP,
        listen_host="",
        listen_port=0,
        endpoints=(endpoint,),
        addresses=addresses,
    )


def test_the_headless_service_speaks_for_a_pod_then_the_port_then_the_name() -> None:
    ranked = [
        upstream("z-headless", 5432),
        upstream("headless", 80),
        upstream("a", 5432, "10.96.0.1"),
        upstream("b", 5432, "10.96.0.2"),
        upstream("a", 80, "10.96.0.1"),
    ]
    for start in range(len(ranked)):
        for order in permutations(ranked[start:]):
            assert pins(order) == {("10.1.0.1", 5432): (ranked[start], POD)}


def test_an_endpoint_without_a_port_of_its_own_has_the_services() -> None:
    plain = Endpoint(mesh_host="10.1.0.1", mesh_port=15008, address="10.1.0.1", spiffe_id=DB)
    assert list(pins([upstream("db", 80, endpoint=plain)])) == [("10.1.0.1", 80)]


def test_whoever_takes_mutual_tls_itself_has_no_address_in_a_tunnel() -> None:
    direct = Endpoint(
        mesh_host="10.1.0.1", mesh_port=5432, address="10.1.0.1", spiffe_id=DB, transport=Transport.DIRECT
    )
    assert not pins([upstream("db", 5432, endpoint=direct)])
