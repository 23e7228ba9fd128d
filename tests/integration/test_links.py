"""Links between sidecars: how they come to be, what ends them, and what the calls on them are told."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

import sidecar.inbound
from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import ChainVerifier
from sidecar.http2 import frames as h2
from sidecar.tls import TlsIdentity
from sidecar.tunnel import link as tunnel_link
from sidecar.tunnel import pool as tunnel_pool
from tests.data_path import API, HTTP_PORT, WEB, HttpClient, Mesh, Reply, echo_app, free_port, http_app, until
from tests.pki import TestCa
from tests.raw_peer import RawPeer, raw_server
from tests.turning_loop import TurningLoop, run_turning

AUTHORITY = f"127.0.0.1:{HTTP_PORT}".encode()


def lead_to(mesh: Mesh, mesh_port: int) -> None:
    """Have web's upstreams end at another mesh port."""
    end = replace(mesh.upstreams[0].endpoints[0], mesh_port=mesh_port)
    mesh.web.outbound.enforce([replace(upstream, endpoints=(end,)) for upstream in mesh.upstreams])


async def one_call(mesh: Mesh) -> Reply:
    client = await HttpClient.to(mesh.http_listen)
    try:
        return await client.ask("GET", "/orders/1")
    finally:
        client.close()


async def forever(peer: RawPeer) -> None:
    await peer.ended()


# -- coming to be -----------------------------------------------------------------------------------------------------


async def test_connections_that_come_while_a_link_is_made_wait_for_that_one() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        clients = [await HttpClient.to(mesh.http_listen) for _ in range(30)]
        replies = await asyncio.gather(*(client.ask("GET", "/orders/1") for client in clients))
        assert {reply.status for reply in replies} == {200}
        assert mesh.api.metrics.tunnels.at("inbound").value == 1
        assert mesh.web.metrics.tunnels.at("outbound").value == 1
        for client in clients:
            client.close()


async def test_an_endpoint_that_refuses_the_connection_leaves_nothing_behind() -> None:
    async with Mesh() as mesh:
        lead_to(mesh, free_port())
        for _ in range(5):
            reply = await one_call(mesh)
            assert (reply.status, reply.json()["reason"]) == (502, "upstream_unreachable")
        assert not mesh.web.outbound.pool.links


async def test_a_peer_that_refuses_us_after_our_handshake_ended_is_told_as_peer_refused() -> None:
    stranger = TestCa("shop.example")
    async with http_app() as app, Mesh(http_app=app, web_svid=stranger.svid(WEB)) as mesh:
        reply = await one_call(mesh)
        assert (reply.status, reply.json()["reason"]) == (502, "peer_refused")
        assert [direction for direction, _ in mesh.web.failures] == ["outbound"]
        assert ("inbound", "untrusted") in mesh.api.failures
        assert not mesh.api.inbound.relays


async def test_a_server_that_closes_without_a_word_after_the_handshake_has_refused_us() -> None:
    async def close(peer: RawPeer) -> None:
        return

    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), close, hello=b"") as port:
        lead_to(mesh, port)
        reply = await one_call(mesh)
        assert (reply.status, reply.json()["reason"]) == (502, "peer_refused")


async def test_an_svid_renewed_between_handshake_and_settings_costs_no_call() -> None:
    async with Mesh() as mesh:
        proved: list[bytes] = []

        async def serve(peer: RawPeer) -> None:
            mesh.web.renew(mesh.ca.svid(WEB))
            peer.send(h2.settings({0xF1CE: 1}))
            proved.append((await peer.next(0xF1)).payload)
            request = await peer.next(h2.HEADERS)
            peer.send(peer.headers(request.stream_id, (b":status", b"200")))
            await peer.next(h2.DATA)
            peer.send(h2.frame(h2.DATA, 0, request.stream_id, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))
            await peer.ended()

        async with raw_server(mesh.ca.svid(API), serve, hello=b"") as port:
            lead_to(mesh, port)
            assert (await one_call(mesh)).status == 200
            assert proved


async def test_bundles_that_change_during_a_handshake_judge_it() -> None:
    async with Mesh() as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.mesh_port)
        await until(lambda: len(mesh.api.links) == 1)  # its engine is made, for the old bundles
        new = TestCa("shop.example").bundle()
        mesh.api.tls = TlsIdentity(mesh.api.tls.svid, [new], mesh.api.clock)
        mesh.api.context.verifier = ChainVerifier([new])
        mesh.api.inbound.reverify()
        peer = await RawPeer.over(reader, writer, mesh.ca.svid(WEB))
        peer.send(peer.connect(1, AUTHORITY))
        frames = await peer.ended()
        assert not [frame for frame in frames if frame.kind == h2.HEADERS]
        assert mesh.api.log("peer no longer trusted")
        assert not mesh.api.log("tunnel broken")
        await until(lambda: not mesh.api.links)
        peer.close()


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_links_over_the_limit_are_turned_away_and_counted_and_room_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sidecar.inbound, "LINK_LIMIT", 2)
    async with Mesh() as mesh:
        peers = [await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(WEB)) for _ in range(2)]
        third = await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(WEB))
        assert not third.seen
        assert third.over
        assert mesh.api.failures == [("inbound", "overloaded")]
        assert all([await peer.alive() for peer in peers])
        peers[0].close()
        await until(lambda: len(mesh.api.links) == 1)
        again = await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(WEB))
        assert await again.alive()
        for peer in (*peers, third, again):
            peer.close()


