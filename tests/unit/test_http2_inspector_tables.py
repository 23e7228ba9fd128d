"""The trap of unequal HPACK tables: what is judged must be what the app reads, whatever was kept back before.

A block may refer to what earlier blocks put into the sender's table. Pass it on after one of those was kept back, and
an index means one thing to the judge and another to the app.
"""

from __future__ import annotations

import hpack
import pytest

from sidecar.http2 import Exchange, Heads, literal
from sidecar.http2 import frames as f
from tests.http2_ends import FORBIDDEN, GET, IDENTITY, IDENTITY_NAME, IDENTITY_VALUE, OK, POST, Between, Fields, Pair


def ask(path: bytes, method: bytes = b"DELETE", *more: tuple[bytes, bytes]) -> Fields:
    return [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"files:8080"), *more]


def refuses_secret(exchange: Exchange) -> bool:
    return exchange.target.startswith(b"/secret")


def judged(pair: Pair) -> dict[int, tuple[bytes, bytes]]:
    return {exchange.stream_id: (exchange.method, exchange.target) for exchange in pair.exchanges}


def received(pair: Pair) -> dict[int, tuple[bytes, bytes]]:
    lines = {}
    for stream_id, fields in pair.requests.items():
        named = dict(fields)
        lines[stream_id] = (named[b":method"], named[b":path"])
    return lines


def attack(client: Pair) -> None:
    """/db and /tmp go into the client's table in an order that the app's table would not have, were the refused request
    in between not written out."""
    for stream_id, path in ((1, b"/db"), (3, b"/secret"), (5, b"/tmp"), (7, b"/tmp"), (9, b"/db"), (11, b"/tmp")):
        client.client.send_headers(stream_id, ask(path), end_stream=True)
        client.pump()


def test_delete_tmp_judged_is_never_delete_db_received() -> None:
    pair = Pair(refuses=refuses_secret, inserted=IDENTITY)
    attack(pair)
    assert judged(pair)[11] == (b"DELETE", b"/tmp")
    assert {n: line for n, line in judged(pair).items() if n != 3} == received(pair)
    assert all((IDENTITY_NAME, IDENTITY_VALUE) in fields for fields in pair.requests.values())


def crafted(path: bytes) -> bytes:
    """A request as an attacker's client writes it: ``path`` (a representation of its own) is all that a table knows."""
    return literal(b":method", b"DELETE") + b"\x86" + path + literal(b":authority", b"files:8080")


def remembered(path: bytes) -> bytes:
    """:path as a literal with incremental indexing."""
    return b"\x44" + bytes((len(path),)) + path


# /db, /tmp, a refused request that takes a place in the client's table, and /tmp again by its index.
ATTACK = (remembered(b"/db"), remembered(b"/tmp"), remembered(b"/secret"), b"\xbf")


def test_the_trap_is_real() -> None:
    """The same blocks, the refused one just left out: the app deletes what nobody asked it to."""
    judge, app = hpack.Decoder(), hpack.Decoder()
    lines = []
    for path in ATTACK:
        target = dict(judge.decode(crafted(path), raw=True))[b":path"]
        if target != b"/secret":
            lines.append((target, dict(app.decode(crafted(path), raw=True))[b":path"]))
    assert lines == [(b"/db", b"/db"), (b"/tmp", b"/tmp"), (b"/tmp", b"/db")]


def test_a_crafted_index_means_to_the_app_what_it_meant_to_the_judge() -> None:
    wire = Between(refuses=refuses_secret)
    for index, path in enumerate(ATTACK):
        wire.client(f.frame(f.HEADERS, 5, 2 * index + 1, crafted(path)))
    assert [exchange.target for exchange in wire.exchanges] == [b"/db", b"/tmp", b"/secret", b"/tmp"]
    assert [wire.to_server.headers(n) for n in (1, 3, 5, 7)] == [[ask(b"/db")], [ask(b"/tmp")], [], [ask(b"/tmp")]]


def test_a_direction_out_of_step_stays_so_and_refers_to_no_table() -> None:
    wire = Between(refuses=refuses_secret)
    wire.ask(1, ask(b"/db"))
    wire.ask(3, ask(b"/secret"))
    (frame,) = wire.ask(5, ask(b"/tmp"))
    assert frame.payload[0] == 0x20  # the app's table is emptied, and takes nothing up from now on
    assert not wire.to_server.decoder.header_table.dynamic_entries
    for stream_id in range(7, 27, 2):
        (frame,) = wire.ask(stream_id, ask(b"/tmp"))
        assert wire.to_server.headers(stream_id) == [ask(b"/tmp")]
        assert frame.payload[0] != 0x20
        assert not wire.to_server.decoder.header_table.dynamic_entries
    # the other direction is what it was: the same object passes
    assert not wire.server_encoder.header_table.dynamic_entries
    wire.reply(5)
    block = f.frame(f.HEADERS, 5, 7, wire.server_encoder.encode(OK))
    assert wire.inspector.from_server(block) is block


