"""Whatever the interleaving: the tunnel loses, adds and reorders no byte, and whole equals bytewise."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http2 import frames as h2
from sidecar.tunnel.sending import ROOM_BYTES
from tests.tunnel_ends import exchange, pair

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["send", "answer", "carry", "pause", "resume", "stall", "credit"]),
        st.integers(0, 3),
        st.integers(1, 300_000),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_bytes_are_conserved_under_any_interleaving(actions: list[tuple[str, int, int]]) -> None:
    client, server = pair()
    opened = [client.open() for _ in range(4)]
    exchange(client, server)
    sent: list[bytearray] = [bytearray() for _ in opened]
    answered: list[bytearray] = [bytearray() for _ in opened]
    for number, (action, which, size) in enumerate(actions):
        stream, _ = opened[which]
        accepted = server.connects[which][0]
        if action == "send":
            data = bytes([number % 256]) * size
            stream.send(data)
            sent[which] += data
        elif action == "answer":
            data = bytes([number % 256]) * size
            accepted.send(data)
            answered[which] += data
        elif action == "carry":
            exchange(client, server)
        elif action == "pause":
            client.machine.set_room(0)
        elif action == "resume":
            client.machine.set_room(ROOM_BYTES)
        elif action == "stall":
            server.endpoints[stream.stream_id].taking = False
        else:
            server.endpoints[stream.stream_id].taking = True
            accepted.credit(accepted.held_bytes)
    exchange(client, server)
    while server.machine.held_bytes:
        for accepted, _ in server.connects:
            server.endpoints[accepted.stream_id].taking = True
            accepted.credit(accepted.held_bytes)
        exchange(client, server)
    for which, (stream, endpoint) in enumerate(opened):
        assert server.endpoints[stream.stream_id].received == sent[which]
        assert endpoint.received == answered[which]
    assert client.machine.held_bytes == server.machine.held_bytes == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=5), st.integers(1, 40))
def test_whole_equals_cut_in_pieces(parts: list[bytes], step: int) -> None:
    received = []
    for cut in (0, step):
        client, server = pair()
        stream, endpoint = client.open()
        exchange(client, server, step=cut)
        accepted = server.connects[0][0]
        server.machine.reply(accepted, [(b":status", b"200")])
        for part in parts:
            stream.send(part)
            accepted.send(part[::-1])
        stream.end()
        accepted.reset(h2.NO_ERROR) if len(parts) == 5 else accepted.end()
        exchange(client, server, step=cut)
        far = server.endpoints[1]
        received.append((bytes(far.received), far.ended, bytes(endpoint.received), endpoint.ended, endpoint.reset))
    assert received[0] == received[1]
