"""The tunnel's machine: streams, half-close, flow control, the ends of both; and what a hostile peer gets."""

from __future__ import annotations

import pytest

from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.tunnel.sending import (
    CONNECTION_WINDOW_BYTES,
    FRAME_LIMIT_BYTES,
    HEADER_BLOCK_LIMIT_BYTES,
    HELD_LIMIT_BYTES,
    PROOF,
    STREAM_LIMIT,
)
from sidecar.tunnel.stream import KEPT_LIMIT_BYTES, STREAM_WINDOW_BYTES, Stream
from tests.tunnel_ends import End, exchange, pair


def test_a_stream_carries_bytes_both_ways_and_closes_one_way_at_a_time() -> None:
    client, server = pair()
    stream, endpoint = client.open(b"10.0.0.1:80")
    exchange(client, server)
    [(accepted, headers)] = server.connects
    assert headers == [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80")]
    server.machine.reply(accepted, [(b":status", b"200")])
    assert stream.send(b"question")
    stream.end()
    exchange(client, server)
    far = server.endpoints[accepted.stream_id]
    assert (bytes(far.received), far.ended) == (b"question", True)
    assert endpoint.headers == [[(b":status", b"200")]]
    assert not endpoint.ended
    accepted.send(b"answer")
    accepted.end()
    exchange(client, server)
    assert (bytes(endpoint.received), endpoint.ended) == (b"answer", True)
    assert not client.machine.streams
    assert not server.machine.streams


def test_a_reset_ends_both_directions_at_the_other_end() -> None:
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    stream.reset(h2.CONNECT_ERROR)
    exchange(client, server)
    assert server.endpoints[1].reset == h2.CONNECT_ERROR
    assert not server.machine.streams


def test_a_stalled_reader_stops_its_own_sender_and_nobody_else() -> None:
    client, server = pair()
    stalled, _ = client.open()
    exchange(client, server)
    server.endpoints[1].taking = False
    piece = bytes(64 * 1024)
    sent = 0
    while stalled.send(piece):
        sent += len(piece)
        exchange(client, server)
        assert sent <= 2 * STREAM_WINDOW_BYTES
    exchange(client, server)
    assert len(server.endpoints[1].received) == STREAM_WINDOW_BYTES
    lively, _ = client.open()
    exchange(client, server)
    for _ in range(2 * CONNECTION_WINDOW_BYTES // len(piece)):
        assert lively.send(piece)
        exchange(client, server)
    assert len(server.endpoints[3].received) == 2 * CONNECTION_WINDOW_BYTES
    assert len(server.endpoints[1].received) == STREAM_WINDOW_BYTES


def test_credit_lets_a_stalled_sender_finish_and_says_so_once() -> None:
    client, server = pair()
    stream, endpoint = client.open()
    exchange(client, server)
    far = server.endpoints[1]
    far.taking = False
    assert not stream.send(bytes(STREAM_WINDOW_BYTES + 1000))
    stream.end()
    exchange(client, server)
    assert not far.ended
    server.connects[0][0].credit(STREAM_WINDOW_BYTES)
    exchange(client, server)
    assert len(far.received) == STREAM_WINDOW_BYTES + 1000
    assert far.ended
    assert endpoint.writable == 0  # the sender had ended: nobody is to be woken


def test_waiting_streams_take_turns() -> None:
    client, server = pair()
    streams = [client.open()[0] for _ in range(4)]
    exchange(client, server)
    client.machine.set_room(0)
    for stream in streams:
        assert not stream.send(bytes(FRAME_LIMIT_BYTES + 1000))
    client.machine.set_room(4 * FRAME_LIMIT_BYTES)
    server.machine.receive(client.machine.take())
    assert {len(server.endpoints[s.stream_id].received) for s in streams} == {FRAME_LIMIT_BYTES}


def test_goaway_lets_living_streams_go_on_and_takes_no_new_ones() -> None:
    client, server = pair()
    stream, endpoint = client.open()
    exchange(client, server)
    server.machine.goaway(h2.NO_ERROR)
    exchange(client, server)
    assert client.goaways == [h2.NO_ERROR]
    assert client.machine.open([(b":method", b"CONNECT"), (b":authority", b"x:1")]) is None
    stream.send(b"still here")
    exchange(client, server)
    assert bytes(server.endpoints[1].received) == b"still here"
    assert endpoint.reset is None


def test_a_stream_that_the_goaway_did_not_cover_is_told_that_it_was_never_served() -> None:
    client, server = pair()
    server.machine.goaway(h2.NO_ERROR)
    _, endpoint = client.open()
    exchange(client, server)
    assert endpoint.reset == h2.REFUSED_STREAM
    assert not server.connects


def test_the_stream_limit_of_the_peer_is_kept() -> None:
    client, server = pair()
    for _ in range(STREAM_LIMIT):
        client.open()
    assert client.machine.open([(b":method", b"CONNECT"), (b":authority", b"x:1")]) is None
    exchange(client, server)
    assert len(server.machine.streams) == STREAM_LIMIT


def test_end_of_the_connection_is_told_to_every_stream() -> None:
    client, _ = pair()
    endpoints = [client.open()[1] for _ in range(3)]
    client.machine.reset_all(h2.CANCEL)
    assert [endpoint.reset for endpoint in endpoints] == [h2.CANCEL] * 3
    assert not client.machine.streams


def test_trailers_reach_the_endpoint_before_the_end() -> None:
    client, server = pair()
    _, endpoint = client.open()
    exchange(client, server)
    accepted = server.connects[0][0]
    server.machine.reply(accepted, [(b":status", b"200")])
    server.machine.reply(accepted, [(b"x-ringfence-refusal", b"why")], end=True)
    exchange(client, server)
    assert endpoint.headers[-1] == [(b"x-ringfence-refusal", b"why")]
    assert endpoint.ended


def test_a_proof_passes_between_two_ringfence_ends_only() -> None:
    client, server = pair()
    client.machine.prove(b"proof")
    exchange(client, server)
    assert server.proofs == [b"proof"]
    stranger = End(server=True)
    with pytest.raises(PeerError):
        stranger.machine.receive(h2.PREFACE + h2.settings({}) + h2.frame(PROOF, 0, 0, b"proof"))


def started_server() -> End:
    """A server whose client has sent nothing but its preface and settings."""
    server = End(server=True)
    server.machine.start()
    server.machine.receive(h2.PREFACE + h2.settings({}))
    server.machine.take()
    return server


CONNECT_BLOCK = bytes.fromhex("0207434f4e4e454354") + b"\x01\x0510:80"


def test_the_hand_made_block_of_these_tests_opens_a_stream() -> None:
    server = started_server()
    server.machine.receive(h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, 1, CONNECT_BLOCK))
    assert server.connects[0][1] == [(b":method", b"CONNECT"), (b":authority", b"10:80")]


def header_flood(server: End) -> bytes:
    part = b"\0" * 4096
    return h2.frame(h2.HEADERS, 0, 1, part) + h2.frame(h2.CONTINUATION, 0, 1, part) * (
        HEADER_BLOCK_LIMIT_BYTES // len(part)
    )


OPEN_ONE = h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, 1, CONNECT_BLOCK)

