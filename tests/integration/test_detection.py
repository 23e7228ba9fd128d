"""Ports of protocol auto: each kind of traffic over one and the same port, by every way that leads to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from ringfence.snapshot import PortMode, Protocol
from sidecar.inbound_detection import DETECT_SECONDS, InboundDetection
from sidecar.outbound_detection import OutboundDetection
from tests.client_hello import client_hello
from tests.data_path import (
    API_ADDRESSES,
    HTTP_PORT,
    OPEN,
    TCP_PORT,
    WEB,
    HttpClient,
    Mesh,
    echo_app,
    http_app,
    plaintext_rule,
    rule,
    serving,
    until,
)
from tests.redirected import DirectClient

WAYS = ["explicit", "redirected", "direct", "plain"]
# At a redirected port TLS in plaintext is taken for a peer's, and the arrival of plaintext waits for its first byte.
TLS_WAYS = SILENT_WAYS = WAYS[:3]
RULES = (
    *OPEN,
    plaintext_rule("plain orders", ports=[HTTP_PORT], methods=["GET", "POST"], paths=["/orders/{id}"]),
    plaintext_rule("plain ledger", ports=[TCP_PORT]),
)
GET = b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n"
FORGED = b"x-forwarded-client-cert: URI=spiffe://shop.example/ns/shop/sa/forged\r\n"


def auto(way: str = "", **parts: Any) -> Mesh:
    """The caller may speak HTTP to HTTP_PORT, and anything to TCP_PORT."""
    mode = PortMode.PERMISSIVE if way == "plain" else PortMode.STRICT
    parts = {"rules": RULES, "intercept": True, "mode": mode, **parts}
    return Mesh(http=Protocol.AUTO, tcp=Protocol.AUTO, **parts)


async def call(mesh: Mesh, way: str, port: int) -> tuple[asyncio.StreamReader, Any]:
    if way == "explicit":
        return await asyncio.open_connection("127.0.0.1", mesh.http_listen if port == HTTP_PORT else mesh.tcp_listen)
    if way == "redirected":
        return await mesh.dial((API_ADDRESSES[0], port))
    if way == "plain":
        return await mesh.arrive(port)
    client = await DirectClient.over(await mesh.arrive(port), mesh.ca.svid(WEB))
    return client.reader, client


def end_sending(writer: Any) -> None:
    writer.half_close() if isinstance(writer, DirectClient) else writer.write_eof()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes before the end, whatever kind of end it is."""
    seen = b""
    with contextlib.suppress(OSError, Exception):
        async with asyncio.timeout(10):
            while piece := await reader.read(65536):
                seen += piece
    return seen


def detected(mesh: Mesh, protocol: str) -> int:
    """How many connections api has found to speak this."""
    return mesh.api.metrics.detected.at("inbound", "shop/api", protocol).value


class App:
    """Remembers its connections and all that it read of them; says what it is told to."""

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []
        self.read = b""

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections.append(writer)
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(65536):
                    self.read += piece
            writer.close()

        async with serving(serve) as port:
            yield port


