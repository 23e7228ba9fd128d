"""Where two connections and an inspector meet: long pipelines, half-closes, apps that vanish or never come."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from sidecar.http1.outstanding import OUTSTANDING_LIMIT
from sidecar.http2 import frames as h2
from sidecar.http_relay import HEAD_SECONDS
from sidecar.inbound_connects import APP_CONNECT_SECONDS
from sidecar.outbound_relay import REPLY_SECONDS
from sidecar.tunnel.stream import LARGEST_WINDOW_BYTES
from tests.data_path import API, HTTP_PORT, TCP_PORT, WEB, HttpClient, Mesh, echo_app, http_app, serving, until
from tests.integration.test_links import forever, lead_to
from tests.raw_peer import RawPeer, raw_server
from tests.turning_loop import TurningLoop, run_turning

GET = b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n"


@contextlib.asynccontextmanager
async def app_of(serve: object) -> AsyncIterator[int]:
    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)  # type: ignore[operator]
        writer.close()

    async with serving(quietly) as port:
        yield port


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """The port of an app that takes no connection; up to three wait in its backlog all the same."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        full.setblocking(False)
        yield full.getsockname()[1]


async def at_rest(mesh: Mesh) -> None:
    """No relay, no stream, no account is left."""
    await until(lambda: not len(mesh.web.outbound.relays) and not len(mesh.api.inbound.relays))
    await until(lambda: not any(link.machine.streams for link in mesh.web.links | mesh.api.links))
    assert not any(link.machine.held_bytes or link.machine.kept_bytes for link in mesh.web.links | mesh.api.links)
    await until(lambda: not mesh.api.inbound.connects)


async def test_a_client_that_asks_a_hundred_times_and_half_closes_gets_a_hundred_answers() -> None:
    count = OUTSTANDING_LIMIT + 36
    async with http_app() as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        client.writer.write(GET * count)
        client.writer.write_eof()
        assert [(await client.reply()).status for _ in range(count)] == [200] * count
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
        client.close()
        await at_rest(mesh)


async def test_a_pipeline_held_back_for_a_slow_app_loses_nothing_at_a_half_close() -> None:
    count = 3 * OUTSTANDING_LIMIT
    gate = asyncio.Event()
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while True:
            await reader.readuntil(b"\r\n\r\n")
            seen += 1
            await gate.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with app_of(serve) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        client.writer.write(GET * count)
        client.writer.write_eof()
        await until(lambda: seen == 1)
        gate.set()
        assert [(await client.reply()).status for _ in range(count)] == [200] * count
        client.close()
        await at_rest(mesh)
        assert seen == count


async def test_a_busy_pipeline_is_not_taken_for_one_slow_head() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        relays = mesh.web.outbound.relays
        client.writer.write(GET[:10])
        await until(lambda: [r.inspector.progress for r, _ in relays] == ["request_head"])
        now = mesh.web.clock.monotonic()
        for _ in range(6):
            relays.sweep(now)
            now += HEAD_SECONDS / 2
            client.writer.write(GET[10:] + GET[:10])
            assert (await client.reply()).status == 200
            await until(lambda: [r.inspector.progress for r, _ in relays] == ["request_head"])
        relays.sweep(now)
        relays.sweep(now + HEAD_SECONDS + 1)
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
        client.close()


async def test_the_answer_to_connect_comes_before_what_a_server_says_first() -> None:
    async with echo_app(greeting=b"hello\n") as app, Mesh(tcp_app=app) as mesh:
        peer = await RawPeer.dial(mesh.mesh_port, mesh.web.tls.svid)
        numbers = range(1, 201, 2)
        peer.send(*(peer.connect(number, b"127.0.0.1:%d" % TCP_PORT) for number in numbers))
        for number in numbers:
            await peer.next(h2.DATA, number)
        first: dict[int, int] = {}
        for frame in peer.seen:
            if frame.stream_id:
                first.setdefault(frame.stream_id, frame.kind)
        assert first == dict.fromkeys(numbers, h2.HEADERS)
        peer.close()