async def test_a_server_that_takes_no_streams_is_not_asked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel_pool, "LINKS_LIMIT", 3)
    shy = h2.settings({h2.SETTING_MAX_CONCURRENT_STREAMS: 0})
    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), forever, hello=shy) as port:
        lead_to(mesh, port)
        reply = await one_call(mesh)
        assert (reply.status, reply.json()["reason"]) == (503, "overloaded")
        assert len(mesh.web.outbound.pool.links) == 3


async def test_more_streams_than_a_server_takes_on_one_link_go_by_a_second() -> None:
    async def serve(peer: RawPeer) -> None:
        while True:
            request = await peer.next(h2.HEADERS)
            peer.send(peer.headers(request.stream_id, (b":status", b"200")))
            await peer.next(h2.DATA, request.stream_id)
            peer.send(h2.frame(h2.DATA, 0, request.stream_id, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))

    one = h2.settings({h2.SETTING_MAX_CONCURRENT_STREAMS: 1})
    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), serve, hello=one) as port:
        lead_to(mesh, port)
        clients = [await HttpClient.to(mesh.http_listen) for _ in range(3)]
        replies = await asyncio.gather(*(client.ask("GET", "/orders/1") for client in clients))
        assert {reply.status for reply in replies} == {200}
        assert len(mesh.web.outbound.pool.links) == 3
        for client in clients:
            client.close()


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_silent_peer_is_pinged_and_then_given_up() -> None:
    async def test(loop: TurningLoop) -> None:
        ca = TestCa("shop.example", now=loop.clock.now())
        async with Mesh(clock=loop.clock, ca=ca) as mesh:
            peer = await RawPeer.dial(mesh.mesh_port, ca.svid(WEB))
            assert await peer.alive()
            loop.turn(tunnel_link.SWEEP_SECONDS)  # was heard
            assert await peer.alive()
            loop.turn(tunnel_link.SWEEP_SECONDS)  # was heard again
            await asyncio.sleep(0)
            loop.turn(tunnel_link.SWEEP_SECONDS)  # was not: pinged
            while (await peer.next(h2.PING)).flags:
                pass
            loop.turn(tunnel_link.SWEEP_SECONDS)
            await peer.ended()
            await until(lambda: not mesh.api.links)
            peer.close()

    run_turning(test)


def test_a_peer_that_answers_pings_is_kept_for_ever() -> None:
    async def test(loop: TurningLoop) -> None:
        ca = TestCa("shop.example", now=loop.clock.now())
        async with Mesh(clock=loop.clock, ca=ca) as mesh:
            peer = await RawPeer.dial(mesh.mesh_port, ca.svid(WEB))
            for _ in range(20):
                loop.turn(tunnel_link.SWEEP_SECONDS)
                assert await peer.alive()
            assert len(mesh.api.links) == 1
            peer.close()

    run_turning(test)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", "handshake", "preface"])
def test_a_peer_that_stops_before_its_settings_is_let_go_at_the_deadline(sent: bytes | str) -> None:
    async def test(loop: TurningLoop) -> None:
        ca = TestCa("shop.example", now=loop.clock.now())
        async with Mesh(clock=loop.clock, ca=ca) as mesh:
            if isinstance(sent, bytes):
                reader, writer = await asyncio.open_connection("127.0.0.1", mesh.mesh_port)
                writer.write(sent)
            else:
                hello = h2.PREFACE[:5] if sent == "preface" else b""
                peer = await RawPeer.dial(mesh.mesh_port, ca.svid(WEB), hello=hello)
                reader, writer = peer.reader, peer.writer
            await until(lambda: len(mesh.api.links) == 1)
            await asyncio.sleep(0.01)  # whatever was sent has come
            loop.turn(tunnel_link.HANDSHAKE_SECONDS)
            await asyncio.wait_for(reader.read(), 10)
            await until(lambda: not mesh.api.links)
            assert ("inbound", "timeout") in mesh.api.failures
            writer.close()

    run_turning(test)


