"""Bulk through the tunnel's machine: sent from where it stands, passed on as it arrives, in turns."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http2 import frames as h2
from sidecar.tunnel.machine import CONTROL_LIMIT_BYTES, TunnelMachine
from sidecar.tunnel.sending import BURST_BYTES, FRAME_LIMIT_BYTES
from sidecar.tunnel.stream import HEADER_BYTES, READ_BYTES, STREAM_WINDOW_BYTES, Stream
from tests.tunnel_ends import End, Endpoint, exchange, pair


class Sealing(End):
    """A client whose adapter sends bulk from where it stands."""

    def __init__(self) -> None:
        super().__init__(server=False)
        self.clear = memoryview(bytearray(HEADER_BYTES + READ_BYTES))
        self.wire = bytearray()
        self.turns = 0
        self.machine = TunnelMachine(
            server=False,
            handler=self,
            schedule=self._schedule,
            monotonic=lambda: 0.0,
            seal=self._seal,
            clear=self.clear,
        )

    def _schedule(self) -> None:
        self.turns += 1

    def _seal(self, size: int) -> None:
        self.wire += self.machine.take_early() + self.clear[:size]

    def flush(self, server: End) -> None:
        """One turn: all that was sent arrives, and the answers come back."""
        self.wire += self.machine.take()
        self.machine.new_turn()
        sent, self.wire = bytes(self.wire), bytearray()
        server.machine.receive(sent)
        self.machine.receive(server.machine.take())

    def read(self, stream: Stream, data: bytes) -> bool:
        """Send ``data`` as a relay does that read it in place."""
        view = stream.read_into()
        assert view is not None
        assert len(view) >= len(data)
        view[: len(data)] = data
        going_on = stream.send_in_place(len(data))
        view[: len(data)] = bytes(len(data))  # the buffer is the caller's again
        return going_on


def ends(streams: int = 1) -> tuple[Sealing, End, list[Stream]]:
    client, server = Sealing(), End(server=True)
    client.machine.start()
    server.machine.start()
    client.flush(server)
    client.flush(server)
    opened = [client.open()[0] for _ in range(streams)]
    client.flush(server)
    return client, server, opened


def test_bulk_arrives_behind_what_was_sent_before_it_and_before_what_comes_later() -> None:
    client, server, [stream] = ends()
    stream.send(b"before")
    assert client.read(stream, b"x" * 100_000)
    stream.send(b"after")
    client.flush(server)
    assert server.endpoints[1].received == b"before" + b"x" * 100_000 + b"after"


def test_a_source_stops_at_the_end_of_its_window_with_nothing_kept_and_goes_on_with_the_credit() -> None:
    client, server, [stream] = ends()
    server.endpoints[1].taking = False
    assert not client.read(stream, b"x" * STREAM_WINDOW_BYTES)
    assert client.machine.kept_bytes == 0
    assert not stream.writable
    client.flush(server)
    assert client.endpoints[1].writable == 0
    server.connects[0][0].credit(STREAM_WINDOW_BYTES)
    client.machine.receive(server.machine.take())
    assert client.endpoints[1].writable == 1
    assert stream.writable


def test_a_stopped_stream_ends_at_once() -> None:
    client, server, [stream] = ends()
    server.endpoints[1].taking = False
    client.read(stream, b"x" * STREAM_WINDOW_BYTES)
    stream.end()
    client.flush(server)
    assert server.endpoints[1].ended
    assert client.endpoints[1].writable == 0


def test_what_a_transport_reads_of_a_stopped_source_is_kept_in_order() -> None:
    client, server, [stream] = ends()
    server.endpoints[1].taking = False
    client.read(stream, b"x" * STREAM_WINDOW_BYTES)
    assert not client.read(stream, b"y" * 4096)
    client.flush(server)
    server.connects[0][0].credit(STREAM_WINDOW_BYTES)
    client.machine.receive(server.machine.take())
    client.flush(server)
    assert server.endpoints[1].received == b"x" * STREAM_WINDOW_BYTES + b"y" * 4096
    assert client.endpoints[1].writable == 1


def test_bulk_streams_take_turns_a_burst_each_turn() -> None:
    """However many have something to send, one turn sends a burst, and a read more of who was not stopped yet."""
    count = 12
    client, server, streams = ends(count)
    stopped = [stream for stream in streams if not client.read(stream, b"x" * 200_000)]
    assert len(stopped) == count - BURST_BYTES // 200_000
    for _ in range(20):
        woken = [client.endpoints[s.stream_id].writable for s in streams]
        client.flush(server)
        going_on = [s for s, n in zip(streams, woken, strict=True) if client.endpoints[s.stream_id].writable > n]
        assert len(going_on) * READ_BYTES <= BURST_BYTES
        for stream in going_on:
            client.read(stream, b"x" * 100_000)
    received = [len(server.endpoints[stream.stream_id].received) for stream in stopped]
    assert min(received) >= 300_000


def test_sources_that_take_a_burst_over_several_turns_are_not_stopped() -> None:
    client, server, streams = ends(12)
    for stream in streams * 5:
        assert client.read(stream, b"x" * 50_000)
        if client.machine.scheduled:
            client.flush(server)
    assert 2 * BURST_BYTES < 5 * 12 * 50_000


def test_streams_are_woken_though_those_before_them_have_nothing_to_send() -> None:
    client, server, streams = ends(12)
    for stream in streams:
        client.read(stream, b"x" * 200_000)
    for _ in range(12):
        client.flush(server)
    assert [client.endpoints[s.stream_id].writable for s in streams[BURST_BYTES // 200_000 + 1 :]] == [1] * 6


def test_nothing_is_sent_in_place_while_the_transport_is_full() -> None:
    client, server, [stream] = ends()
    client.machine.set_room(0)
    assert not client.read(stream, b"x" * 4096)
    assert not client.wire
    client.machine.set_room(1 << 20)
    client.flush(server)
    assert server.endpoints[1].received == b"x" * 4096


def test_a_long_frame_is_passed_on_as_it_arrives() -> None:
    client, server = pair()
    client.open()
    exchange(client, server)
    flight = h2.frame(h2.DATA, 0, 1, bytes(FRAME_LIMIT_BYTES))
    server.machine.receive(flight[:20_000])
    assert len(server.endpoints[1].received) == 20_000 - HEADER_BYTES
    server.machine.receive(flight[20_000:])
    assert len(server.endpoints[1].received) == FRAME_LIMIT_BYTES


def test_the_rest_of_a_frame_whose_stream_is_gone_is_dropped_and_the_next_frame_is_read() -> None:
    client, server = pair()
    client.open()
    client.open()
    exchange(client, server)
    flight = h2.frame(h2.DATA, 0, 1, bytes(100_000)) + h2.frame(h2.DATA, 0, 3, b"other")
    server.machine.receive(flight[:50_000])
    server.machine.streams[1].reset(h2.CANCEL)
    server.machine.receive(flight[50_000:])
    assert len(server.endpoints[1].received) == 50_000 - HEADER_BYTES
    assert server.endpoints[3].received == b"other"


@pytest.mark.parametrize("kind", [h2.HEADERS, h2.SETTINGS, h2.PING, 0xEE])
def test_a_frame_as_long_as_bulk_that_is_none_is_refused(kind: int) -> None:
    _, server = pair()
    with pytest.raises(h2.PeerError):
        server.machine.receive((CONTROL_LIMIT_BYTES + 1).to_bytes(3, "big") + bytes((kind, 0)) + b"\0\0\0\0")


@pytest.mark.parametrize("stream_id", [1, 3])
def test_a_long_frame_that_comes_in_crumbs_is_not_copied_for_each(stream_id: int) -> None:
    """One with a flag, and one of a stream that is gone, are not passed on in part."""
    client, server = pair()
    client.open()
    client.open()
    exchange(client, server)
    server.machine.streams[3].reset(h2.CANCEL)
    flags = h2.FLAG_END_STREAM if stream_id == 1 else 0
    flight = h2.frame(h2.DATA, flags, stream_id, bytes(FRAME_LIMIT_BYTES)) + h2.frame(h2.PING, 0, 0, b"pingpong")
    half = FRAME_LIMIT_BYTES // 2
    server.machine.receive(flight[:half])
    copied = 0
    tracemalloc.start()
    try:
        for position in range(half, half + 1000):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            server.machine.receive(flight[position : position + 1])
            copied += tracemalloc.get_traced_memory()[1] - before > half // 2
    finally:
        tracemalloc.stop()
    assert copied <= 2  # to make room
    server.machine.take()
    server.machine.receive(flight[half + 1000 :])
    assert len(server.endpoints[1].received) == (FRAME_LIMIT_BYTES if stream_id == 1 else 0)
    assert h2.ping(b"pingpong", ack=True) in server.machine.take()


class Viewing(Endpoint):
    """Wants what the buffer holds, and takes it at once."""

    def on_data(self, data: bytes) -> bool:
        self.received += data
        self.kinds = {*getattr(self, "kinds", set()), type(data)}
        return True


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from((1, 3)), st.integers(1, 30_000)), min_size=1, max_size=8),
    st.lists(st.integers(1, 20_000), min_size=1, max_size=30),
)
def test_views_of_any_cut_give_what_the_whole_gives(frames: list[tuple[int, int]], cuts: list[int]) -> None:
    """Stream 1 takes views, stream 3 does not."""
    client, server = pair()
    client.open()
    client.open()
    exchange(client, server)
    server.endpoints[1] = viewing = Viewing()
    server.machine.streams[1].endpoint = viewing
    server.machine.streams[1].takes_views = True
    flight, sent = b"", {1: b"", 3: b""}
    for number, (stream_id, size) in enumerate(frames):
        content = bytes([number]) * size
        flight += h2.frame(h2.DATA, 0, stream_id, content)
        sent[stream_id] += content
    buffer = bytearray(20_000)
    position = 0
    while position < len(flight):
        piece = flight[position : position + cuts[position % len(cuts)]]
        buffer[: len(piece)] = piece
        server.machine.receive(memoryview(buffer)[: len(piece)])
        buffer[:] = bytes(len(buffer))  # nobody may have kept it
        position += len(piece)
    assert {1: bytes(server.endpoints[1].received), 3: bytes(server.endpoints[3].received)} == sent
