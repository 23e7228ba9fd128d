"""The HTTP/2 splitter: one client, three endpoints, none of which keeps a rule."""

from __future__ import annotations

from typing import Final

from sidecar.http2 import frames as f
from sidecar.split.end import WINDOW_BYTES
from tests.fuzz.http2_targets import LIST_LIMIT_BYTES, bytes_of
from tests.fuzz.target import TALK_LIMIT_BYTES, Target, expect, in_pieces, steps
from tests.http2_ends import IDENTITY, IDENTITY_NAME, IDENTITY_VALUE
from tests.split_ends import Fan


def connection(data: bytes) -> None:
    """A conversation as of target http2; what a server sends begins with a byte that says by which leg. X: a leg is
    lost, by the byte behind it. D: drain."""
    lives = [_live(data, size) for size in (0, 1)]
    for fan in lives:
        expect(fan.open_count == 0, "a request was never done")
        expect(fan.chooser.open_count == 0, "an endpoint is still charged with a call")
        expect(fan.events == lives[0].events, f"cuts show: {fan.events} {lives[0].events}")
        _second_readers(fan)


def _live(data: bytes, size: int) -> Fan:
    fan = Fan(inserted=IDENTITY, refuses=lambda exchange: exchange.target.startswith(b"/no"))
    fan.to_client.decoder.max_header_list_size = LIST_LIMIT_BYTES
    for kind, rest in steps(data):
        if kind in b"cfh":
            sent = bytes_of(kind, rest)
            if sent is not None:
                fan.client(*in_pieces(sent, size))
        elif kind == ord("D"):
            fan.tell(fan.splitter.drain)
        elif rest and fan.leg:
            number = sorted(fan.leg)[rest[0] % len(fan.leg)]
            sent = bytes_of(kind, rest[1:])
            if kind == ord("X"):
                leg = fan.leg[number]
                if not leg.closed:
                    fan.tell(lambda leg=leg: fan.splitter.leg_lost(leg, "gone"))  # type: ignore[misc]
            elif sent is not None and not fan.leg[number].closed:
                fan.server(number, *in_pieces(sent, size))
        _accounts(fan)
    fan.tell(fan.splitter.cut)
    return fan


def _accounts(fan: Fan) -> None:
    """What counts as held is held, and of each window only that is missing."""
    client, calls = fan.splitter._client, fan.splitter._calls
    if calls.close_after:
        return
    legs = calls.living_legs()
    flows = {call.up for end in (client, *legs) for call in end.streams.values()}
    held = sum(sum(map(len, flow.pending)) - flow.again_bytes for flow in flows if flow.pending)
    expect(client.held_bytes == held, f"{client.held_bytes} bytes of requests count as held, {held} are")
    for leg in legs:
        flows = {call.down for call in client.streams.values() if call.leg is leg}
        held = sum(sum(map(len, flow.pending)) for flow in flows if flow.pending)
        missing = WINDOW_BYTES - leg.window - leg.owed_bytes
        expect(missing == held, f"{missing} bytes are missing of an endpoint's window, {held} are held")


def _second_readers(fan: Fan) -> None:
    """Whoever decodes what an endpoint was sent finds only requests that were permitted, each with its caller."""
    permitted = {(one.method, one.target) for one in fan.exchanges if not one.target.startswith(b"/no")}
    for seen in fan.to_leg.values():
        begun = set()
        for frame in seen.frames:
            if frame.kind != f.HEADERS or frame.stream_id in begun:
                continue
            begun.add(frame.stream_id)
            fields = seen.headers(frame.stream_id)[0]
            named = dict(fields)
            expect((named[b":method"], named[b":path"]) in permitted, f"{fields} was not permitted")
            told = [value for name, value in fields if name.replace(b"_", b"-") == IDENTITY_NAME]
            expect(told == [IDENTITY_VALUE], f"the app is told {told}")


TARGETS: Final = (Target(name="split", run=connection, limit_bytes=TALK_LIMIT_BYTES),)