async def test_streams_that_go_away_take_their_connecting_tasks_with_them() -> None:
    with full_backlog() as port:
        async with Mesh(tcp_app=port) as mesh:
            peer = await RawPeer.dial(mesh.mesh_port, mesh.web.tls.svid)
            numbers = range(1, 41, 2)
            peer.send(*(peer.connect(number, b"127.0.0.1:%d" % TCP_PORT) for number in numbers))
            await until(lambda: len(mesh.api.inbound.relays) == len(numbers))
            assert await peer.alive()
            assert len(mesh.api.inbound.connects) >= len(numbers) - 3  # as many as a full backlog lets wait
            peer.send(*(h2.rst_stream(number, h2.CANCEL) for number in numbers))
            await until(lambda: not mesh.api.inbound.connects)
            assert not len(mesh.api.inbound.relays)
            peer.close()


def test_an_app_that_takes_no_connection_is_given_up_and_whoever_came_later_has_as_long() -> None:
    async def test(loop: TurningLoop) -> None:
        with full_backlog() as port:
            async with Mesh(tcp_app=port) as mesh:
                peer = await RawPeer.dial(mesh.mesh_port, mesh.web.tls.svid)
                numbers = range(1, 21, 2)
                peer.send(*(peer.connect(number, b"127.0.0.1:%d" % TCP_PORT) for number in numbers))
                await until(lambda: len(mesh.api.inbound.relays) == len(numbers))
                loop.turn(APP_CONNECT_SECONDS - 2)
                later = range(21, 31, 2)
                peer.send(*(peer.connect(number, b"127.0.0.1:%d" % TCP_PORT) for number in later))
                await until(lambda: len(mesh.api.inbound.relays) == len(numbers) + len(later))
                assert len(mesh.api.inbound.connects) > len(later)
                loop.turn(2)
                await until(lambda: len(mesh.api.inbound.connects) == len(later))
                loop.turn(APP_CONNECT_SECONDS - 2)
                taken = 3  # by a full backlog, at most
                await until(lambda: len(mesh.api.log("connection ended")) >= len(numbers) + len(later) - taken)
                assert not mesh.api.inbound.connects
                assert {(line["reason"], line["detail"]) for line in mesh.api.log("connection ended")} == {
                    ("app_timeout", "the app took no connection in 5 s")
                }
                peer.close()

    run_turning(test)


async def test_a_server_that_never_answers_connect_is_an_answer_and_not_a_hang() -> None:
    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), forever) as port:
        lead_to(mesh, port)
        client = await HttpClient.to(mesh.http_listen)
        asked = asyncio.ensure_future(client.ask("GET", "/orders/1"))
        await until(lambda: any(link.machine.streams for link in mesh.web.links))
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        await until(lambda: sum(len(link.machine.streams) for link in mesh.web.links) == 2)
        now = mesh.web.clock.monotonic()
        mesh.web.outbound.relays.sweep(now)
        mesh.web.outbound.relays.sweep(now + REPLY_SECONDS - 1)
        assert len(mesh.web.outbound.relays) == 2
        mesh.web.outbound.relays.sweep(now + REPLY_SECONDS + 1)
        reply = await asked
        assert (reply.status, reply.json()["reason"]) == (504, "upstream_timeout")
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readexactly(1), 10)
        client.close()
        writer.close()


async def test_a_server_that_answered_connect_may_be_silent_for_ever() -> None:
    async with echo_app() as app, Mesh(tcp_app=app) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        await until(lambda: [relay.replied for relay, _ in mesh.web.outbound.relays] == [True])
        now = mesh.web.clock.monotonic()
        mesh.web.outbound.relays.sweep(now)
        mesh.web.outbound.relays.sweep(now + 100 * REPLY_SECONDS)
        writer.write(b"ping")
        assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"
        writer.close()


async def test_a_refusal_is_its_peers_whatever_it_says_of_its_origin() -> None:
    async def serve(peer: RawPeer) -> None:
        while True:
            request = await peer.next(h2.HEADERS)
            told = b"reason=made_up_by_me; id=abcdef; origin=spiffe://shop.example/ns/shop/sa/somebody-else"
            reply = [(b":status", b"403"), (b"x-ringfence-refusal", told)]
            peer.send(peer.headers(request.stream_id, *reply, end=True))

    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), serve) as port:
        lead_to(mesh, port)
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert reply.status == 403
        assert "somebody-else" not in reply.headers["x-ringfence-refusal"]
        client.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        await until(lambda: len(mesh.web.log("connection ended")) == 2)
        for line in mesh.web.log("connection ended") + mesh.web.log("request denied"):
            assert line["origin"] == str(API)
            assert line["reason"] == "made_up_by_me"  # the log tells what was told
        for family in (mesh.web.metrics.denials, mesh.web.metrics.connections, mesh.web.metrics.requests):
            assert not any("made_up_by_me" in labels for labels in family.table)  # a label is of a closed set


