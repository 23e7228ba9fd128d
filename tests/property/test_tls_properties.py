"""Properties of the TLS engine: bytes are conserved however they are cut, and plaintext is never held back."""

from __future__ import annotations

import contextlib
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.kit.clock import FakeClock
from ringfence.spiffe import SpiffeId
from sidecar.tls import TlsEngine, TlsFailed, TlsIdentity
from tests.pki import TestCa
from tests.tls_ends import connected

NOW = 1_800_000_000.0
CA = TestCa("shop.example", now=NOW)
WEB = TlsIdentity(CA.svid("spiffe://shop.example/ns/shop/sa/web"), [CA.bundle()], FakeClock(NOW))
ORDERS = TlsIdentity(CA.svid(SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")), [CA.bundle()], FakeClock(NOW))

sizes = st.lists(st.one_of(st.integers(1, 600), st.integers(16_000, 40_000)), min_size=1, max_size=8)


def cut(flight: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(flight) + 1) for place in places), len(flight)]
    return [flight[a:b] for a, b in itertools.pairwise(edges)]


def complete_plaintext(records: list[tuple[int, int]], received: int) -> int:
    """Plaintext bytes of the records that ended within the first ``received`` bytes."""
    return sum(plain for end, plain in records if end <= received)


def records_of(flight: bytes) -> list[tuple[int, int]]:
    """(end, plaintext bytes) of each application record; a record adds a header of 5, a type of 1, a tag of 16."""
    found, position = [], 0
    while position < len(flight):
        size = int.from_bytes(flight[position + 3 : position + 5], "big")
        position += 5 + size
        found.append((position, size - 17))
    return found


def exchange(sender: TlsEngine, receiver: TlsEngine, parts: list[int], places: list[int]) -> None:
    sent = b""
    for number, size in enumerate(parts):
        part = bytes([number]) * size
        sent += part
        sender.send(part)
    flight = sender.outgoing()
    records = records_of(flight)
    got, fed = b"", 0
    for piece in cut(flight, places):
        got += receiver.receive(piece)
        fed += len(piece)
        assert len(got) == complete_plaintext(records, fed), "plaintext held back, or out of nowhere"
    assert got == sent


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sizes, st.lists(st.integers(0, 400_000), max_size=12)), min_size=1, max_size=4))
def test_bytes_cross_however_they_are_cut(turns: list[tuple[list[int], list[int]]]) -> None:
    client, server = connected(WEB, ORDERS)
    for parts, places in turns:
        exchange(client, server, parts, places)
        exchange(server, client, parts[::-1], places)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_bytes_cross_one_by_one(parts: list[int]) -> None:
    client, server = connected(WEB, ORDERS)
    exchange(client, server, parts, list(range(sum(parts) + 22 * len(parts))))


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_any_first_bytes_at_a_server_only_fail(first: bytes) -> None:
    for prefix in (b"", b"\x16\x03\x01"):
        server = ORDERS.server()
        with contextlib.suppress(TlsFailed):
            assert server.receive(prefix + first) == b""
        assert not server.established
        assert server.peer is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5_000), st.integers(1, 255), st.booleans())
def test_no_changed_byte_of_a_handshake_is_accepted_by_both_ends(place: int, change: int, towards_server: bool) -> None:
    client, server = WEB.client(frozenset({ORDERS.svid.spiffe_id})), ORDERS.server()
    sent, failed = 0, False

    def carry(data: bytes, changes: bool) -> bytes:
        nonlocal sent
        at = place - sent
        if changes:
            sent += len(data)
        if not changes or not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]

    to_server = client.start()
    while to_server and not failed:
        try:
            server.receive(carry(to_server, towards_server))
            to_client = server.outgoing()
            if to_client:
                client.receive(carry(to_client, not towards_server))
            to_server = client.outgoing()
        except TlsFailed:
            failed = True
    altered = place < sent
    # Header bytes that TLS 1.3 keeps for old middleboxes (a record's version) say nothing and may differ.
    if altered and not failed and client.established and server.established:
        label = (b"EXPORTER-same", b"", 32)
        assert client.exporter(*label) == server.exporter(*label)
        assert client.peer is not None
        assert client.peer.spiffe_id == ORDERS.svid.spiffe_id
