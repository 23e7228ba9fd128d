"""HTTP/1.x: heads, and whole connections between a client and a server, with h11 as the second reader."""

from __future__ import annotations

from typing import Final

import h11

from sidecar.http1 import Exchange, Heads
from sidecar.http1.reasons import MalformedError
from tests.fuzz.target import TALK_LIMIT_BYTES, Target, expect, in_pieces, steps
from tests.http1_ends import IDENTITY, Between

_H11_LIMIT_BYTES: Final = 1 << 20
_IDENTITY_NAMES: Final = (b"x-forwarded-client-cert", b"x-ringfence-")


class Judged(Between):
    """Refuses whatever begins with /no; remembers what it let pass."""

    def __init__(self) -> None:
        super().__init__(inserted=IDENTITY, refuses=lambda exchange: exchange.target.startswith(b"/no"))
        self.passed: list[tuple[bytes, bytes]] = []

    def request(self, exchange: Exchange) -> bytes | None:
        inserted = super().request(exchange)
        if inserted is not None:
            self.passed.append((exchange.method, exchange.target))
        return inserted


def heads(data: bytes) -> None:
    """A request's head and a response's: judged alike a second time, and what is forwarded is lawful again."""
    memory = Heads()
    for prefix, judge in ((b" HTTP/1.1\r\n", memory.judge_request), (b"HTTP/1.1 200 OK\r\n", memory.judge_response)):
        block = prefix + data + b"\r\n\r\n"
        try:
            fields = judge(block)
        except MalformedError as error:
            again: object = None
            try:
                again = judge(block)
            except MalformedError as second:
                again = second.reason
            expect(again == error.reason, "a refused head was remembered as lawful")
            continue
        forward = fields.forward if prefix.startswith(b"HTTP") else prefix + fields.forward
        for line in forward.lower().split(b"\r\n")[1:]:
            expect(not line.replace(b"_", b"-").startswith(_IDENTITY_NAMES), f"an identity was forged: {line!r}")
        passed = judge(forward)
        expect(passed.length == fields.length, f"forwarding changed the length: {fields.length} {passed.length}")
        expect(passed.forward == fields.forward, "forwarding is not final")


def connection(data: bytes) -> None:
    """A conversation: c client bytes, s server bytes, C and S their ends, D drain, F the server cannot be had."""
    lives = [_live(data, size) for size in (0, 1)]
    for wire in lives:
        expect(wire.open_count == 0, "a request was never done")
        expect(_seen(wire) == _seen(lives[0]), f"cuts show: {_seen(wire)} {_seen(lives[0])}")
    _second_reader(lives[0])


def _live(data: bytes, size: int) -> Judged:
    wire = Judged()
    ended = set()
    for kind, rest in steps(data):
        if kind == ord("c") and "C" not in ended:
            wire.client(*in_pieces(rest, size))
        elif kind == ord("s") and "S" not in ended:
            # While requests are held back, a server that answers them before it was sent them is early, or not, by the
            # cut alone.
            wire.server(*in_pieces(rest, 0 if wire.inspector.paused else size))
        elif kind == ord("C") and "C" not in ended:
            ended.add("C")
            wire.client_eof()
        elif kind == ord("S") and "S" not in ended:
            ended.add("S")
            wire.server_eof()
        elif kind == ord("D"):
            wire.inspector.drain()
            wire._attend()
        elif kind == ord("F"):
            wire.inspector.fail(b"")
            wire._attend()
    wire.upgraded = wire.inspector.raw  # type: ignore[attr-defined]
    wire.inspector.cut()
    wire._attend()
    return wire


def _seen(wire: Judged) -> tuple[object, ...]:
    """Of a message that was refused half-way, how much had been counted by then depends on the cut."""
    events = [event[:4] if event[0] == "done" else event for event in wire.events]
    return (wire.to_server, wire.to_client, events, wire.inspector.abort)


def _second_reader(wire: Judged) -> None:
    """h11, in the place of the app, finds no request but those that were judged, in their order."""
    oracle = h11.Connection(h11.SERVER, max_incomplete_event_size=_H11_LIMIT_BYTES)
    oracle.receive_data(wire.to_server)
    left = iter(wire.passed)
    try:
        while True:
            head = oracle.next_event()
            if not isinstance(head, h11.Request):
                return
            if wire.upgraded and len(wire.passed) == 0:  # type: ignore[attr-defined]
                return
            judged = next(left, None)
            if judged is None and wire.upgraded:  # type: ignore[attr-defined]
                return  # of what follows an upgrade nobody claims to know what it is
            expect((head.method, head.target) == judged, f"h11 reads {head.method!r} {head.target!r} for {judged}")
            while isinstance(event := oracle.next_event(), h11.Data):
                pass
            if not isinstance(event, h11.EndOfMessage) or oracle.their_state is not h11.DONE:
                return
            oracle.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            oracle.send(h11.EndOfMessage())
            if oracle.our_state is not h11.DONE:
                return
            oracle.start_next_cycle()
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return  # it refuses what it does not know, or cannot answer; that is no other reading


TARGETS: Final = (
    Target(name="http1_head", run=heads),
    Target(name="http1", run=connection, limit_bytes=TALK_LIMIT_BYTES),
)