def test_keeping_back_a_block_that_left_the_table_alone_costs_nothing() -> None:
    """Both tables are what they were, so blocks go on passing as they came."""
    wire = Between(refuses=refuses_secret)
    wire.ask(1, ask(b"/db"))
    plain = b"".join(literal(name, value) for name, value in ask(b"/secret"))
    wire.client(f.frame(f.HEADERS, 5, 3, plain))
    assert wire.exchanges[-1].local is FORBIDDEN
    raw = f.frame(f.HEADERS, 5, 5, wire.client_encoder.encode(ask(b"/db")))
    assert wire.inspector.from_client(raw) is raw


def test_a_stripped_block_that_changed_the_table_puts_it_out_of_step() -> None:
    wire = Between()
    forged = (IDENTITY_NAME, b"URI=spiffe://shop.example/ns/shop/sa/admin")
    wire.ask(1, ask(b"/a", b"GET", forged))
    (frame,) = wire.ask(3, ask(b"/a", b"GET", forged))
    assert wire.to_server.headers(3) == [ask(b"/a", b"GET")]
    (frame,) = wire.ask(5, ask(b"/a", b"GET"))
    assert frame.payload == b"".join(
        [b"\x82\x86", literal(b":path", b"/a"), literal(b":authority", b"files:8080")]  # nothing but the static table
    )


def test_a_stripped_block_that_left_the_table_alone_does_not() -> None:
    wire = Between()
    wire.ask(1, ask(b"/a", b"GET"))
    block = wire.client_encoder.encode(ask(b"/a", b"GET")) + literal(IDENTITY_NAME, b"forged")
    wire.client(f.frame(f.HEADERS, 5, 3, block))
    assert wire.to_server.headers(3) == [ask(b"/a", b"GET")]
    raw = f.frame(f.HEADERS, 5, 5, wire.client_encoder.encode(ask(b"/a", b"GET")))
    assert wire.inspector.from_client(raw) is raw


@pytest.mark.parametrize("kept_back", ["refused", "malformed", "trailers", "turned_away", "late"])
def test_every_way_to_keep_a_block_back_is_noticed(kept_back: str) -> None:
    wire = Between(refuses=refuses_secret)
    new = (b"x-new", b"1")
    wire.ask(1, ask(b"/db"))
    if kept_back == "refused":
        wire.ask(3, ask(b"/secret", b"GET", new))
    elif kept_back == "malformed":
        wire.ask(3, ask(b"/x", b"GET", new, (b"connection", b"close")))
    elif kept_back == "trailers":
        wire.ask(3, POST, end=False)
        wire.ask(3, [new, (b"authorization", b"x")])
    elif kept_back == "turned_away":
        wire.tell(wire.inspector.drain)
        wire.client(f.ping(wire.to_client.frames[-1].payload, ack=True))
        wire.ask(3, ask(b"/x", b"GET", new))
        wire.inspector._shared.turning_away = False  # a drain does not come back; what follows is the point
    else:
        wire.ask(3, ask(b"/secret", b"POST"), end=False)
        wire.ask(3, [new])
    paths = []
    for stream_id in (5, 7, 9):
        wire.ask(stream_id, ask(b"/%d" % stream_id, b"DELETE", new))
        paths.append(wire.to_server.headers(stream_id))
    assert paths == [[ask(b"/%d" % n, b"DELETE", new)] for n in (5, 7, 9)]


@pytest.mark.parametrize("kept_back", ["stripped", "malformed", "late"])
def test_the_response_s_tables_have_the_same_guard(kept_back: str) -> None:
    wire = Between()
    for stream_id in (1, 3, 5, 7):
        wire.ask(stream_id)
    wire.reply(1, [*OK, (b"x-a", b"1")])
    if kept_back == "stripped":
        wire.reply(3, [*OK, (b"x-ringfence-x", b"1"), (b"x-b", b"2")])
    elif kept_back == "malformed":
        wire.reply(3, [*OK, (b"connection", b"1"), (b"x-b", b"2")])
    else:
        wire.tell(lambda: wire.inspector.revoke(wire.exchanges[1], FORBIDDEN))
        wire.reply(3, [*OK, (b"x-b", b"2")])
    wire.reply(5, [*OK, (b"x-c", b"3")])
    wire.reply(7, [*OK, (b"x-a", b"1"), (b"x-c", b"3")])
    assert wire.to_client.headers(5) == [[*OK, (b"x-c", b"3")]]
    assert wire.to_client.headers(7) == [[*OK, (b"x-a", b"1"), (b"x-c", b"3")]]


