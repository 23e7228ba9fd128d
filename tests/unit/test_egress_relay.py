"""An egress relay whose name turned out to stand for an address that no rule of names may lead to."""

from __future__ import annotations

import pytest

from ringfence.policy.reasons import DenyReason
from sidecar.direct import DirectEnd
from sidecar.egress_relay import EgressRelay
from sidecar.relay import Relay
from tests.data_path import until
from tests.fake_transports import FakeTransport
from tests.unit.test_relay import facts


class Owner:
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.defects: list[Exception] = []

    def leads_to_mesh(self, destination: tuple[str, int]) -> bool:
        return destination == ("203.0.113.6", 80)

    def relay_connected(self, relay: Relay) -> None: ...

    def relay_ended(self, relay: Relay, reason: str, detail: str) -> None:
        self.reasons.append(reason)

    def relay_failed(self, relay: Relay, error: Exception) -> None:
        self.defects.append(error)


@pytest.mark.parametrize(
    ("address", "own", "reasons"),
    [
        ("169.254.169.254", "203.0.113.7", [DenyReason.EGRESS_NOT_ALLOWED]),
        ("203.0.113.7", "203.0.113.7", [DenyReason.EGRESS_NOT_ALLOWED]),
        ("203.0.113.6", "203.0.113.7", [DenyReason.EGRESS_NOT_ALLOWED]),  # a service of the mesh
        ("203.0.113.5", "203.0.113.7", []),
    ],
)
async def test_not_a_byte_goes_where_a_name_must_not_lead(address: str, own: str, reasons: list[str]) -> None:
    owner = Owner()
    relay = EgressRelay(owner, facts(), "metadata.example", 80, b"GET / HTTP/1.1\r\n")
    end = DirectEnd(relay, None)
    end.remote, end.local = (address, 80), (own, 40000)
    sent: list[bytes] = []
    end.send = lambda data: bool(sent.append(bytes(data))) or True  # type: ignore[method-assign,func-returns-value]
    relay.direct_ready(end)
    assert owner.reasons == reasons
    assert sent == ([] if reasons else [b"GET / HTTP/1.1\r\n"])


async def test_an_address_that_comes_into_the_mesh_while_it_is_dialled_is_reached_as_it_was_meant() -> None:
    for dialled, reasons in ((True, []), (False, [DenyReason.EGRESS_NOT_ALLOWED])):
        owner = Owner()
        relay = EgressRelay(owner, facts(), "203.0.113.6", 80, b"GET / HTTP/1.1\r\n")
        relay.dialled = dialled
        end = DirectEnd(relay, None)
        end.remote, end.local = ("203.0.113.6", 80), ("203.0.113.7", 40000)
        end.send = lambda data: True  # type: ignore[method-assign]
        relay.direct_ready(end)
        assert owner.reasons == reasons


async def test_a_destination_that_cannot_even_be_dialled_ends_the_connection() -> None:
    """What nobody foresaw leaves no app that waits for ever."""
    owner = Owner()
    relay = EgressRelay(owner, facts(), "a\0b", 80)
    app = FakeTransport(relay)
    relay.connection_made(app)
    await until(lambda: owner.reasons)
    assert owner.reasons == [DenyReason.INTERNAL_ERROR]
    assert len(owner.defects) == 1
    assert app.aborted