@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_an_app_that_vanishes_in_its_response_leaves_no_answer_that_looks_whole(how: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf of it")
        await writer.drain()
        if how == "reset":
            writer.transport.abort()
        elif how == "half":
            writer.write_eof()
            await reader.read()

    async with app_of(serve) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        client.writer.write(GET)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.reply()
        client.close()
        await at_rest(mesh)


async def test_an_app_that_vanishes_before_its_response_is_answered_for() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with app_of(serve) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, "app_unreachable")
        client.close()
        await at_rest(mesh)


async def test_a_connection_over_the_limit_is_turned_away_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.outbound.RELAY_LIMIT", 1)
    async with http_app() as app, Mesh(http_app=app) as mesh:
        first = await HttpClient.to(mesh.http_listen)
        assert (await first.ask("GET", "/orders/1")).status == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.http_listen)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        assert mesh.web.metrics.denials.at("outbound", "", "shop/api", "overloaded").value == 1
        assert (await first.ask("GET", "/orders/1")).status == 200
        first.close()


async def test_an_app_port_without_upload_room_stops_the_client_and_nobody_else() -> None:
    stalled = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"POST" in head:
            stalled.set()
            await asyncio.Event().wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await reader.read()

    async with app_of(serve) as app, Mesh(http_app=app) as mesh:
        big = await HttpClient.to(mesh.http_listen)
        big.writer.write(b"POST /orders/1 HTTP/1.1\r\nhost: api\r\ncontent-length: 100000000\r\n\r\n")
        await stalled.wait()
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 100_000_000:
                big.writer.write(bytes(1 << 20))
                sent += 1 << 20
                await asyncio.wait_for(big.writer.drain(), 0.5)
        assert sent < 64 << 20
        other = await HttpClient.to(mesh.http_listen)
        assert (await other.ask("GET", "/orders/1")).status == 200
        for link in mesh.api.links | mesh.web.links:
            assert link.machine.held_bytes <= LARGEST_WINDOW_BYTES
            assert link.machine.kept_bytes < 1 << 20
        big.close()
        other.close()


async def test_an_upload_whose_link_is_lost_gets_its_answer_although_the_client_goes_on_sending() -> None:
    begun = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        while await reader.read(65536):
            pass

    async with app_of(serve) as app, Mesh(http_app=app) as mesh:
        for _ in range(5):
            begun.clear()
            client = await HttpClient.to(mesh.http_listen)
            client.writer.write(b"POST /orders/1 HTTP/1.1\r\nhost: api\r\ncontent-length: 1000000000\r\n\r\n")
            await begun.wait()

            async def upload(writer: asyncio.StreamWriter = client.writer) -> None:
                with contextlib.suppress(ConnectionError):
                    while not writer.is_closing():
                        writer.write(bytes(65536))
                        await writer.drain()

            sending = asyncio.ensure_future(upload())
            for link in mesh.api.links:
                link.close(None, "lost")
            reply = await client.reply()
            assert (reply.status, reply.json()["reason"]) == (502, "upstream_unreachable")
            client.writer.transport.abort()
            await sending
        await at_rest(mesh)
        ended = mesh.web.log("connection ended")
        assert [line["reason"] for line in ended] == ["upstream_unreachable"] * 5


