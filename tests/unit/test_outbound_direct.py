"""A direct connection that its relay has left, and that is not gone yet."""

from __future__ import annotations

from typing import Any, cast

from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Endpoint, Transport
from ringfence.spiffe import SpiffeId
from sidecar.direct import DirectEnd
from sidecar.outbound_direct import _Direct
from tests.fake_transports import FakeTransport

API = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/api")
SERVER = Endpoint(mesh_host="127.0.0.1", mesh_port=1, address="127.0.0.1", spiffe_id=API, transport=Transport.DIRECT)


class Waiter:
    """A relay that found this connection."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def refused(self, reason: str, detail: str) -> None:
        self.told.append(reason)

    def move_from(self, carrier: object) -> None:
        self.told.append("move")


def found() -> tuple[_Direct, DirectEnd, Waiter]:
    waiter = Waiter()
    connection = _Direct(cast(Any, None), SERVER, cast(Any, waiter), cast(Any, None), 0.0)
    end = connection._end = DirectEnd(cast(Any, connection), None)
    end._transport = FakeTransport(end)
    end.endpoint = cast(Any, waiter)
    connection.found = True
    connection.tenure = cast(Any, object())
    return connection, end, waiter


async def test_a_relay_is_told_of_the_end_of_the_connection_that_it_uses() -> None:
    connection, _, waiter = found()
    connection.drain(True)
    connection.cut(DenyReason.PEER_REFUSED, "no longer trusted")
    assert waiter.told == ["move", DenyReason.PEER_REFUSED]


async def test_a_relay_that_has_left_a_connection_is_not_ended_with_it() -> None:
    """It leads to another by now, whose peer may be in good standing."""
    connection, end, waiter = found()
    end.close()
    connection.drain(True)
    connection.cut(DenyReason.PEER_REFUSED, "no longer trusted")
    assert not waiter.told
