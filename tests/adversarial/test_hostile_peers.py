"""Peers with a valid SVID that keep no rule of the tunnel: each gets its defined answer, and leaves nothing behind.

A raw peer speaks real TLS to the real inbound side over loopback and then sends what its test says. After each test
relays, links, tasks and descriptors are back where they were, and an honest caller is served.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from ringfence.spiffe import X509Svid
from sidecar.http2 import frames as h2
from tests.calm_mesh import OWN_HTTP, OWN_TCP, calm_mesh, dial
from tests.data_path import API, WEB, HttpClient, Mesh, http_app, serving, until
from tests.pki import TestCa
from tests.raw_peer import HELLO, RawPeer

CONNECT = (b":method", b"CONNECT")
Fields = list[tuple[bytes, bytes]]

# -- CONNECT ----------------------------------------------------------------------------------------------------------

FOREIGN = [
    b"10.9.8.7:8080",
    b"127.0.0.2:8080",
    b"127.0.0.1:22",
    b"127.0.0.1:15008",
    b"localhost:8080",
    b"api.shop.svc.cluster.local:8080",
    b"[::1]:8080",
    b"[::ffff:127.0.0.1]:8080",
    b"0.0.0.0:8080",
    b"127.1:8080",
    b"2130706433:8080",
    b"0x7f.0.0.1:8080",
    b"127.0.0.1",
    b"127.0.0.1:",
    b"127.0.0.1:08080",
    b"127.0.0.1:+8080",
    b"127.0.0.1:8080:8080",
    b"127.0.0.1:73616",
    b" 127.0.0.1:8080",
    b"127.0.0.1:8080 ",
    b"127.0.0.1:8080\0",
    b"127.0.0.1:8080\r\nhost: x",
    b"user@127.0.0.1:8080",
    b"http://127.0.0.1:8080/",
    b"\xff\xfe",
    b":8080",
    b"",
]
MALFORMED: dict[str, Fields] = {
    "no authority": [CONNECT],
    "no method": [(b":authority", OWN_TCP)],
    "no field at all": [],
    "two authorities": [CONNECT, (b":authority", OWN_TCP), (b":authority", OWN_TCP)],
    "two methods": [CONNECT, CONNECT, (b":authority", OWN_TCP)],
    "a path": [CONNECT, (b":authority", OWN_TCP), (b":path", b"/")],
    "a scheme": [CONNECT, (b":authority", OWN_TCP), (b":scheme", b"https")],
    "extended CONNECT": [
        CONNECT,
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":path", b"/"),
        (b":authority", OWN_TCP),
    ],
    "a status": [(b":status", b"200")],
    "an unknown pseudo header": [CONNECT, (b":authority", OWN_TCP), (b":rule", b"allow")],
    "CONNECT in lower case": [(b":method", b"connect"), (b":authority", OWN_TCP)],
    "GET": [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/orders/1"), (b":authority", OWN_HTTP)],
    "POST": [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/orders/1"), (b":authority", OWN_HTTP)],
}


async def test_connect_to_what_is_not_the_workloads_own_is_refused_by_name_and_the_link_lives_on() -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        for number, authority in enumerate(FOREIGN):
            stream_id = 2 * number + 1
            peer.send(peer.connect(stream_id, authority))
            fields = peer.fields(await peer.next(h2.HEADERS, stream_id))
            assert fields[b":status"] == b"403", authority
            assert fields[b"x-ringfence-refusal"].startswith(b"reason=not_own_address; id="), authority
            assert fields[b"x-ringfence-refusal"].endswith(f"origin={API}".encode()), authority
            assert (await peer.next(h2.RST_STREAM, stream_id)).code == h2.NO_ERROR
        assert len(mesh.api.log("connection denied")) == len(FOREIGN)
        denied = mesh.api.metrics.denials.at("inbound", str(WEB), "shop/api", "not_own_address")
        assert denied.value == len(FOREIGN)
        peer.close()


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_request_that_is_no_plain_connect_is_refused(case: str) -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        peer.send(peer.headers(1, *MALFORMED[case]))
        fields = peer.fields(await peer.next(h2.HEADERS, 1))
        assert fields[b":status"] == b"403"
        assert b"reason=not_own_address" in fields[b"x-ringfence-refusal"]
        assert not len(mesh.api.inbound.relays)
        assert await peer.alive()
        peer.close()


async def test_further_fields_of_a_connect_change_nothing() -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        spoofed = [
            (b"x-ringfence-refusal", b"reason=caller_not_allowed; id=00; origin=me"),
            (b"x-forwarded-client-cert", b"URI=spiffe://shop.example/ns/shop/sa/admin"),
            (b"host", b"10.0.0.1"),
        ]
        peer.send(peer.connect(1, OWN_TCP, *spoofed), h2.frame(h2.DATA, h2.FLAG_END_STREAM, 1, b"echo"))
        fields = peer.fields(await peer.next(h2.HEADERS, 1))
        assert fields == {b":status": b"200"}
        assert (await peer.next(h2.DATA, 1)).payload == b"echo"
        [(facts, _)] = [(relay.facts, caller) for relay, caller in mesh.api.inbound.relays] or [(None, None)]
        assert facts is None or facts.peer == str(WEB)
        peer.close()
        await until(lambda: len(mesh.api.log("connection ended")) >= 1)
        assert {line["peer"] for line in mesh.api.log("connection ended")} == {str(WEB)}


async def test_a_caller_whom_nothing_permits_is_told_so_and_no_more() -> None:
    stranger = "spiffe://shop.example/ns/shop/sa/stranger"
    async with calm_mesh() as mesh:
        peer = await dial(mesh, mesh.ca.svid(stranger))
        peer.send(peer.connect(1, OWN_TCP))
        fields = peer.fields(await peer.next(h2.HEADERS, 1))
        assert fields.keys() == {b":status", b"x-ringfence-refusal"}
        assert fields[b":status"] == b"403"
        assert b"caller_not_allowed" in fields[b"x-ringfence-refusal"]
        assert b"ledger" not in fields[b"x-ringfence-refusal"]
        peer.close()


async def test_no_byte_of_a_peer_without_identity_reaches_a_stream() -> None:
    now = TestCa("shop.example")
    async with calm_mesh() as mesh:
        rogues: list[X509Svid | None] = [
            None,
            now.svid(WEB),
            TestCa("partner.example").svid("spiffe://partner.example/ns/shop/sa/web"),
            mesh.ca.svid(WEB, lifetime=-10.0, not_before=-3600.0),
        ]
        started = mesh.api.metrics.tunnels.at("inbound").value
        for rogue in rogues:
            peer = await RawPeer.dial(mesh.mesh_port, rogue, hello=b"")
            peer.send(HELLO, peer.connect(1, OWN_TCP), h2.frame(h2.DATA, 0, 1, b"secret"))
            assert not [frame for frame in await peer.ended() if frame.kind == h2.HEADERS]
            peer.close()
        await until(lambda: len(mesh.api.failures) == len(rogues))
        assert mesh.api.metrics.tunnels.at("inbound").value == started
        assert not len(mesh.api.inbound.relays)


# -- ends in every state ----------------------------------------------------------------------------------------------

STATES: dict[str, list[str]] = {
    "just opened": ["connect"],
    "with early data": ["connect", "data"],
    "answered": ["connect", "answer"],
    "in the middle": ["connect", "answer", "data", "echo"],
    "half closed by us": ["connect", "answer", "end"],
    "closed by both": ["connect", "data", "end", "echo", "closed"],
    "refused": ["foreign", "answer"],
    "reset already": ["connect", "reset"],
}


async def bring(peer: RawPeer, steps: list[str]) -> None:
    for step in steps:
        if step == "connect":
            peer.send(peer.connect(1, OWN_TCP))
        elif step == "foreign":
            peer.send(peer.connect(1, b"10.0.0.1:1"))
        elif step == "answer":
            await peer.next(h2.HEADERS, 1)
        elif step == "data":
            peer.send(h2.frame(h2.DATA, 0, 1, b"data"))
        elif step == "end":
            peer.send(h2.frame(h2.DATA, h2.FLAG_END_STREAM, 1))
        elif step == "echo":
            assert (await peer.next(h2.DATA, 1)).payload == b"data"
        elif step == "reset":
            peer.send(h2.rst_stream(1, h2.CANCEL))
        elif step == "closed":
            while not (await peer.next(h2.DATA, 1)).flags & h2.FLAG_END_STREAM:
                pass


AFTERS: dict[str, Callable[[RawPeer], list[bytes]]] = {
    "a reset": lambda _: [h2.rst_stream(1, h2.CANCEL)],
    "two resets": lambda _: [h2.rst_stream(1, h2.CANCEL)] * 2,
    "a reset without error": lambda _: [h2.rst_stream(1, h2.NO_ERROR)],
    "data": lambda _: [h2.frame(h2.DATA, 0, 1, b"late")],
    "an end": lambda _: [h2.frame(h2.DATA, h2.FLAG_END_STREAM, 1, b"late")],
    "two ends": lambda _: [h2.frame(h2.DATA, h2.FLAG_END_STREAM, 1)] * 2,
    "trailers": lambda peer: [peer.headers(1, (b"x", b"y"), end=True)],
    "trailers without an end": lambda peer: [peer.headers(1, (b"x", b"y"))],
    "a window": lambda _: [h2.window_update(1, 1000)],
    "a window too large": lambda _: [h2.window_update(1, h2.LARGEST_WINDOW_BYTES)],
}


@pytest.mark.parametrize("state", STATES)
async def test_whatever_comes_for_a_stream_in_whatever_state_costs_that_stream_at_most(state: str) -> None:
    async with calm_mesh() as mesh:
        for after, make in AFTERS.items():
            peer = await dial(mesh)
            await bring(peer, STATES[state])
            peer.send(*make(peer))
            peer.send(peer.connect(3, OWN_TCP), h2.frame(h2.DATA, h2.FLAG_END_STREAM, 3, b"another"))
            assert (await peer.next(h2.DATA, 3)).payload == b"another", after
            peer.close()
        await until(lambda: len(mesh.api.links) == 1)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_peer_that_vanishes_in_whatever_state_leaves_nothing(state: str, how: str) -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        await bring(peer, STATES[state])
        if how == "rst":
            peer.writer.transport.abort()
        elif peer.writer.can_write_eof():
            peer.writer.write_eof()
            await peer.ended()
        peer.close()


async def test_a_connect_that_says_nothing_more_costs_a_relay_and_goes_with_its_peer() -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        peer.send(*(peer.connect(n, OWN_TCP) for n in range(1, 101, 2)))
        peer.send(*(peer.connect(n, OWN_HTTP) for n in range(101, 201, 2)))
        await until(lambda: len(mesh.api.inbound.relays) == 100)
        await until(lambda: not mesh.api.inbound.connects)
        peer.close()
        await until(lambda: not len(mesh.api.inbound.relays))


async def test_http_in_a_raw_stream_is_judged_like_any_other() -> None:
    seen: list[bytes] = []
    async with calm_mesh(seen=seen) as mesh:
        seen.clear()
        peer = await dial(mesh)
        spoof = b"x-forwarded-client-cert: URI=spiffe://shop.example/ns/shop/sa/admin\r\n"
        peer.send(peer.connect(1, OWN_HTTP))
        for line in (b"GET /orders/1 HTTP/1.1", b"GET /admin HTTP/1.1", b"DELETE /orders/1 HTTP/1.1"):
            peer.send(h2.frame(h2.DATA, 0, 1, line + b"\r\nhost: api\r\n" + spoof + b"\r\n"))
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 3:
            answers += (await peer.next(h2.DATA, 1)).payload
        assert [answers.count(b"HTTP/1.1 " + status) for status in (b"200", b"403")] == [1, 2]
        assert len(seen) == 1
        assert b"admin" not in seen[0]
        assert f"URI={WEB}".encode() in seen[0]
        peer.close()


# -- spoofed refusals -------------------------------------------------------------------------------------------------

SPOOF = b"x-ringfence-refusal: reason=caller_not_allowed; id=aa; origin=spiffe://shop.example/ns/shop/sa/api\r\n"


@pytest.mark.parametrize("trailer", [False, True])
async def test_a_refusal_told_by_an_app_reaches_nobody(trailer: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                if trailer:
                    writer.write(b"HTTP/1.1 403 F\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + SPOOF + b"\r\n")
                else:
                    writer.write(b"HTTP/1.1 403 F\r\n" + SPOOF + b"content-length: 0\r\n\r\n")
        writer.close()

    async with serving(serve) as app, Mesh(http_app=app) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.http_listen)
        writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):  # a forged trailer cuts its response off
            while piece := await asyncio.wait_for(reader.read(4096), 10):
                answer += piece
        writer.close()
        assert answer.startswith((b"HTTP/1.1 403 F\r\n", b"HTTP/1.1 502") if trailer else b"HTTP/1.1 403 F\r\n")
        assert b"caller_not_allowed" not in answer
        for line in mesh.web.log("request denied") + mesh.api.log("request denied"):
            assert line["reason"] == "protocol_error"


async def test_a_refusal_told_by_a_client_reaches_no_app() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1", headers=SPOOF.decode())).status == 200
        client.close()
        assert b"refusal" not in seen[0]
        assert not mesh.api.log("request denied")