HOSTILE: dict[str, tuple[bytes, int]] = {
    "a frame larger than announced": (
        (FRAME_LIMIT_BYTES + 1).to_bytes(3, "big") + b"\0\0\0\0\0\1",
        h2.FRAME_SIZE_ERROR,
    ),
    "DATA on an idle stream": (h2.frame(h2.DATA, 0, 1, b"x"), h2.PROTOCOL_ERROR),
    "DATA on stream 0": (h2.frame(h2.DATA, 0, 0, b"x"), h2.PROTOCOL_ERROR),
    "HEADERS on an even stream": (h2.frame(h2.HEADERS, 4, 2, CONNECT_BLOCK), h2.PROTOCOL_ERROR),
    "HEADERS on stream 0": (h2.frame(h2.HEADERS, 4, 0, CONNECT_BLOCK), h2.PROTOCOL_ERROR),
    "PUSH_PROMISE": (h2.frame(h2.PUSH_PROMISE, 4, 1, CONNECT_BLOCK), h2.PROTOCOL_ERROR),
    "CONTINUATION out of place": (h2.frame(h2.CONTINUATION, 4, 1, b""), h2.PROTOCOL_ERROR),
    "a header block interrupted": (
        h2.frame(h2.HEADERS, 0, 1, b"\x82") + h2.frame(h2.PING, 0, 0, bytes(8)),
        h2.PROTOCOL_ERROR,
    ),
    "a header block that is no HPACK": (h2.frame(h2.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"), h2.COMPRESSION_ERROR),
    "a header block too long": (header_flood(End(server=True)), h2.ENHANCE_YOUR_CALM),
    "CONTINUATION without end": (
        h2.frame(h2.HEADERS, 0, 1, b"") + h2.frame(h2.CONTINUATION, 0, 1, b"") * 100,
        h2.ENHANCE_YOUR_CALM,
    ),
    "a WINDOW_UPDATE of 0": (h2.window_update(0, 0), h2.PROTOCOL_ERROR),
    "a connection window overflow": (h2.window_update(0, h2.LARGEST_WINDOW_BYTES), h2.FLOW_CONTROL_ERROR),
    "WINDOW_UPDATE on an idle stream": (h2.window_update(5, 1), h2.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (h2.rst_stream(5, 0), h2.PROTOCOL_ERROR),
    "SETTINGS of odd length": (h2.frame(h2.SETTINGS, 0, 0, b"xxxxx"), h2.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (h2.frame(h2.SETTINGS, 0, 1, b""), h2.PROTOCOL_ERROR),
    "a window setting above the limit": (h2.settings({h2.SETTING_INITIAL_WINDOW_SIZE: 1 << 31}), h2.FLOW_CONTROL_ERROR),
    "a frame size setting below the least": (h2.settings({h2.SETTING_MAX_FRAME_SIZE: 1}), h2.PROTOCOL_ERROR),
    "a PING of odd length": (h2.frame(h2.PING, 0, 0, b"1234567"), h2.FRAME_SIZE_ERROR),
    "padding longer than the frame": (OPEN_ONE + h2.frame(h2.DATA, h2.FLAG_PADDED, 1, b"\xffx"), h2.PROTOCOL_ERROR),
    "a PING flood": (h2.ping(bytes(8)) * 1000, h2.ENHANCE_YOUR_CALM),
    "a SETTINGS flood": (h2.settings({}) * 1000, h2.ENHANCE_YOUR_CALM),
    "a flood of empty DATA": (OPEN_ONE + h2.frame(h2.DATA, 0, 1) * 1000, h2.ENHANCE_YOUR_CALM),
    "a flood of unknown frames": (h2.frame(0x77, 0, 0, b"") * 1000, h2.ENHANCE_YOUR_CALM),
    "a flood of PRIORITY": (h2.frame(h2.PRIORITY, 0, 1, bytes(5)) * 1000, h2.ENHANCE_YOUR_CALM),
    "rapid reset": (
        b"".join(
            h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, n, CONNECT_BLOCK) + h2.rst_stream(n, h2.CANCEL)
            for n in range(1, 20_001, 2)
        ),
        h2.ENHANCE_YOUR_CALM,
    ),
    "more DATA than the stream's window": (
        OPEN_ONE + h2.frame(h2.DATA, 0, 1, bytes(FRAME_LIMIT_BYTES)) * (STREAM_WINDOW_BYTES // FRAME_LIMIT_BYTES + 1),
        h2.FLOW_CONTROL_ERROR,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_peer_is_cut_off_with_the_code_of_its_crime(case: str) -> None:
    attack, code = HOSTILE[case]
    server = started_server()
    server.taking = False
    with pytest.raises(PeerError) as caught:
        server.machine.receive(attack)
    assert caught.value.code == code


def test_a_client_that_does_not_speak_http2_is_refused_at_its_first_wrong_byte() -> None:
    server = End(server=True)
    server.machine.receive(b"PRI * H")
    with pytest.raises(PeerError):
        server.machine.receive(b"x")


def test_the_first_frame_must_be_settings() -> None:
    server = End(server=True)
    with pytest.raises(PeerError):
        server.machine.receive(h2.PREFACE + h2.ping(bytes(8)))


def test_an_honest_rate_of_pings_is_answered_for_ever() -> None:
    now = [0.0]
    server = End(server=True, monotonic=lambda: now[0])
    server.machine.receive(h2.PREFACE + h2.settings({}))
    server.machine.take()
    for _ in range(1000):
        now[0] += 1.0
        server.machine.receive(h2.ping(b"12345678"))
        assert server.machine.take() == h2.ping(b"12345678", ack=True)


def test_what_arrives_for_a_stream_that_we_ended_is_dropped() -> None:
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    server.connects[0][0].reset(h2.NO_ERROR)
    stream.send(b"already on its way")
    exchange(client, server)
    assert not server.endpoints[1].received
    assert not server.machine.streams


def test_a_closed_stream_still_delivers_what_was_said_and_then_is_gone_at_both_ends() -> None:
    client, server = pair()
    stream, endpoint = client.open()
    exchange(client, server)
    accepted = server.connects[0][0]
    endpoint.taking = False
    accepted.send(bytes(STREAM_WINDOW_BYTES + 5))
    accepted.close()
    exchange(client, server)
    assert endpoint.reset is None
    stream.credit(STREAM_WINDOW_BYTES)
    exchange(client, server)
    assert len(endpoint.received) == STREAM_WINDOW_BYTES + 5
    assert (endpoint.ended, endpoint.reset) == (True, h2.NO_ERROR)
    assert not client.machine.streams
    assert not server.machine.streams


def test_a_push_costs_what_it_sends_however_many_streams_starve(monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = pair()
    streams = [client.open()[0] for _ in range(200)]  # within what the other end may hold
    exchange(client, server)
    for stream in streams:
        server.endpoints[stream.stream_id].taking = False
        stream.send(bytes(STREAM_WINDOW_BYTES))
        exchange(client, server)
        assert not stream.send(b"more than the window")
    pushes = 0
    push = Stream.push_pending

    def counted(stream: Stream) -> bool:
        nonlocal pushes
        pushes += 1
        return push(stream)

    monkeypatch.setattr(Stream, "push_pending", counted)
    for stream in streams:
        server.machine.streams[stream.stream_id].recv_window += 1000
        client.machine.receive(h2.window_update(stream.stream_id, 1))
        exchange(client, server)
    assert pushes <= 3 * len(streams)
    assert all(len(server.endpoints[s.stream_id].received) == STREAM_WINDOW_BYTES + 1 for s in streams)
    for stream in streams:
        client.machine.receive(h2.window_update(stream.stream_id, 999))
    exchange(client, server)
    assert all(server.endpoints[s.stream_id].received.endswith(b"more than the window") for s in streams)


def test_streams_that_starve_go_on_when_the_settings_widen_their_windows() -> None:
    client, server = pair()
    stream, endpoint = client.open()
    exchange(client, server)
    server.endpoints[1].taking = False
    assert not stream.send(bytes(STREAM_WINDOW_BYTES) + b"rest")
    exchange(client, server)
    client.machine.receive(h2.settings({h2.SETTING_INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES + 4}))
    assert endpoint.writable == 1
    assert client.machine.take().endswith(b"rest")


def test_settings_that_push_a_living_window_over_the_limit_end_the_connection() -> None:
    client, server = pair()
    client.open()
    exchange(client, server)
    client.machine.receive(h2.window_update(1, h2.LARGEST_WINDOW_BYTES - STREAM_WINDOW_BYTES))
    with pytest.raises(PeerError) as caught:
        client.machine.receive(h2.settings({h2.SETTING_INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES + 1}))
    assert caught.value.code == h2.FLOW_CONTROL_ERROR


def test_credit_for_a_stream_that_is_gone_changes_no_account() -> None:
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    server.endpoints[1].taking = False
    stream.send(bytes(1000))
    stream.end()
    exchange(client, server)
    accepted = server.connects[0][0]
    accepted.end()
    assert not server.machine.streams
    assert server.machine.held_bytes == 0
    accepted.credit(1000)
    assert server.machine.held_bytes == 0


def test_stalled_streams_that_go_away_give_the_connection_its_window_back() -> None:
    client, server = pair()
    stalled = []
    piece = bytes(FRAME_LIMIT_BYTES)
    while server.machine.held_bytes < HELD_LIMIT_BYTES:
        stream, _ = client.open()
        exchange(client, server)
        server.endpoints[stream.stream_id].taking = False
        while stream.send(piece):
            exchange(client, server)
        exchange(client, server)
        stalled.append(stream.stream_id)
    lively, _ = client.open()
    for _ in range(2 * CONNECTION_WINDOW_BYTES // len(piece)):
        lively.send(piece)
        exchange(client, server)
    assert lively.pending is not None  # all that the link may hold is held: nobody gets more
    for accepted, _ in server.connects:
        if accepted.stream_id in stalled:
            accepted.reset(h2.CANCEL)
    exchange(client, server)
    assert lively.pending is None


def test_what_is_kept_for_a_peer_that_grants_no_window_is_bounded_in_all() -> None:
    client, server = pair()
    piece = bytes(1024 * 1024)
    opened = [client.open() for _ in range(2 * KEPT_LIMIT_BYTES // len(piece))]
    exchange(client, server)
    for endpoint in server.endpoints.values():
        endpoint.taking = False
    for stream, _ in opened:
        stream.send(piece)
        exchange(client, server)
    assert client.machine.kept_bytes <= KEPT_LIMIT_BYTES
    resets = [endpoint.reset for _, endpoint in opened]
    assert resets[0] is None
    assert resets[-1] == h2.ENHANCE_YOUR_CALM
    client.machine.reset_all(h2.CANCEL)
    assert client.machine.kept_bytes == 0


def test_nothing_is_kept_of_a_stream_that_trailers_ended() -> None:
    client, server = pair()
    client.open()
    exchange(client, server)
    accepted = server.connects[0][0]
    accepted.send(bytes(STREAM_WINDOW_BYTES + 5))
    assert server.machine.kept_bytes == 5
    server.machine.reply(accepted, [(b"x-ringfence-refusal", b"why")], end=True)
    assert server.machine.kept_bytes == 0


def test_trailers_without_an_end_are_an_error_of_their_stream_alone() -> None:
    server = started_server()
    server.machine.receive(OPEN_ONE + h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, 3, CONNECT_BLOCK))
    server.machine.receive(h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, 1, CONNECT_BLOCK))
    assert server.endpoints[1].reset == h2.PROTOCOL_ERROR
    assert server.machine.take() == h2.rst_stream(1, h2.PROTOCOL_ERROR)
    assert list(server.machine.streams) == [3]


def test_a_flood_of_streams_that_are_all_refused_is_cut_off() -> None:
    server = started_server()
    server.refusing = True
    with pytest.raises(PeerError) as caught:
        for number in range(1, 20_001, 2):
            server.machine.receive(h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, number, CONNECT_BLOCK))
    assert caught.value.code == h2.ENHANCE_YOUR_CALM
    assert len(server.connects) >= 1000  # what an honest peer may meet in a burst


def test_short_connections_may_end_in_resets_as_fast_as_they_come() -> None:
    client, server = pair()
    for _ in range(10_000):
        stream, endpoint = client.open()
        exchange(client, server)
        accepted = server.connects.pop()[0]
        accepted.end()
        exchange(client, server)
        by = accepted if stream.stream_id % 4 == 1 else stream  # either end may be the one that lets go
        by.close()
        exchange(client, server)
        assert endpoint.ended
        assert not client.machine.streams
        assert not server.machine.streams


def test_streams_that_both_ends_reset_at_once_are_no_flood() -> None:
    client, server = pair()
    for _ in range(10):
        opened = [client.open()[0] for _ in range(1000)]
        exchange(client, server)
        for accepted, _ in server.connects:
            accepted.reset(h2.NO_ERROR)
        server.connects.clear()
        for stream in opened:
            stream.reset(h2.CANCEL)
        exchange(client, server)
    assert not client.machine.streams
    assert not server.machine.streams
    _, living = client.open()
    exchange(client, server)
    for _ in range(4000):
        server.machine.receive(h2.rst_stream(1, h2.CANCEL))
    with pytest.raises(PeerError):
        server.machine.receive(h2.rst_stream(1, h2.CANCEL))
    assert living.reset is None


def test_a_server_may_not_reset_one_stream_again_and_again() -> None:
    client, server = pair()
    client.open()
    exchange(client, server)
    with pytest.raises(PeerError) as caught:
        client.machine.receive(h2.rst_stream(1, h2.CANCEL) * 10_000)
    assert caught.value.code == h2.ENHANCE_YOUR_CALM


def test_a_flood_of_goaways_is_cut_off() -> None:
    client, _ = pair()
    with pytest.raises(PeerError) as caught:
        client.machine.receive(h2.goaway(h2.LARGEST_WINDOW_BYTES, h2.NO_ERROR) * 1000)
    assert caught.value.code == h2.ENHANCE_YOUR_CALM


def test_a_second_goaway_never_covers_more_than_the_first() -> None:
    server = started_server()
    server.machine.receive(OPEN_ONE)
    server.machine.goaway(h2.NO_ERROR, "draining")
    first = server.machine.take()
    server.machine.receive(h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, 3, CONNECT_BLOCK))
    server.machine.goaway(h2.NO_ERROR, "draining")
    assert server.machine.take() == first
