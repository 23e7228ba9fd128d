"""A client without an SVID: it verifies the server as strictly as one that has one, by any verifier it is given."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from ringfence.kit.clock import FakeClock
from ringfence.spiffe import ChainVerifier, SpiffeId, VerificationError, VerifiedPeer, VerifyReason
from sidecar.tls import TlsFailed, TlsFault, TlsIdentity, anonymous_client
from tests.pki import TestCa
from tests.tls_ends import CLIENT_SECRET, SERVER_SECRET, RawEnd, meet, only, raw_context

NOW = 1_800_000_000.0
CLOCK = FakeClock(NOW)
CA = TestCa("shop.example", now=NOW)
CONTROL_PLANE = SpiffeId.parse("spiffe://shop.example/ns/ringfence-system/sa/controlplane")
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")


def test_it_speaks_to_a_server_that_proves_itself_and_asks_for_nothing() -> None:
    client = anonymous_client(ChainVerifier([CA.bundle()]), only(CONTROL_PLANE), CLOCK)
    server = RawEnd(raw_context(CA.svid(CONTROL_PLANE), is_client=False), is_client=False)
    outcome = meet(client, server)
    assert (outcome.client_error, outcome.server_error) == (None, None)
    assert (outcome.server_got, outcome.client_got) == (CLIENT_SECRET, SERVER_SECRET)
    assert client.peer is not None
    assert client.peer.spiffe_id == CONTROL_PLANE
    assert server.connection.get_peer_certificate() is None


@pytest.mark.parametrize(
    ("spiffe_id", "ca"), [(WEB, CA), (CONTROL_PLANE, TestCa("shop.example", now=NOW))], ids=["a workload", "another CA"]
)
def test_nothing_is_sent_to_anybody_else(spiffe_id: SpiffeId, ca: TestCa) -> None:
    client = anonymous_client(ChainVerifier([CA.bundle()]), only(CONTROL_PLANE), CLOCK)
    outcome = meet(client, RawEnd(raw_context(ca.svid(spiffe_id), is_client=False), is_client=False))
    assert isinstance(outcome.client_error, TlsFailed)
    assert outcome.client_error.fault is TlsFault.VERIFICATION
    assert outcome.server_got == b""
    assert not client.established


def test_a_server_that_wants_a_client_certificate_gets_none() -> None:
    client = anonymous_client(ChainVerifier([CA.bundle()]), only(CONTROL_PLANE), CLOCK)
    outcome = meet(client, TlsIdentity(CA.svid(CONTROL_PLANE), [CA.bundle()], CLOCK).server())
    assert isinstance(outcome.server_error, TlsFailed)
    assert outcome.server_error.reason == VerifyReason.NO_CERTIFICATE
    assert isinstance(outcome.client_error, TlsFailed)
    assert outcome.client_error.by_peer


def test_the_verifier_sees_the_chain_with_its_root_at_the_clocks_time() -> None:
    seen: list[tuple[tuple[bytes, ...], float]] = []

    class Watching:
        def verify(
            self, chain_der: Sequence[bytes], now: float, expected: Collection[SpiffeId] | None = None
        ) -> VerifiedPeer:
            seen.append((tuple(chain_der), now))
            raise VerificationError(VerifyReason.UNTRUSTED, "seen enough")

    svid = CA.svid(CONTROL_PLANE, chain=[CA.issuing.der, CA.root.der])
    client = anonymous_client(Watching(), only(CONTROL_PLANE), CLOCK)
    outcome = meet(client, RawEnd(raw_context(svid, is_client=False), is_client=False))
    assert seen == [(svid.chain, NOW)]
    assert isinstance(outcome.client_error, TlsFailed)
    assert client.failure is not None
    assert client.failure.detail == "seen enough"
