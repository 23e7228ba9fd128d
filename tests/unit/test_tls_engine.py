"""The TLS engine between two good ends, and against bytes that are no TLS. Rogue peers: tests/adversarial."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest
from OpenSSL import SSL

from ringfence.kit.clock import FakeClock
from ringfence.spiffe import BundleError, SpiffeId, VerifyReason
from sidecar.tls import HANDSHAKE_LIMIT_BYTES, TlsClosed, TlsEngine, TlsFailed, TlsFault, TlsIdentity
from tests.pki import TestCa
from tests.tls_ends import CLIENT_SECRET, SERVER_SECRET, RawEnd, carry, connected, meet, only, raw_context

NOW = 1_800_000_000.0
CA = TestCa("shop.example", now=NOW)
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
ORDERS = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")


def identity(spiffe_id: SpiffeId) -> TlsIdentity:
    return TlsIdentity(CA.svid(spiffe_id), [CA.bundle()], FakeClock(NOW))


WEB_TLS, ORDERS_TLS = identity(WEB), identity(ORDERS)


def pair() -> tuple[TlsEngine, TlsEngine]:
    return connected(WEB_TLS, ORDERS_TLS)


def test_each_end_learns_who_the_other_is() -> None:
    client, server = WEB_TLS.client(only(ORDERS)), ORDERS_TLS.server()
    outcome = meet(client, server)
    assert (outcome.server_got, outcome.client_got) == (CLIENT_SECRET, SERVER_SECRET)
    assert client.peer is not None
    assert server.peer is not None
    assert (client.peer.spiffe_id, server.peer.spiffe_id) == (ORDERS, WEB)
    assert server.peer.leaf_der == WEB_TLS.svid.chain[0]
    assert server.peer.not_after == NOW + 3600
    assert (client.failure, server.failure) == (None, None)


def test_handshake_takes_bytes_one_by_one() -> None:
    client, server = WEB_TLS.client(only(ORDERS)), ORDERS_TLS.server()
    outcome = meet(client, server, split=lambda data: [data[i : i + 1] for i in range(len(data))])
    assert (outcome.server_error, outcome.client_error) == (None, None)
    assert (outcome.server_got, outcome.client_got) == (CLIENT_SECRET, SERVER_SECRET)


def test_app_bytes_right_behind_the_last_flight_are_delivered_at_once() -> None:
    client, server = WEB_TLS.client(only(ORDERS)), ORDERS_TLS.server()
    server.receive(client.start())
    client.receive(server.outgoing())
    assert client.established
    sent = b"x" * 100_000
    client.send(sent)
    assert server.receive(client.outgoing()) == sent
    assert server.established


def test_only_tls_1_3_with_h2_and_the_post_quantum_exchange_is_spoken() -> None:
    client, server = pair()
    for engine in (client, server):
        assert engine.cipher == "TLS_AES_128_GCM_SHA256"
        assert engine._connection.get_protocol_version_name() == "TLSv1.3"
        assert engine._connection.get_group_name() == "X25519MLKEM768"


@pytest.mark.parametrize("size", [1, 100, 16_384, 16_385, 65_536, 1 << 20, (1 << 21) + 77])
def test_any_size_crosses_whole_in_both_directions(size: int) -> None:
    client, server = pair()
    sent = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    assert carry(client, server, sent) == sent
    assert carry(server, client, memoryview(sent)) == sent
    assert client.outgoing() == server.outgoing() == b""


def test_several_sends_leave_as_one() -> None:
    client, server = pair()
    client.send(b"one ")
    client.send(bytearray(b"two "))
    client.send(b"")
    client.send(b"three")
    assert server.receive(client.outgoing()) == b"one two three"
    assert client.outgoing() == b""


def test_received_bytes_may_be_a_view() -> None:
    client, server = pair()
    client.send(b"through a view")
    assert server.receive(memoryview(bytearray(client.outgoing()))) == b"through a view"


def test_incomplete_record_waits_for_its_rest() -> None:
    client, server = pair()
    client.send(b"first")
    client.send(b"second")
    flight = client.outgoing()
    assert server.receive(flight[:3]) == b""
    assert server.receive(b"") == b""
    assert server.receive(flight[3:20]) == b""
    assert server.receive(flight[20:-1]) == b"first"
    assert server.receive(flight[-1:]) == b"second"


def test_send_before_the_handshake_is_done_is_refused() -> None:
    client = WEB_TLS.client(only(ORDERS))
    with pytest.raises(RuntimeError, match="before the TLS handshake is done"):
        client.send(b"too early")
    client.start()
    with pytest.raises(RuntimeError):
        client.send(b"too early")
    with pytest.raises(RuntimeError):
        client.exporter(b"EXPORTER-test", b"", 32)
    client.close_notify()
    assert client.outgoing() == b""


def test_orderly_close_is_told_with_what_came_before_it() -> None:
    client, server = pair()
    client.send(b"last words")
    client.close_notify()
    with pytest.raises(TlsClosed) as caught:
        server.receive(client.outgoing())
    assert caught.value.plaintext == b"last words"
    for again in (b"", b"more"):
        with pytest.raises(TlsClosed) as caught:
            server.receive(again)
        assert caught.value.plaintext == b""


def test_close_of_one_direction_leaves_the_other_open() -> None:
    client, server = pair()
    client.close_notify()
    with pytest.raises(TlsClosed):
        server.receive(client.outgoing())
    assert carry(server, client, b"answer") == b"answer"


def test_changed_record_ends_the_connection_and_is_answered_by_an_alert() -> None:
    client, server = pair()
    client.send(b"good")
    client.send(b"changed on the way")
    flight = bytearray(client.outgoing())
    flight[-1] ^= 1
    with pytest.raises(TlsFailed) as caught:
        server.receive(flight)
    assert caught.value.fault is TlsFault.PROTOCOL
    assert "mac" in caught.value.reason
    assert caught.value.plaintext == b"good"
    with pytest.raises(TlsFailed) as caught:
        client.receive(server.outgoing())
    assert caught.value.by_peer
    assert caught.value.reason == "bad_record_mac"
    with pytest.raises(TlsFailed) as caught:
        server.receive(b"anything")
    assert caught.value.plaintext == b""


def test_replayed_record_is_refused() -> None:
    client, server = pair()
    client.send(b"pay once")
    flight = client.outgoing()
    assert server.receive(flight) == b"pay once"
    with pytest.raises(TlsFailed):
        server.receive(flight)


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00", b"\x17\x03\x03"]
)
def test_plaintext_to_the_mesh_port_is_named_and_gets_no_answer(first: bytes) -> None:
    server = ORDERS_TLS.server()
    with pytest.raises(TlsFailed) as caught:
        server.receive(first)
    assert caught.value.fault is TlsFault.NOT_TLS
    assert server.outgoing() == b""
    assert not server.established


def test_server_that_answers_plaintext_is_named() -> None:
    client = WEB_TLS.client(only(ORDERS))
    client.start()
    with pytest.raises(TlsFailed) as caught:
        client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert caught.value.fault is TlsFault.NOT_TLS


def test_alert_in_place_of_a_server_hello_is_the_peers_refusal() -> None:
    client = WEB_TLS.client(only(ORDERS))
    client.start()
    with pytest.raises(TlsFailed) as caught:
        client.receive(b"\x15\x03\x03\x00\x02\x02\x28")
    assert (caught.value.fault, caught.value.reason) == (TlsFault.PEER_ALERT, "handshake_failure")


def test_garbage_in_a_handshake_record_is_a_failure() -> None:
    server = ORDERS_TLS.server()
    with pytest.raises(TlsFailed) as caught:
        server.receive(b"\x16\x03\x01\x00\x04junk")
    assert caught.value.fault is TlsFault.PROTOCOL
    assert not caught.value.by_peer


def test_handshake_without_end_is_cut_off() -> None:
    server = ORDERS_TLS.server()
    announced = b"\x01" + (130_000).to_bytes(3, "big")  # a ClientHello that never ends
    fed = 0
    with pytest.raises(TlsFailed) as caught:
        while fed < 4 * HANDSHAKE_LIMIT_BYTES:
            body = (announced if not fed else b"") + bytes(16_000)
            fed += len(body)
            server.receive(b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body)
    assert caught.value.fault is TlsFault.HANDSHAKE_TOO_LARGE
    assert fed < HANDSHAKE_LIMIT_BYTES + 16_384


def test_exporter_agrees_between_the_ends_and_nowhere_else() -> None:
    client, server = pair()
    key = client.exporter(b"EXPORTER-test", b"context", 48)
    assert len(key) == 48
    assert server.exporter(b"EXPORTER-test", b"context", 48) == key
    assert server.exporter(b"EXPORTER-other", b"context", 48) != key
    assert server.exporter(b"EXPORTER-test", b"other", 48) != key
    other, _ = pair()
    assert other.exporter(b"EXPORTER-test", b"context", 48) != key


def test_verification_reason_stays_on_the_refusing_side() -> None:
    client, server = WEB_TLS.client(only(WEB)), ORDERS_TLS.server()
    outcome = meet(client, server)
    assert isinstance(outcome.client_error, TlsFailed)
    assert outcome.client_error.verification is client.failure
    assert client.failure is not None
    assert client.failure.reason is VerifyReason.UNEXPECTED_PEER
    assert isinstance(outcome.server_error, TlsFailed)
    assert outcome.server_error.verification is None
    assert server.failure is None


def test_two_bundles_for_one_trust_domain_make_no_identity() -> None:
    with pytest.raises(BundleError):
        TlsIdentity(CA.svid(WEB), [CA.bundle(), CA.bundle()], FakeClock(NOW))


def _until_silent(client: TlsEngine | RawEnd, server: TlsEngine) -> None:
    """A handshake to its end, good or bad, that keeps no exception: their tracebacks would hold the engines."""
    to_server = client.start()
    while to_server:
        with contextlib.suppress(TlsFailed):
            server.receive(to_server)
        to_client = server.outgoing()
        with contextlib.suppress(TlsFailed, SSL.Error):
            client.receive(to_client)
        to_server = client.outgoing()


def test_ended_connections_are_freed_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        client, server = pair()
        carry(client, server, b"something")
        refusing, refused = WEB_TLS.client(only(WEB)), ORDERS_TLS.server()
        _until_silent(refusing, refused)
        unverified = ORDERS_TLS.server()
        _until_silent(RawEnd(raw_context(TestCa("shop.example", now=NOW).svid(WEB)), is_client=True), unverified)
        assert refusing.failure is not None
        assert unverified.failure is not None
        watched = [weakref.ref(engine._connection) for engine in (client, server, refusing, refused, unverified)]
        del client, server, refusing, refused, unverified
        assert [reference() for reference in watched] == [None] * 5
    finally:
        gc.enable()
