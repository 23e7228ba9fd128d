"""The rogue's few lines of HTTP/2, held to an independent implementation."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.demo.connect import Connect


def _server() -> h2.connection.H2Connection:
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    server.initiate_connection()
    return server


def _asked(server: h2.connection.H2Connection, sent: bytes) -> dict[str, str]:
    [request] = [one for one in server.receive_data(sent) if isinstance(one, h2.events.RequestReceived)]
    return dict(request.headers)


def test_a_connect_is_understood_and_its_refusal_is_read() -> None:
    server, client = _server(), Connect("10.0.0.1:80")
    assert _asked(server, client.start()) == {":method": "CONNECT", ":authority": "10.0.0.1:80"}
    server.send_headers(1, [(":status", "403"), ("x-ringfence-refusal", "reason=not_own_address")], end_stream=True)
    assert client.answer is None
    server.receive_data(client.receive(server.data_to_send()))  # the acknowledgement of its settings
    assert client.over
    assert client.answer == {":status": "403", "x-ringfence-refusal": "reason=not_own_address"}


@settings(max_examples=30)
@given(st.lists(st.integers(1, 40), max_size=20))
def test_the_pieces_do_not_matter(sizes: list[int]) -> None:
    server, client = _server(), Connect("10.0.0.1:80")
    server.receive_data(client.start())
    server.send_headers(1, [(":status", "200")])
    wire, replies = server.data_to_send(), b""
    for size in [*sizes, len(wire)]:
        piece, wire = wire[:size], wire[size:]
        replies += client.receive(piece)
    assert client.answer == {":status": "200"}
    server.receive_data(replies)


def test_a_stream_that_is_reset_and_a_connection_that_is_closed_end_the_wait() -> None:
    for close in (lambda server: server.reset_stream(1, 8), lambda server: server.close_connection()):
        server, client = _server(), Connect("10.0.0.1:80")
        server.receive_data(client.start())
        close(server)
        client.receive(server.data_to_send())
        assert client.over
        assert client.answer is None


def test_a_frame_larger_than_we_allowed_is_refused() -> None:
    with pytest.raises(ValueError, match="more than we allowed"):
        Connect("10.0.0.1:80").receive(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01")
