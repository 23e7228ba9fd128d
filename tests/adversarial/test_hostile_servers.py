"""Servers of a link that break the protocol: what they did is answered, told, and their link left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.http2 import frames as h2
from tests.data_path import API, HttpClient, Mesh, until
from tests.raw_peer import RawPeer, raw_server

SERVER_CRIMES: dict[str, Callable[[RawPeer], list[bytes]]] = {
    "a stream of its own": lambda peer: [peer.headers(2, (b":method", b"CONNECT"), (b":authority", b"x:1"))],
    "headers on an idle stream": lambda peer: [peer.headers(99, (b":status", b"200"))],
    "a push": lambda _: [h2.frame(h2.PUSH_PROMISE, 4, 1, b"\0\0\0\2")],
    "data on an idle stream": lambda _: [h2.frame(h2.DATA, 0, 99, b"x")],
    "garbage": lambda _: [bytes(range(256)) * 64],
    "a window of 0": lambda _: [h2.window_update(1, 0)],
    "a flood of goaways": lambda _: [h2.goaway(h2.LARGEST_WINDOW_BYTES, 0)] * 1000,
}


@pytest.mark.parametrize("crime", SERVER_CRIMES)
async def test_a_server_that_breaks_the_protocol_is_answered_for_and_left(crime: str) -> None:
    async def serve(peer: RawPeer) -> None:
        await peer.next(h2.HEADERS)
        peer.send(*SERVER_CRIMES[crime](peer))
        await peer.ended()

    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), serve) as port:
        mesh.lead_to(port)
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, "protocol_error")
        client.close()
        await until(lambda: not len(mesh.web.outbound.relays) and not mesh.web.outbound.pool.links)
        assert len(mesh.web.log("tunnel broken")) == 1


@pytest.mark.parametrize(
    "reply",
    [
        [(b":status", b"200"), (b":status", b"403")],
        [(b":status", b"")],
        [(b":status", b"2000")],
        [(b"x", b"no status at all")],
        [(b":status", b"407"), (b"proxy-authenticate", b"\xff\r\n\x1b[31m")],
        [(b":status", b"503"), (b"x-ringfence-refusal", b"reason=overloaded; id=aa; origin=\r\nx: y")],
    ],
)
async def test_an_answer_to_connect_that_is_no_yes_is_a_no(reply: list[tuple[bytes, bytes]]) -> None:
    async def serve(peer: RawPeer) -> None:
        request = await peer.next(h2.HEADERS)
        peer.send(peer.headers(request.stream_id, *reply), h2.frame(h2.DATA, 0, request.stream_id, b"HTTP/1.1 200 OK"))
        await peer.ended()

    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), serve) as port:
        mesh.lead_to(port)
        client = await HttpClient.to(mesh.http_listen)
        answer = await client.ask("GET", "/orders/1")
        assert (answer.status, answer.json()["reason"]) == (502, "upstream_unreachable")
        client.close()
        for line in mesh.web.lines.getvalue().splitlines():
            assert "\x1b" not in line
        await until(lambda: not len(mesh.web.outbound.relays))
