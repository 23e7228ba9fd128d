"""HTTP/2: header blocks against the hpack library, and whole connections between two ends that keep no rule."""

from __future__ import annotations

from typing import Final

import hpack

from sidecar.http2 import frames as f
from sidecar.http2.block import read_block
from sidecar.http2.literal import encode
from sidecar.http2.reasons import BrokenError
from sidecar.http2.table import DEFAULT_TABLE_BYTES, Table
from tests.fuzz.target import SEPARATOR, TALK_LIMIT_BYTES, Target, expect, in_pieces, steps
from tests.http2_ends import IDENTITY, IDENTITY_NAME, IDENTITY_VALUE, Between

LIST_LIMIT_BYTES: Final = 1 << 24


def blocks(data: bytes) -> None:
    """Header blocks one after the other against one table: read as the library reads them, or refused."""
    oracle, table = hpack.Decoder(max_header_list_size=LIST_LIMIT_BYTES), Table()
    strings: dict[bytes, bytes] = {}
    for block in data.split(SEPARATOR):
        try:
            expected: list[object] | None = list(oracle.decode(block, raw=True))
        except hpack.HPACKError:
            expected = None
        try:
            found, table = read_block(block, table, DEFAULT_TABLE_BYTES, strings)
        except BrokenError:
            if expected is not None:
                expect(len(expected) > 512, f"the library reads {expected}")  # more fields than are read here
            return
        expect(found == expected, f"{found} for {expected}")
        expect(table.entries[::-1] == list(oracle.header_table.dynamic_entries), "the tables differ")
        expect(table.size_bytes <= DEFAULT_TABLE_BYTES, "the table is larger than was agreed")


def connection(data: bytes) -> None:
    """A conversation. c, s: raw bytes of client and server. f, g: a frame of theirs, by kind, flags and stream id in a
    byte each, then the payload. h, r: flags, stream id, and a header block of lines ``name value``. C, S: an end.
    D: drain. An input that begins with ! has no greeting before it."""
    lives = [_live(data, size) for size in (0, 1)]
    for wire in lives:
        expect(wire.open_count == 0, "a request was never done")
        expect(_seen(wire) == _seen(lives[0]), f"cuts show: {_seen(wire)} {_seen(lives[0])}")
    _second_reader(lives[0])


def _live(data: bytes, size: int) -> Between:
    wire = Between(
        greet=not data.startswith(b"!"),
        inserted=IDENTITY,
        refuses=lambda exchange: exchange.target.startswith(b"/no"),
    )
    for seen in (wire.to_server, wire.to_client):
        seen.decoder.max_header_list_size = LIST_LIMIT_BYTES
    ended = set()
    for kind, rest in steps(data[1:] if data.startswith(b"!") else data):
        sent = bytes_of(kind, rest)
        if sent is not None and kind in b"cfh":
            if "C" not in ended:
                wire.client(*in_pieces(sent, size))
        elif sent is not None:
            if "S" not in ended:
                wire.server(*in_pieces(sent, size))
        elif kind == ord("C") and "C" not in ended:
            ended.add("C")
            wire.to_server.take(wire.inspector.client_eof())
            wire.attend()
        elif kind == ord("S") and "S" not in ended:
            ended.add("S")
            wire.to_client.take(wire.inspector.server_eof())
            wire.attend()
        elif kind == ord("D"):
            wire.inspector.drain()
            wire.attend()
    wire.inspector.cut()
    wire.attend()
    return wire


def bytes_of(kind: int, rest: bytes) -> bytes | None:
    """What an end sends in this step; None if it sends nothing."""
    if kind in b"cs":
        return rest
    if kind in b"fg" and len(rest) >= 3:
        return f.frame(rest[0], rest[1], rest[2], rest[3:])
    if kind in b"hr" and len(rest) >= 2:
        fields = []
        for line in rest[2:].split(b"\n"):
            name, _, value = line.partition(b" ")
            fields.append((name, value))
        return f.frame(f.HEADERS, rest[0], rest[1], encode(fields))
    return None


def _seen(wire: Between) -> tuple[object, ...]:
    return (wire.to_server.data, wire.to_client.data, wire.events)


def _second_reader(wire: Between) -> None:
    """Whoever decodes what the app was sent finds the requests that were judged, each with its caller and no other."""
    for exchange in wire.exchanges:
        if exchange.target.startswith(b"/no"):
            expect(not wire.to_server.headers(exchange.stream_id), "a refused request reached the app")
            continue
        lists = wire.to_server.headers(exchange.stream_id)
        expect(bool(lists), "a permitted request was lost")
        named = dict(lists[0])
        expect(
            (named[b":method"], named[b":path"]) == (exchange.method, exchange.target),
            f"judged {exchange.method!r} {exchange.target!r}, forwarded {lists[0]}",
        )
        for fields in lists:
            told = [value for name, value in fields if name.replace(b"_", b"-") == IDENTITY_NAME]
            expect(told in ([], [IDENTITY_VALUE]), f"the app is told {told}")
        expect(IDENTITY_NAME in named, "the app is not told who calls")


TARGETS: Final = (Target(name="hpack", run=blocks), Target(name="http2", run=connection, limit_bytes=TALK_LIMIT_BYTES))