# -- each kind, each way ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("port", [HTTP_PORT, TCP_PORT])
async def test_http_is_judged_request_by_request_and_told_its_caller(way: str, port: int) -> None:
    """On TCP_PORT, too, where the caller might send anything: what is HTTP is never passed unread."""
    seen: list[bytes] = []
    async with http_app(seen) as app, auto(way, http_app=app, tcp_app=app) as mesh:
        client = HttpClient(*await call(mesh, way, port))
        for number in (1, 2):
            assert (await client.ask("GET", f"/orders/{number}", headers=FORGED.decode())).status == 200
        denied = await client.ask("DELETE", "/orders/1" if port == HTTP_PORT else "/orders/..%2fadmin")
        assert (denied.status, denied.json()["reason"]) == (
            403,
            "method_not_allowed" if port == HTTP_PORT else "path_ambiguous",
        )
        client.close()
        assert len(seen) == 2
        for head in seen:
            assert b"forged" not in head
            assert (f"URI={WEB}\r\n".encode() in head) == (way != "plain")
        assert detected(mesh, "http") == 1
        await until(lambda: not len(mesh.api.inbound.relays))


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_greets_is_heard_by_a_client_that_waits_for_it(way: str) -> None:
    async with echo_app(greeting=b"\x4a\0\0\0\x0a8.0.36\0") as app, auto(way, tcp_app=app) as mesh:
        reader, writer = await call(mesh, way, TCP_PORT)
        assert await asyncio.wait_for(reader.readexactly(12), 10) == b"\x4a\0\0\0\x0a8.0.36\0"
        blob = bytes(range(256)) * 2048
        writer.write(b"GET / HTTP/1.1\r\n" + blob)  # it is decided: no HTTP
        end_sending(writer)
        assert await asyncio.wait_for(reader.read(), 20) == b"GET / HTTP/1.1\r\n" + blob + b"bye"
        writer.close()
        assert detected(mesh, "tcp") == 1
        await until(lambda: not len(mesh.api.inbound.relays))
        line = mesh.api.log("connection ended")[-1]
        assert (line["protocol"], line["decision"], line["reason"]) == ("tcp", "permit", "closed")


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_may_take_its_time_to_greet(way: str) -> None:
    """What counts is the order of things: the app has its connection, and the client, before a byte was said."""
    app = App()
    async with app.listening() as port, auto(way, tcp_app=port) as mesh:
        reader, writer = await call(mesh, way, TCP_PORT)
        await until(lambda: len(app.connections) == 1)
        now = mesh.api.clock.monotonic()
        mesh.api.inbound.relays.sweep(now)
        mesh.api.inbound.relays.sweep(now + 3600)  # silence is no fault of a connection that is permitted
        app.connections[0].write(b"220 ready\r\n")
        assert await asyncio.wait_for(reader.readline(), 10) == b"220 ready\r\n"
        writer.write(b"EHLO a\r\n")
        await until(lambda: app.read == b"EHLO a\r\n")
        writer.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "first",
    [
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"*1\r\n$4\r\nPING\r\n",
        b"PING\r\n",
        b"hello",
        b"G",
        b"\r\n",
        b"\xff" * 300_000,
        b"x" * 300_000,
    ],
    ids=lambda first: repr(first[:12]),
)
async def test_a_client_that_speaks_first_is_answered(way: str, first: bytes) -> None:
    """Even where it says no more than what might become a request, and waits for the answer."""
    async with echo_app() as app, auto(way, tcp_app=app) as mesh:
        reader, writer = await call(mesh, way, TCP_PORT)
        writer.write(first)
        assert await asyncio.wait_for(reader.readexactly(len(first)), 20) == first
        writer.write(b"more\r\n")
        end_sending(writer)
        assert await asyncio.wait_for(reader.read(), 10) == b"more\r\n"
        writer.close()
        await until(lambda: not len(mesh.api.inbound.relays))
        assert detected(mesh, "tcp") == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_has_nothing_to_say_hears_what_the_server_has(way: str) -> None:
    async with echo_app(greeting=b"Thu Jan  1\r\n") as app, auto(way, tcp_app=app) as mesh:
        reader, writer = await call(mesh, way, TCP_PORT)
        end_sending(writer)
        assert await asyncio.wait_for(reader.read(), 10) == b"Thu Jan  1\r\nbye"
        writer.close()
        await until(lambda: not len(mesh.api.inbound.relays))


@pytest.mark.parametrize("way", TLS_WAYS)
async def test_tls_of_the_apps_own_passes_untouched_and_its_name_is_noted(way: str) -> None:
    hello = client_hello(b"DB.example", alpn=[b"postgresql", b'"\n\xff'])
    for tcp in (Protocol.AUTO, Protocol.TCP):
        async with echo_app() as app, Mesh(tcp=tcp, tcp_app=app, intercept=True) as mesh:
            reader, writer = await call(mesh, way, TCP_PORT)
            writer.write(hello[:40])
            assert await asyncio.wait_for(reader.readexactly(40), 10) == hello[:40]
            writer.write(hello[40:])
            assert await asyncio.wait_for(reader.readexactly(len(hello) - 40), 10) == hello[40:]
            writer.close()
            for side in (mesh.api, mesh.web)[: 1 if way == "direct" else 2]:
                await until(lambda side=side: len(side.log("connection ended")) == 1)  # type: ignore[misc]
                [line] = side.log("connection ended")
                assert (line["sni"], line["alpn"], line["protocol"]) == ("db.example", "postgresql,%22%0a%ff", "tcp")


