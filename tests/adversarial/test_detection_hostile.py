"""Callers who would have an app read a request that nobody judged, over ports whose protocol is found out.

The app here is lenient: it remembers every byte, and reads as a request what any server might.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ringfence.snapshot import Protocol
from sidecar.http2.frames import PREFACE, SETTINGS, settings
from sidecar.inbound_detection import InboundDetection
from tests.data_path import HTTP_PORT, TCP_PORT, Mesh, until
from tests.integration.test_detection import App, auto, call, end_sending, ended

FORGED = b"x-forwarded-client-cert: URI=spiffe://shop.example/ns/shop/sa/forged\r\n"
REST = b"host: api\r\n" + FORGED + b"\r\n"

AMBIGUOUS = [
    b"get /admin HTTP/1.1\r\n",
    b"delete /orders/1 HTTP/1.1\r\n",
    b"\r\nDELETE /orders/1 HTTP/1.1\r\n",
    b"\nDELETE /orders/1 HTTP/1.1\n",
    b"\r\n\r\n\r\n \tDELETE /orders/1 HTTP/1.1\r\n",
    b"DELETE\t/orders/1\tHTTP/1.1\r\n",
    b"DELETE\x0cx\x0cHTTP/1.1\r\n",
    b"DELETE\rx\rHTTP/1.1\n",
    b"DEL@TE x HTTP/1.1\r\n",
    b"X" * 100 + b" x HTTP/1.1\r\n",
    b"DELETE x http/1.1\r\n",
    b"GET /admin\r\n",
    b"GET admin\r\n",
    b"POST /admin\r\n",
    PREFACE[:-1] + b"X" + b"DELETE / HTTP/1.1\r\n",
    b"PRI * HTTP/1.1\r\n",
    b"PRI /admin HTTP/2.0\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nDELETE /orders/1 HTTP/1.1\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0DELETE /orders/1 HTTP/1.1\r\n",
]


@pytest.mark.parametrize("first", AMBIGUOUS, ids=[repr(first[:24]) for first in AMBIGUOUS])
@pytest.mark.parametrize("way", ["explicit", "direct"])
@pytest.mark.parametrize("port", [HTTP_PORT, TCP_PORT])
async def test_no_reader_finds_a_forged_identity_in_what_passed(port: int, way: str, first: bytes) -> None:
    """Not even of a caller who may send anything at all: what might be HTTP is read as HTTP, or does not pass."""
    app = App()
    async with app.listening() as where, auto(way, http_app=where, tcp_app=where) as mesh:
        reader, writer = await call(mesh, way, port)
        writer.write(first + REST)
        with contextlib.suppress(OSError, RuntimeError):
            end_sending(writer)
        await ended(reader)
        writer.close()
        await until(lambda: not len(mesh.api.inbound.relays) and not len(mesh.web.outbound.relays))
        assert b"forged" not in app.read
        assert b"/admin" not in app.read or port == TCP_PORT  # there any request is permitted


@pytest.mark.parametrize("first", AMBIGUOUS[:13], ids=[repr(first[:24]) for first in AMBIGUOUS[:13]])
async def test_nor_if_it_comes_so_slowly_that_its_beginning_passes(first: bytes) -> None:
    app = App()
    async with app.listening() as where, auto(tcp_app=where) as mesh:
        reader, writer = await call(mesh, "direct", TCP_PORT)
        begun = first[:2]
        writer.write(begun)
        await until(lambda: app.read == begun)
        [relay] = [relay for relay, _ in mesh.api.inbound.relays]
        assert isinstance(relay, InboundDetection)
        assert relay.facts.protocol == "auto"
        with contextlib.suppress(RuntimeError):  # it is cut off in the middle
            for at in range(2, len(first)):
                writer.write(first[at : at + 1])
                await asyncio.sleep(0)
            writer.write(REST)
        await ended(reader)
        writer.close()
        await until(lambda: not len(mesh.api.inbound.relays))
        assert b"forged" not in app.read
        assert not app.read.endswith(b"\n") or not app.read.strip()
        assert mesh.api.log("connection denied")[0]["reason"] == "protocol_error"


async def test_nor_where_opaque_bytes_were_spoken_before() -> None:
    app = App()
    async with app.listening() as where, auto(tcp_app=where) as mesh:
        _, writer = await call(mesh, "direct", TCP_PORT)
        writer.write(b"\0")
        await until(lambda: app.read == b"\0")
        writer.close()
        app.read = b""
        reader, writer = await call(mesh, "direct", TCP_PORT)
        writer.write(b"DELETE")
        await until(lambda: app.read == b"DELETE")  # not held any more, by the hint
        writer.write(b" x HTTP/1.1\r\n" + REST)
        await ended(reader)
        writer.close()
        await until(lambda: not len(mesh.api.inbound.relays))
        assert app.read == b"DELETE"


async def test_a_server_of_http_that_tires_of_waiting_does_not_make_the_connection_opaque() -> None:
    """Else a client would wait for its 408 and then ask what it likes."""
    app = App()
    async with app.listening() as where, auto(tcp_app=where) as mesh:
        reader, writer = await call(mesh, "direct", TCP_PORT)
        await until(lambda: len(app.connections) == 1)
        app.connections[0].write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        writer.write(b"DELETE x HTTP/1.1\r\n" + REST)
        await ended(reader)
        writer.close()
        await until(lambda: not len(mesh.api.inbound.relays))
        assert b"forged" not in app.read


async def test_a_server_that_speaks_http2_first_is_taken_for_one() -> None:
    app = App()
    async with app.listening() as where, auto(tcp_app=where) as mesh:
        reader, writer = await call(mesh, "direct", TCP_PORT)
        await until(lambda: len(app.connections) == 1)
        app.connections[0].write(settings({}))
        assert (await asyncio.wait_for(reader.readexactly(9), 10))[3] == SETTINGS
        writer.write(b"DELETE /x HTTP/1.1\r\n" + REST)
        await ended(reader)
        writer.close()
        await until(lambda: not len(mesh.api.inbound.relays))
        assert not app.read


@pytest.mark.parametrize("http", [Protocol.HTTP, Protocol.AUTO])
async def test_an_upgrade_to_http2_in_the_clear_is_withdrawn(http: Protocol) -> None:
    """After it requests would flow that nobody judges (RFC 9113 section 3.1 has given it up)."""
    app = App()
    async with app.listening() as where, Mesh(http=http, http_app=where) as mesh:
        reader, writer = await call(mesh, "explicit", HTTP_PORT)
        offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
        writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n" + offer)
        await until(lambda: b"\r\n\r\n" in app.read)
        assert b"h2c" not in app.read
        assert b"http2-settings" not in app.read
        app.connections[0].write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        told = await ended(reader)
        assert told.startswith(b"HTTP/1.1 502 ")
        writer.close()


async def test_many_undecided_connections_leave_nothing_when_they_go() -> None:
    app = App()
    async with app.listening() as where, auto(http_app=where, tcp_app=where) as mesh:
        pairs = [await call(mesh, way, port) for way in ("explicit", "direct") for port in (HTTP_PORT, TCP_PORT)]
        for first in (b"", b"\r\n", b"G", PREFACE[:5]):
            for way in ("explicit", "direct"):
                for port in (HTTP_PORT, TCP_PORT):
                    pair = await call(mesh, way, port)
                    pair[1].write(first)
                    pairs.append(pair)
        for number, (_, writer) in enumerate(pairs):
            with contextlib.suppress(Exception):
                if number % 2:
                    writer.transport.abort()
                else:
                    writer.close()
            writer.close()
        await until(lambda: not len(mesh.api.inbound.relays) and not len(mesh.web.outbound.relays))
        await until(lambda: not mesh.api.inbound.connects and not mesh.api.inbound.direct.open_count)
        await until(lambda: not any(link.machine.streams for link in mesh.web.links | mesh.api.links))
        assert not any(link.machine.held_bytes or link.machine.kept_bytes for link in mesh.web.links | mesh.api.links)
