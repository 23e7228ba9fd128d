"""Services without a sidecar in a mesh file: what of them cannot hold, at its exact place, with the mend."""

# ruff: noqa: E501 a problem is one line, and is compared as one

from __future__ import annotations

import pytest

from controlplane.mesh.document import read_mesh
from ringfence.mesh import DirectPort, DirectService
from ringfence.snapshot import Protocol
from ringfence.spiffe import SpiffeId

GOOD = """\
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {name: shop}
spec:
  trustDomain: shop.example
  services:
    - name: web
      namespace: shop
      mesh: 15008
      ports:
        - {port: 8080, protocol: http, app: "127.0.0.1:9002"}
      upstreams:
        - {service: search, port: 8443, listen: "127.0.0.1:9102"}
  directServices:
    - name: search
      namespace: shop
      spiffeId: spiffe://shop.example/search
      addresses: ["10.0.0.5", "10.0.0.6"]
      ports:
        - {port: 8443, protocol: grpc}
        - {port: 9443, protocol: tcp}
"""

NONE = "a direct service has no sidecar, so it cannot have"
MOVE = "(remove it, or move the service to services)"
LINE = "      spiffeId: spiffe://shop.example/search"

CHANGES = [
    *(
        (f"{key} of a direct service", LINE, f"{LINE}\n      {text}", [f"18:{9 + len(key)}: {NONE} {key} {MOVE}"])
        for key, text in (
            ("mesh", "mesh: 15009"),
            ("signals", 'signals: "127.0.0.1:9402"'),
            ("accessLog", "accessLog: all"),
            ("upstreams", "upstreams: []"),
            ("intercept", "intercept: {}"),
            ("egress", "egress: []"),
            ("forwardProxy", 'forwardProxy: "127.0.0.1:3128"'),
            ("run", 'run: {command: ["envoy"]}'),
        )
    ),
    *(
        (
            f"{key} of its port",
            "protocol: grpc",
            f"protocol: grpc, {key}: {value}",
            [f"20:{42 + len(key)}: {NONE} {key} (remove it)"],
        )
        for key, value in (("app", "9001"), ("mode", "permissive"), ("proxyProtocol", "v2"), ("forwardedFor", "off"))
    ),
    (
        "a protocol to be found out",
        "protocol: grpc",
        "protocol: auto",
        ["20:34: protocol 'auto' is not known (use one of http, http2, grpc, tcp)"],
    ),
    (
        "no protocol",
        "{port: 8443, protocol: grpc}",
        "{port: 8443}",
        ["20:11: item of ports lacks protocol (add protocol)"],
    ),
    (
        "a misspelt field",
        "spiffeId:",
        "spiffeID:",
        ["17:7: unknown field 'spiffeID' in item of directServices (did you mean spiffeId?)"],
    ),
    (
        "an identity of another trust domain",
        "spiffe://shop.example/search",
        "spiffe://other.example/search",
        [
            "17:17: spiffeId spiffe://other.example/search is not of the trust domain shop.example (no other's bundle can be given yet)"
        ],
    ),
    (
        "the identity of a trust domain",
        "spiffe://shop.example/search",
        "spiffe://shop.example",
        [
            "17:17: spiffeId spiffe://shop.example is not that of a workload (write it like spiffe://shop.example/ns/shop/sa/api)"
        ],
    ),
    (
        "an identity of another service",
        "spiffe://shop.example/search",
        "spiffe://shop.example/ns/shop/sa/web",
        [
            "17:17: identity spiffe://shop.example/ns/shop/sa/web is already that of shop/web (give each service an identity of its own)"
        ],
    ),
    (
        "no identity at all",
        "spiffe://shop.example/search",
        "https://shop.example/search",
        [
            "17:17: no valid SPIFFE ID: SPIFFE ID 'https://shop.example/search' does not start with spiffe:// (write it like spiffe://shop.example/ns/shop/sa/api)"
        ],
    ),
    (
        "the name of another service",
        "    - name: search",
        "    - name: web",
        [
            "13:21: unknown service 'shop/search' (did you mean web?)",
            "15:13: duplicate service 'shop/web', first on line 7 (rename one of them)",
        ],
    ),
    (
        "no addresses",
        '      addresses: ["10.0.0.5", "10.0.0.6"]\n',
        "",
        ['15:7: item of directServices lacks addresses (write where it takes mutual TLS, such as ["10.0.0.5"])'],
    ),
    (
        "an address that is every host's",
        '"10.0.0.6"',
        '"0.0.0.0"',
        ["18:18: 0.0.0.0 is not the address of one host (write an address that callers can dial)"],
    ),
    (
        "an address twice",
        '"10.0.0.6"',
        '"10.0.0.5"',
        ["18:31: item of addresses is there twice (first on line 18: remove one)"],
    ),
    (
        "a port twice",
        "port: 9443",
        "port: 8443",
        ["21:18: duplicate port 8443, first on line 20 (keep one of them)"],
    ),
    (
        "a port that an upstream does not find",
        "port: 8443, protocol: grpc",
        "port: 8444, protocol: grpc",
        ["13:35: service shop/search has no port 8443 (use one of its ports: 8444, 9443)"],
    ),
    (
        "a socket that a sidecar listens on",
        'addresses: ["10.0.0.5", "10.0.0.6"]\n      ports:\n        - {port: 8443, protocol: grpc}',
        'addresses: ["127.0.0.1"]\n      ports:\n        - {port: 8443, protocol: grpc}\n        - {port: 15008, protocol: http}',
        [
            "21:18: the address of shop/search 127.0.0.1:15008 is already the mesh port of shop/web on line 9 (choose another port)"
        ],
    ),
]


def test_a_direct_service_is_an_upstream_of_its_protocol_and_identity() -> None:
    document, problems = read_mesh(GOOD, "mesh.yaml")
    assert not problems
    assert document is not None
    [search] = document.mesh.direct_services
    assert search == DirectService(
        name="search",
        namespace="shop",
        spiffe_id=SpiffeId.parse("spiffe://shop.example/search"),
        addresses=("10.0.0.5", "10.0.0.6"),
        ports=(DirectPort(port=8443, protocol=Protocol.GRPC), DirectPort(port=9443, protocol=Protocol.TCP)),
    )
    [upstream] = document.mesh.services[0].upstreams
    assert (upstream.service, upstream.protocol) == ("shop/search", Protocol.GRPC)


def test_without_a_spiffe_id_it_is_the_one_of_its_name() -> None:
    document, _ = read_mesh(GOOD.replace(f"{LINE}\n", ""), "mesh.yaml")
    assert document is not None
    assert str(document.mesh.direct_services[0].spiffe_id) == "spiffe://shop.example/ns/shop/sa/search"


@pytest.mark.parametrize(
    ("was", "becomes", "expected"), [change[1:] for change in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_a_broken_direct_service_draws_these_problems(was: str, becomes: str, expected: list[str]) -> None:
    assert was in GOOD
    document, problems = read_mesh(GOOD.replace(was, becomes, 1), "mesh.yaml")
    assert [str(problem).removeprefix("mesh.yaml:") for problem in problems] == expected
    assert document is None