# -- what is not permitted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "first"),
    [(way, first) for way in WAYS for first in (b"\0\0\0\x08\x04\xd2\x16\x2f", b"PING\r\n", b"x" * 40_000)]
    + [(way, client_hello(b"db.example")) for way in TLS_WAYS],
)
async def test_opaque_bytes_by_a_rule_of_http_are_refused_and_the_app_hears_of_nothing(way: str, first: bytes) -> None:
    app = App()
    async with app.listening() as port, auto(way, http_app=port) as mesh:
        reader, writer = await call(mesh, way, HTTP_PORT)
        writer.write(first)
        assert await ended(reader) == b""
        writer.close()
        [line] = mesh.api.log("connection denied")
        assert (line["reason"], line["port"]) == ("not_http", HTTP_PORT)
        await until(lambda: not len(mesh.api.inbound.relays) and not len(mesh.web.outbound.relays))
        assert not app.connections


@pytest.mark.parametrize(
    ("way", "first"),
    [(way, first) for way in WAYS for first in (b"GE", b"\r\n")] + [(way, b"") for way in SILENT_WAYS],
)
async def test_a_client_that_may_only_speak_http_and_does_not_is_let_go(way: str, first: bytes) -> None:
    app = App()
    async with app.listening() as port, auto(way, http_app=port) as mesh:
        reader, writer = await call(mesh, way, HTTP_PORT)
        writer.write(first)
        await until(lambda: any(isinstance(relay, InboundDetection) for relay, _ in mesh.api.inbound.relays))
        now = mesh.api.clock.monotonic()
        mesh.api.inbound.relays.sweep(now)
        assert not mesh.api.log("connection denied")
        mesh.api.inbound.relays.sweep(now + DETECT_SECONDS + 1)
        assert await ended(reader) == b""
        [line] = mesh.api.log("connection denied")
        assert line["reason"] == "not_http"
        writer.close()
        assert not app.connections
        await until(lambda: not len(mesh.api.inbound.relays) and not len(mesh.web.outbound.relays))


@pytest.mark.parametrize("way", ["explicit", "direct"])
async def test_a_client_that_may_only_speak_http_may_come_and_go(way: str) -> None:
    app = App()
    async with app.listening() as port, auto(way, http_app=port) as mesh:
        _, writer = await call(mesh, way, HTTP_PORT)
        await until(lambda: len(mesh.api.inbound.relays) == 1)
        end_sending(writer)
        await until(lambda: not len(mesh.api.inbound.relays))
        writer.close()
        assert not mesh.api.log("connection denied")
        assert not app.connections


@pytest.mark.parametrize("way", ["explicit", "redirected", "direct"])
async def test_a_caller_to_whom_nothing_is_permitted_is_refused_whatever_it_speaks(way: str) -> None:
    app = App()
    async with app.listening() as port, auto(way, http_app=port, tcp_app=port, rules=()) as mesh:
        client = HttpClient(*await call(mesh, way, TCP_PORT))
        denied = await client.ask("GET", "/orders/1")
        assert (denied.status, denied.json()["reason"]) == (403, "caller_not_allowed")
        client.close()
        for first in (b"", b"\0"):
            reader, writer = await call(mesh, way, TCP_PORT)
            writer.write(first)
            assert await ended(reader) == b""
            writer.close()
        assert [line["reason"] for line in mesh.api.log("connection denied")] == ["caller_not_allowed"] * 2
        assert not app.read
        assert len(app.connections) <= 1  # that of the request, as on any port of HTTP


# -- lives ------------------------------------------------------------------------------------------------------------


async def test_a_new_policy_reaches_connections_that_have_said_nothing() -> None:
    app = App()
    async with app.listening() as port, auto(tcp_app=port) as mesh:
        reader, writer = await call(mesh, "explicit", TCP_PORT)
        await until(lambda: len(app.connections) == 1)
        mesh.enforce(rule("http", ports=[TCP_PORT], paths=["/**"]))
        assert await ended(reader) == b""
        writer.close()
        reader, writer = await call(mesh, "explicit", TCP_PORT)
        await until(lambda: len(mesh.api.inbound.relays) == 1)
        assert len(app.connections) == 1
        mesh.enforce(rule("http", ports=[TCP_PORT], methods=["GET"]))
        mesh.enforce(*OPEN)
        await until(lambda: len(app.connections) == 2)
        app.connections[1].write(b"220\r\n")
        assert await asyncio.wait_for(reader.readline(), 10) == b"220\r\n"
        mesh.enforce(rule("http", ports=[TCP_PORT], paths=["/**"]))
        assert await ended(reader) == b""
        writer.close()
        await until(lambda: not len(mesh.api.inbound.relays) and not len(mesh.web.outbound.relays))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("port", [HTTP_PORT, TCP_PORT])