def test_a_server_that_never_shakes_hands_is_an_answer_and_not_a_hang() -> None:
    async def test(loop: TurningLoop) -> None:
        ca = TestCa("shop.example", now=loop.clock.now())
        accepted: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
        async with Mesh(clock=loop.clock, ca=ca) as mesh:
            lead_to(mesh, server.sockets[0].getsockname()[1])
            client = await HttpClient.to(mesh.http_listen)
            asked = asyncio.ensure_future(client.ask("GET", "/orders/1"))
            await until(lambda: bool(accepted))
            loop.turn(tunnel_link.HANDSHAKE_SECONDS)
            reply = await asked
            assert (reply.status, reply.json()["reason"]) == (504, "upstream_timeout")
            assert not mesh.web.outbound.pool.links
            client.close()
        for writer in accepted:
            writer.close()
        server.close()

    run_turning(test)


def test_a_link_ends_with_its_identity_although_the_machine_slept_meanwhile() -> None:
    async def test(loop: TurningLoop) -> None:
        ca = TestCa("shop.example", now=loop.clock.now())
        async with echo_app() as app, Mesh(clock=loop.clock, ca=ca, tcp_app=app) as mesh:
            reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
            writer.write(b"ping")
            assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"
            loop.clock.advance(7200.0)  # the wall clock only, as after a suspend
            loop.turn(tunnel_link.SWEEP_SECONDS)
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(reader.readexactly(1), 10)
            [line] = mesh.web.log("connection ended")
            assert line["reason"] == "identity_expired"
            writer.close()

    run_turning(test)


# -- ending -----------------------------------------------------------------------------------------------------------


async def test_a_request_whose_link_is_lost_is_answered_with_a_reason() -> None:
    gate = asyncio.Event()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        gate.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(app, "127.0.0.1", 0)
    async with Mesh(http_app=server.sockets[0].getsockname()[1]) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        asked = asyncio.ensure_future(client.ask("GET", "/orders/1"))
        await gate.wait()
        for link in mesh.api.links:
            assert link._transport is not None
            link._transport.abort()
        reply = await asked
        assert (reply.status, reply.json()["reason"]) == (502, "upstream_unreachable")
        [line] = mesh.web.log("request denied")
        assert line["detail"].startswith(("connection lost", "closed by the peer"))
        client.close()
    server.close()


async def test_a_peer_that_breaks_the_protocol_is_no_fault_of_the_request() -> None:
    async def serve(peer: RawPeer) -> None:
        await peer.next(h2.HEADERS)
        peer.send(h2.frame(h2.PUSH_PROMISE, 4, 1, b"\0\0\0\2"))
        await peer.ended()

    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), serve) as port:
        lead_to(mesh, port)
        reply = await one_call(mesh)
        assert (reply.status, reply.json()["reason"]) == (502, "protocol_error")
        [line] = mesh.web.log("tunnel broken")
        assert line["peer"] == str(API)
        assert line["reason"] == "protocol_error"
        assert mesh.web.metrics.tunnel_errors.at("outbound", "protocol_error").value == 1


async def test_a_defect_met_on_one_link_ends_that_link_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        good = await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(WEB))
        assert await good.alive()
        bad = await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(WEB))
        assert await bad.alive()
        monkeypatch.setattr(mesh.api.inbound, "_ports", None)
        bad.send(bad.connect(1, AUTHORITY))
        await bad.ended()
        assert await good.alive()
        [line] = mesh.api.log("tunnel broken")
        assert line["reason"] == "internal_error"
        good.close()
        bad.close()


async def test_a_link_that_drains_is_closed_when_its_last_stream_is_gone() -> None:
    async with echo_app() as app, Mesh(tcp_app=app) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        writer.write(b"ping")
        assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"
        mesh.web.outbound.pool.keep({})
        writer.write(b"pong")
        assert await asyncio.wait_for(reader.readexactly(4), 10) == b"pong"
        writer.close()
        await until(lambda: not mesh.web.links and not mesh.api.links)


def test_a_peer_that_sends_and_never_reads_is_cut_off() -> None:
    async def test(loop: TurningLoop) -> None:
        ca = TestCa("shop.example", now=loop.clock.now())
        async with Mesh(clock=loop.clock, ca=ca) as mesh:
            peer = await RawPeer.dial(mesh.mesh_port, ca.svid(WEB))
            assert await peer.alive()
            [link] = mesh.api.links
            peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
            number = 1
            while not link.closed:  # each is refused by a reply, which nobody takes
                with contextlib.suppress(ConnectionError):
                    peer.send(*(peer.connect(number + 2 * n, b"10.0.0.1:1") for n in range(500)))
                    await peer.writer.drain()
                number += 1000
                loop.turn(0.5)
                await asyncio.sleep(0)
                assert number < 10_000_000
            assert link.end_reason is DenyReason.UPSTREAM_TIMEOUT or link.end_reason is DenyReason.OVERLOADED
            peer.writer.transport.abort()
            await until(lambda: not mesh.api.links)

    run_turning(test)