@pytest.mark.parametrize("first", [[b"200"], [b"204"], [b"103", b"200"]])
async def test_any_yes_to_connect_is_a_yes_and_trailers_end_in_order(first: list[bytes]) -> None:
    async def serve(peer: RawPeer) -> None:
        request = await peer.next(h2.HEADERS)
        number = request.stream_id
        for status in first:
            peer.send(peer.headers(number, (b":status", status)))
        peer.send(h2.frame(h2.DATA, 0, number, b"hello"), peer.headers(number, (b"x-sum", b"1"), end=True))
        await peer.ended()

    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), serve) as port:
        mesh.lead_to(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        assert await asyncio.wait_for(reader.read(), 10) == b"hello"
        writer.close()
        await until(lambda: len(mesh.web.log("connection ended")) == 1)
        assert mesh.web.log("connection ended")[0]["reason"] == "closed"


async def test_http_leaves_a_link_that_drains_between_requests_and_opaque_bytes_stay() -> None:
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/orders/slow" in head:
                await gate.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with app_of(serve) as app, echo_app() as tcp, Mesh(http_app=app, tcp_app=tcp) as mesh:
        busy, idle = await HttpClient.to(mesh.http_listen), await HttpClient.to(mesh.http_listen)
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        assert (await idle.ask("GET", "/orders/1")).status == 200
        asked = asyncio.ensure_future(busy.ask("GET", "/orders/slow"))
        await until(lambda: len(mesh.api.inbound.relays) == 3)
        mesh.web.outbound.enforce([replace(up, endpoints=()) for up in mesh.upstreams])
        mesh.web.outbound.enforce(mesh.upstreams)
        (old,) = mesh.web.outbound.pool.links
        await until(lambda: len(old.machine.streams) == 2)  # without that of the idle connection
        assert (await idle.ask("GET", "/orders/1")).status == 200
        assert len(mesh.web.outbound.pool.links) == 2
        assert not asked.done()
        gate.set()
        reply = await asked
        assert (reply.status, "connection" in reply.headers) == (200, False)
        await until(lambda: len(old.machine.streams) == 1)
        assert (await busy.ask("GET", "/orders/1")).status == 200
        writer.write(b"ping")
        assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"
        assert not old.closed
        for one in (busy.writer, idle.writer, writer):
            one.close()
        await until(lambda: old.closed)


async def test_a_client_that_cannot_prove_itself_anew_is_asked_to_leave_at_our_renewal() -> None:
    async with http_app() as app, echo_app() as tcp, Mesh(http_app=app, tcp_app=tcp) as mesh:
        peer = await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(WEB))  # it announces no extension of ours
        peer.send(peer.connect(1, b"127.0.0.1:%d" % TCP_PORT), peer.connect(3, b"127.0.0.1:%d" % HTTP_PORT))
        peer.send(h2.frame(h2.DATA, 0, 3, GET))
        await peer.next(h2.DATA, 3)
        mesh.api.renew(mesh.ca.svid(API))
        goaway = await peer.next(h2.GOAWAY)
        assert (goaway.code, goaway.payload[:4]) == (h2.NO_ERROR, b"\0\0\0\3")
        while not (await peer.next(h2.DATA, 3)).flags & h2.FLAG_END_STREAM:
            pass
        peer.send(h2.frame(h2.DATA, h2.FLAG_END_STREAM, 1, b"ping"))
        assert (await peer.next(h2.DATA, 1)).payload == b"ping"
        peer.send(h2.rst_stream(3, h2.NO_ERROR))
        await peer.ended()
        peer.close()
        await until(lambda: not mesh.api.links)


async def test_connections_to_the_app_are_bounded_and_one_that_ends_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer with an identity may open as many streams as all its links take."""
    monkeypatch.setattr("sidecar.inbound.RELAY_LIMIT", 3)
    async with echo_app(greeting=b"hi") as app, Mesh(tcp_app=app) as mesh:
        open_ones = [await asyncio.open_connection("127.0.0.1", mesh.tcp_listen) for _ in range(3)]
        for reader, _ in open_ones:
            assert await asyncio.wait_for(reader.readexactly(2), 10) == b"hi"
        late, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(late.readexactly(1), 10)
        writer.close()
        [line] = mesh.api.log("connection denied")
        assert (line["reason"], line["service"]) == ("overloaded", "shop/api")
        open_ones.pop()[1].close()
        await until(lambda: len(mesh.api.inbound.relays) == 2)
        open_ones.append(await asyncio.open_connection("127.0.0.1", mesh.tcp_listen))
        assert await asyncio.wait_for(open_ones[-1][0].readexactly(2), 10) == b"hi"
        for _, writer in open_ones:
            writer.close()