async def test_an_app_that_does_not_listen_is_told_in_http_or_by_the_end_of_the_connection(way: str, port: int) -> None:
    async with auto(way) as mesh:
        client = HttpClient(*await call(mesh, way, port))
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, "app_unreachable")
        client.close()
        reader, writer = await call(mesh, way, TCP_PORT)
        assert await ended(reader) == b""
        writer.close()
        await until(lambda: not len(mesh.api.inbound.relays) and not len(mesh.web.outbound.relays))
        await until(lambda: not mesh.api.inbound.connects)


async def test_no_stream_is_opened_in_vain_whether_or_not_http_was_spoken_before() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, auto(tcp_app=app) as mesh:
        client = HttpClient(*await call(mesh, "explicit", TCP_PORT))
        assert (await client.ask("GET", "/orders/1")).status == 200
        client.close()
        await until(lambda: not len(mesh.web.outbound.relays))
        streams = mesh.api.metrics.connections
        await until(lambda: not len(mesh.api.inbound.relays))
        before = sum(count.value for count in streams.table.values())
        assert before == 1  # the stream that was opened before the request is the request's
        client = HttpClient(*await call(mesh, "explicit", TCP_PORT))
        assert (await client.ask("GET", "/orders/2")).status == 200
        client.close()
        await until(lambda: not len(mesh.api.inbound.relays))
        assert sum(count.value for count in streams.table.values()) == before + 1


async def test_a_server_that_greets_where_http_was_spoken_before_is_heard() -> None:
    """Nobody tells the outbound side that another kind of app stands there now."""
    http = True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if http:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            else:
                writer.write(b"220\r\n")
            await reader.read()
        writer.close()

    async with serving(serve) as app, auto(tcp_app=app) as mesh:
        client = HttpClient(*await call(mesh, "explicit", TCP_PORT))
        assert (await client.ask("GET", "/x")).status == 204
        client.close()
        http = False
        for _ in range(2):
            reader, writer = await call(mesh, "explicit", TCP_PORT)
            assert await asyncio.wait_for(reader.readline(), 10) == b"220\r\n"
            writer.close()
        assert detected(mesh, "tcp") == 2


async def test_the_outbound_side_counts_and_shows_what_it_found() -> None:
    async with http_app() as app, auto(http_app=app) as mesh:
        reader, writer = await call(mesh, "explicit", HTTP_PORT)
        await until(lambda: any(isinstance(relay, OutboundDetection) for relay, _ in mesh.web.outbound.relays))
        assert [relay.facts.protocol for relay, _ in mesh.web.outbound.relays] == ["auto"]
        client = HttpClient(reader, writer)
        assert (await client.ask("GET", "/orders/1")).status == 200
        assert [relay.facts.protocol for relay, _ in mesh.web.outbound.relays] == ["http"]
        assert [relay.facts.protocol for relay, _ in mesh.api.inbound.relays] == ["http"]
        assert mesh.web.metrics.detected.at("outbound", "shop/api", "http").value == 1
        client.close()


async def test_a_request_in_pieces_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InboundDetection._wait, "__defaults__", (30.0,))  # the pieces come at once, on any machine
    for port in (HTTP_PORT, TCP_PORT):
        seen: list[bytes] = []
        async with http_app(seen) as app, auto(http_app=app, tcp_app=app) as mesh:
            client = HttpClient(*await call(mesh, "direct", port))
            for at in range(len(GET)):
                client.writer.write(GET[at : at + 1])
                await asyncio.sleep(0)
            assert (await client.reply()).status == 200
            client.close()
            assert len(seen) == 1
            assert f"URI={WEB}\r\n".encode() in seen[0]