def test_never_indexed_fields_stay_so_when_they_are_written_anew() -> None:
    wire = Between(refuses=refuses_secret)
    wire.ask(1, ask(b"/secret"))
    secret = hpack.NeverIndexedHeaderTuple(b"authorization", b"token")
    (frame,) = wire.ask(3, [*ask(b"/a"), secret])  # type: ignore[list-item]
    found = wire.to_server.decoder.decode(frame.payload[1:], raw=True)
    assert isinstance(found[-1], hpack.NeverIndexedHeaderTuple)


def test_an_answer_of_ours_tells_the_lowered_limit_that_the_server_has_not_told_yet() -> None:
    """A client that lowered its table waits for the next block to say so (RFC 7541 section 4.2)."""
    wire = Between(refuses=refuses_secret)
    wire.ask(1)
    wire.reply(1, [*OK, (b"x-a", b"1")])
    wire.client(f.settings({f.SETTING_HEADER_TABLE_SIZE: 0}))
    wire.server(f.SETTINGS_ACK)
    wire.to_client.decoder.max_allowed_table_size = 0  # as the client's decoder now insists
    wire.ask(3, ask(b"/secret"))
    assert wire.to_client.headers(3)[0][0] == (b":status", b"403")
    wire.server_encoder.header_table_size = 0
    wire.ask(5)
    wire.reply(5, [*OK, (b"x-a", b"1")])
    assert wire.to_client.headers(5) == [[*OK, (b"x-a", b"1")]]
    assert wire.flaws == []


def test_a_lowered_limit_that_the_sender_ignores_breaks_the_connection() -> None:
    wire = Between()
    wire.ask(1, ask(b"/a"))
    wire.server(f.settings({f.SETTING_HEADER_TABLE_SIZE: 0}))
    block = wire.client_encoder.encode(ask(b"/a"))
    wire.client(f.frame(f.HEADERS, 5, 3, block))  # before it acknowledged: lawful
    assert wire.flaws == []
    wire.client(f.SETTINGS_ACK)
    wire.client(f.frame(f.HEADERS, 5, 5, block))
    assert wire.to_client.goaways() == [f.COMPRESSION_ERROR]


def test_a_lowered_limit_that_the_sender_tells_passes_as_it_is() -> None:
    wire = Between()
    wire.ask(1, ask(b"/a"))
    wire.server(f.settings({f.SETTING_HEADER_TABLE_SIZE: 100}))
    wire.client(f.SETTINGS_ACK)
    wire.to_server.decoder.max_allowed_table_size = 100
    wire.client_encoder.header_table_size = 100
    for stream_id in (3, 5, 7):
        raw = f.frame(f.HEADERS, 5, stream_id, wire.client_encoder.encode(ask(b"/a")))
        out = wire.inspector.from_client(raw)
        assert out is raw
        wire.to_server.take(out)
        assert wire.to_server.headers(stream_id) == [ask(b"/a")]
    assert wire.flaws == []


def test_one_memory_serves_connections_whose_tables_differ() -> None:
    heads = Heads()
    wires = [Between(heads=heads) for _ in range(3)]
    for round_, wire in enumerate(wires):
        for index in range(6):
            path = b"/%d" % (index if round_ < 2 else index % 2)
            wire.ask(2 * index + 1, ask(path))
            assert wire.to_server.headers(2 * index + 1) == [ask(path)]
            assert wire.exchanges[-1].target == path


def test_a_block_of_one_kind_is_not_taken_for_another() -> None:
    """Trailers and header sections share the memory; what is lawful as one is not as the other."""
    wire = Between()
    wire.ask(1, POST, end=False)
    wire.ask(1, [(b"x-sum", b"1")])
    wire.ask(3, [(b"x-sum", b"1")])
    assert wire.to_client.codes(3) == [f.PROTOCOL_ERROR]
    wire.ask(5, GET, end=False)
    wire.ask(5, GET)
    assert wire.to_client.codes(5) == [f.PROTOCOL_ERROR]
    assert wire.to_server.headers(5) == [GET]
