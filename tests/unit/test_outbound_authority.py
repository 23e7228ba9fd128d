"""Which address and port a CONNECT names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ringfence.snapshot import Endpoint
from ringfence.spiffe import SpiffeId
from sidecar.outbound_leg import LegCarrier
from sidecar.outbound_relay import OutboundRelay

API = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/api")


class Openers:
    """Has no stream to give, and remembers what was asked for."""

    def __init__(self) -> None:
        self.authority = b""

    def open(self, endpoint: Endpoint, headers: list[tuple[bytes, bytes]]) -> None:
        self.authority = dict(headers)[b":authority"]

    def wait(self, endpoint: Endpoint, waiter: object) -> None:
        pass

    def monotonic(self) -> float:
        return 0.0


def asked_of_a_leg(endpoint: Endpoint, openers: Openers) -> None:
    owner = SimpleNamespace(leg_may_wait=lambda: True)
    leg = SimpleNamespace(member=SimpleNamespace(endpoint=endpoint))
    LegCarrier(cast(Any, owner), cast(Any, leg), cast(Any, openers), 80).open()


def asked_of_a_relay(endpoint: Endpoint, openers: Openers) -> None:
    relay = OutboundRelay.__new__(OutboundRelay)
    relay._member = cast(Any, SimpleNamespace(endpoint=endpoint))
    relay._openers = cast(Any, openers)
    relay.facts = cast(Any, SimpleNamespace(port=80))
    relay._wait = lambda: None  # type: ignore[method-assign]
    relay.open_stream()


@pytest.mark.parametrize("ask", [asked_of_a_leg, asked_of_a_relay])
@pytest.mark.parametrize(
    ("address", "port", "authority"),
    [("10.0.0.2", 0, b"10.0.0.2:80"), ("10.0.0.2", 8080, b"10.0.0.2:8080"), ("fd00::2", 8080, b"[fd00::2]:8080")],
)
def test_connect_names_the_endpoints_own_port_where_it_has_one(
    ask: Any, address: str, port: int, authority: bytes
) -> None:
    openers = Openers()
    ask(Endpoint(mesh_host=address, mesh_port=15008, address=address, spiffe_id=API, port=port), openers)
    assert openers.authority == authority