async def test_a_drain_ends_http_between_requests_although_it_was_undecided_when_it_began() -> None:
    async with http_app() as app, auto(http_app=app) as mesh:
        client = HttpClient(*await call(mesh, "direct", HTTP_PORT))
        await until(lambda: len(mesh.api.inbound.relays) == 1)
        closing = asyncio.ensure_future(mesh.api.inbound.close(10.0))
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        client.close()
        await asyncio.wait_for(closing, 10)


async def test_http_that_was_undecided_when_its_link_began_to_drain_goes_by_another() -> None:
    async with http_app() as app, auto(http_app=app) as mesh:
        client = HttpClient(*await call(mesh, "explicit", HTTP_PORT))
        await until(lambda: len(mesh.api.inbound.relays) == 1)
        [link] = mesh.web.outbound.pool.links
        mesh.web.outbound.pool.link_draining(link)
        assert (await client.ask("GET", "/orders/1")).status == 200
        await until(lambda: link not in mesh.web.outbound.pool.links)
        assert (await client.ask("GET", "/orders/2")).status == 200
        client.close()


# -- ALPN -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("http", [Protocol.HTTP, Protocol.AUTO])
@pytest.mark.parametrize(
    ("offered", "chosen"), [([b"h2", b"http/1.1"], b"http/1.1"), ([b"http/1.1"], b"http/1.1"), ([b"h2"], b"h2")]
)
async def test_a_direct_caller_speaks_the_http_that_it_chose(
    http: Protocol, offered: list[bytes], chosen: bytes
) -> None:
    async with http_app() as app, Mesh(http=http, http_app=app, intercept=True) as mesh:
        client = await DirectClient.over(await mesh.arrive(HTTP_PORT), mesh.ca.svid(WEB), alpn=offered)
        assert client.alpn == chosen
        client.write(GET)
        if chosen == b"h2":  # having chosen HTTP/2 it speaks HTTP/1.1
            assert b"HTTP/1.1 200" not in await ended(client.reader)
            assert detected(mesh, "http") == 0
        else:
            reply = await HttpClient(client.reader, client).reply()  # type: ignore[arg-type]
            assert reply.status == 200
        client.close()
        await until(lambda: not len(mesh.api.inbound.relays))


async def test_a_direct_caller_of_an_auto_port_may_offer_protocols_that_nobody_here_knows() -> None:
    async with echo_app(b"220\r\n") as app, auto(tcp_app=app) as mesh:
        client = await DirectClient.over(await mesh.arrive(TCP_PORT), mesh.ca.svid(WEB), alpn=[b"smtp"])
        assert client.alpn == b""
        assert await asyncio.wait_for(client.reader.readline(), 10) == b"220\r\n"
        client.close()


@pytest.mark.parametrize("http", [Protocol.HTTP, Protocol.AUTO])
async def test_a_direct_caller_that_chose_http2_is_judged_request_by_request(http: Protocol) -> None:
    """hyper-h2 at both ends; the app learns who calls."""
    heads: list[dict[bytes, bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        server.initiate_connection()
        writer.write(server.data_to_send())
        while data := await reader.read(65536):
            for event in server.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    heads.append(dict(event.headers))
                    server.send_headers(event.stream_id, [(b":status", b"204")], end_stream=True)
            writer.write(server.data_to_send())
        writer.close()

    async with serving(serve) as app, Mesh(http=http, http_app=app, intercept=True) as mesh:
        direct = await DirectClient.over(await mesh.arrive(HTTP_PORT), mesh.ca.svid(WEB), alpn=[b"h2"])
        client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        client.initiate_connection()
        told: dict[int, bytes] = {}
        for stream_id, path in ((1, b"/orders/1"), (3, b"/admin")):
            fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"api"), (b":path", path)]
            client.send_headers(stream_id, fields, end_stream=True)
        async with asyncio.timeout(10):
            while len(told) < 2:
                direct.write(out) if (out := client.data_to_send()) else None
                for event in client.receive_data(await direct.reader.read(65536)):
                    if isinstance(event, h2.events.ResponseReceived):
                        told[event.stream_id] = dict(event.headers)[b":status"]
        assert told == {1: b"204", 3: b"403"}
        [head] = heads
        assert head[b":path"] == b"/orders/1"
        assert f"URI={WEB}".encode() in head[b"x-forwarded-client-cert"]
        assert [relay.facts.protocol for relay, _ in mesh.api.inbound.relays] == ["http2"]
        direct.close()
        await until(lambda: not len(mesh.api.inbound.relays))
