"""Records in shared buffers: the same bytes, ends and refusals as by pyOpenSSL's own way, and no way back to it."""

from __future__ import annotations

import itertools

import pytest

from ringfence.kit.clock import FakeClock
from ringfence.spiffe import SpiffeId
from sidecar.tls import RecordBuffers, TlsClosed, TlsEngine, TlsFailed, TlsFault, TlsIdentity
from sidecar.tls.records import CIPHER_BYTES, CLEAR_BYTES, CLEAR_OFFSET, SEALED_BYTES
from tests.pki import TestCa
from tests.tls_ends import connected

NOW = 1_800_000_000.0
CA = TestCa("shop.example", now=NOW)
WEB, ORDERS = (
    TlsIdentity(CA.svid(SpiffeId.parse(f"spiffe://shop.example/ns/shop/sa/{name}")), [CA.bundle()], FakeClock(NOW))
    for name in ("web", "orders")
)


class InPlace:
    """An established engine with buffers of its own."""

    def __init__(self, engine: TlsEngine) -> None:
        self.engine = engine
        self.buffers = RecordBuffers()
        self.rest = bytes(engine.use(self.buffers))

    def receive(self, data: bytes | bytearray) -> bytes:
        self.buffers.cipher[: len(data)] = data
        return bytes(self.engine.receive_in_place(len(data)))

    def outgoing(self) -> bytes:
        out = b""
        while sealed := self.engine.outgoing_in_place():
            out += sealed
        return out


def pair() -> tuple[InPlace, InPlace]:
    client, server = connected(WEB, ORDERS)
    return InPlace(client), InPlace(server)


@pytest.mark.parametrize("size", [1, 16_384, 16_385, CLEAR_BYTES, SEALED_BYTES + 1])
@pytest.mark.parametrize("cut", [1, 5, 16_000, CIPHER_BYTES])
def test_any_size_crosses_whole_however_it_is_cut(size: int, cut: int) -> None:
    client, server = pair()
    sent = bytes(range(256)) * (size // 256 + 1)
    client.engine.send(sent[:size])
    flight = client.outgoing()
    if cut == 1:
        edges = [*range(7), len(flight) - 1, len(flight)]
        pieces = [flight[a:b] for a, b in itertools.pairwise(edges)]
        pieces = [piece[at : at + CIPHER_BYTES] for piece in pieces for at in range(0, len(piece), CIPHER_BYTES)]
    else:
        pieces = [flight[at : at + cut] for at in range(0, len(flight), cut)]
    assert b"".join(server.receive(piece) for piece in pieces) == sent[:size]


@pytest.mark.parametrize(
    "sizes", [(16_384 * 3 + 5, 7), (16_384 * 2, 1, 16_384 * 4), (1, 16_384 * 5), (16_384 * 3, 9_000)]
)
def test_full_and_short_records_arrive_in_order_in_one_read(sizes: tuple[int, ...]) -> None:
    client, server = pair()
    parts = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    for part in parts:
        client.engine.send(part)
    assert server.receive(client.outgoing()) == b"".join(parts)


def test_one_read_takes_exactly_what_a_full_frame_becomes() -> None:
    client, server = pair()
    size = CLEAR_OFFSET + CLEAR_BYTES
    client.buffers.clear[:size] = b"x" * size
    client.engine.send_in_place(size)
    flight = client.outgoing()
    assert len(flight) == CIPHER_BYTES == len(server.buffers.cipher)
    assert server.receive(flight) == b"x" * size


def test_what_stands_in_clear_is_sent_from_there_behind_what_was_sent_before() -> None:
    client, server = pair()
    client.engine.send(b"before ")
    client.buffers.clear[:5] = b"clear"
    client.engine.send_in_place(5)
    client.buffers.clear[:5] = b"other"
    client.engine.send(b" after")
    assert server.receive(client.outgoing()) == b"before clear after"


def test_nothing_is_encrypted_behind_an_orderly_close() -> None:
    client, server = pair()
    client.engine.send(bytearray(b"in any "))
    client.engine.send(memoryview(b"form"))
    client.engine.close_notify()
    with pytest.raises(TlsFailed):
        client.engine.send(b"more")
    with pytest.raises(TlsClosed) as caught:
        server.receive(client.outgoing())
    assert caught.value.plaintext == b"in any form"


def test_bytes_right_behind_the_handshake_are_not_lost_when_the_buffers_come_into_use() -> None:
    client, server = connected(WEB, ORDERS)
    client.send(b"first ")
    client.send(b"second")
    flight = client.outgoing()
    assert server.receive(flight[:40]) == b"first "  # a part of the next record is inside
    there = InPlace(server)
    assert there.rest + there.receive(flight[40:]) == b"second"


def test_an_orderly_close_is_told_with_what_came_before_it_and_leaves_the_other_way_open() -> None:
    client, server = pair()
    client.engine.send(b"last words")
    client.engine.close_notify()
    with pytest.raises(TlsClosed) as caught:
        server.receive(client.outgoing())
    assert caught.value.plaintext == b"last words"
    with pytest.raises(TlsClosed) as caught:
        server.receive(b"more")
    assert caught.value.plaintext == b""
    server.engine.send(b"answer")
    assert client.receive(server.outgoing()) == b"answer"


def test_a_changed_record_ends_the_connection_and_its_neighbour_before_it_counts() -> None:
    client, server = pair()
    client.engine.send(b"good")
    client.engine.send(b"changed on the way")
    flight = bytearray(client.outgoing())
    flight[-1] ^= 1
    with pytest.raises(TlsFailed) as caught:
        server.receive(flight)
    assert (caught.value.fault, caught.value.plaintext) == (TlsFault.PROTOCOL, b"good")
    with pytest.raises(TlsFailed) as caught:
        client.receive(server.outgoing())
    assert caught.value.reason == "bad_record_mac"
    server.engine.close_notify()  # looks at no byte of the buffer any more
    with pytest.raises(TlsFailed):
        server.receive(b"anything")


def test_a_failure_elsewhere_in_the_process_is_not_taken_for_this_connections() -> None:
    client, server = pair()
    broken_client, broken = pair()
    broken_client.engine.send(b"x")
    flight = bytearray(broken_client.outgoing())
    flight[-1] ^= 1
    with pytest.raises(TlsFailed):
        broken.receive(flight)
    client.engine.send(b"fine")
    assert server.receive(client.outgoing()) == b"fine"


def test_bytes_cannot_go_the_old_way_once_the_buffers_are_in_use() -> None:
    client, server = pair()
    client.engine.send(b"question")
    with pytest.raises(RuntimeError):
        server.engine.receive(client.outgoing())
    with pytest.raises(TypeError):
        server.engine._connection.bio_write(b"x")


def test_buffers_are_for_an_established_connection() -> None:
    with pytest.raises(RuntimeError):
        WEB.client(frozenset((ORDERS.svid.spiffe_id,))).use(RecordBuffers())
