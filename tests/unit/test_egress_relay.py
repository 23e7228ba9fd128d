"""An egress relay whose name turned out to stand for an address that no rule of names may lead to."""

from __future__ import annotations

import pytest

from ringfence.policy.reasons import DenyReason
from sidecar.direct import DirectEnd
from sidecar.egress_relay import EgressRelay
from sidecar.relay import Relay
from tests.unit.test_relay import facts


class Owner:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def relay_connected(self, relay: Relay) -> None: ...

    def relay_ended(self, relay: Relay, reason: str, detail: str) -> None:
        self.reasons.append(reason)

    def relay_failed(self, relay: Relay, error: Exception) -> None:
        raise error


@pytest.mark.parametrize(
    ("address", "reasons"), [("169.254.169.254", [DenyReason.EGRESS_NOT_ALLOWED]), ("203.0.113.5", [])]
)
async def test_not_a_byte_goes_where_a_name_must_not_lead(address: str, reasons: list[str]) -> None:
    owner = Owner()
    relay = EgressRelay(owner, facts(), "metadata.example", 80, b"GET / HTTP/1.1\r\n")
    end = DirectEnd(relay, None)
    end.remote = (address, 80)
    sent: list[bytes] = []
    end.send = lambda data: bool(sent.append(bytes(data))) or True  # type: ignore[method-assign,func-returns-value]
    relay.direct_ready(end)
    assert owner.reasons == reasons
    assert sent == ([] if reasons else [b"GET / HTTP/1.1\r\n"])
