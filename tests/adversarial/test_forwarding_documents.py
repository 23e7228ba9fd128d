"""What of forwarding cannot be said in a mesh file: each problem at its exact place, with the mend."""

# ruff: noqa: E501 a problem is one line, and is compared as one

from __future__ import annotations

import pytest

from controlplane.mesh.document import read_mesh
from ringfence.kit.addresses import SocketAddress
from ringfence.snapshot import ForwardedFor

GOOD = """\
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {name: shop}
spec:
  trustDomain: shop.example
  services:
    - name: orders
      namespace: shop
      mesh: 15008
      forwardProxy: "127.0.0.1:3128"
      ports:
        - {port: 8080, protocol: http, app: 9002, forwardedFor: append}
        - {port: 8081, protocol: grpc, app: 9003, forwardedFor: off}
        - {port: 8082, protocol: http2, app: 9004}
        - {port: 7000, protocol: tcp, app: 9005}
"""

CHANGES = [
    (
        "a proxy that others reach",
        '"127.0.0.1:3128"',
        '"10.0.0.5:3128"',
        [
            "10:21: forwardProxy 10.0.0.5:3128 can be reached from other machines (use a loopback address such as 127.0.0.1:3128)"
        ],
    ),
    (
        "a proxy at every address",
        '"127.0.0.1:3128"',
        '"0.0.0.0:3128"',
        [
            "10:21: forwardProxy 0.0.0.0:3128 can be reached from other machines (use a loopback address such as 127.0.0.1:3128)"
        ],
    ),
    (
        "a proxy by name",
        '"127.0.0.1:3128"',
        '"localhost:3128"',
        ["10:21: forwardProxy 'localhost' is not an IP address (write one such as 127.0.0.1)"],
    ),
    (
        "a proxy that takes an app's port",
        '"127.0.0.1:3128"',
        '"127.0.0.1:9004"',
        [
            "14:46: the app address of shop/orders 127.0.0.1:9004 is already the forward proxy of shop/orders on line 10 (choose another port)"
        ],
    ),
    (
        "an unknown word",
        "forwardedFor: append",
        "forwardedFor: add",
        ["12:65: forwardedFor 'add' is not known (use one of replace, append, off)"],
    ),
    (
        "a flag",
        "forwardedFor: append",
        "forwardedFor: true",
        ["12:65: forwardedFor 'true' is not known (use one of replace, append, off)"],
    ),
    (
        "on opaque bytes",
        "app: 9005",
        "app: 9005, forwardedFor: replace",
        [
            "15:64: forwardedFor on a port of protocol tcp (remove it, only HTTP ports have it: on tcp ports proxyProtocol tells the app its caller)"
        ],
    ),
]


def test_a_port_says_whose_word_counts_and_without_one_it_is_nobodys() -> None:
    document, problems = read_mesh(GOOD, "mesh.yaml")
    assert not problems
    assert document is not None
    assert document.mesh.services[0].forward_proxy == SocketAddress("127.0.0.1", 3128)
    assert [port.forwarded_for for port in document.mesh.services[0].ports] == [
        ForwardedFor.APPEND,
        ForwardedFor.OFF,
        ForwardedFor.REPLACE,
        ForwardedFor.REPLACE,
    ]


@pytest.mark.parametrize(
    ("was", "becomes", "expected"), [change[1:] for change in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_a_broken_setting_draws_these_problems(was: str, becomes: str, expected: list[str]) -> None:
    assert was in GOOD
    document, problems = read_mesh(GOOD.replace(was, becomes, 1), "mesh.yaml")
    assert [str(problem).removeprefix("mesh.yaml:") for problem in problems] == expected
    assert document is None
