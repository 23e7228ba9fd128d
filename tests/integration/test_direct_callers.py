"""SPIFFE peers without a tunnel at the redirected inbound port: their identity, their rogues, their end, and policy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from OpenSSL import SSL

from ringfence.snapshot import PortMode, Protocol
from ringfence.spiffe import ChainVerifier, X509Svid
from tests.data_path import API, HTTP_PORT, TCP_PORT, WEB, Mesh, echo_app, http_app, rule, serving, until
from tests.direct_callers import PERMISSIVE, PLAIN, direct, direct_http, ended, lives, nothing_left, refused
from tests.pki import TestCa
from tests.redirected import DirectClient, reset

pytestmark = pytest.mark.usefixtures("patient_arrivals")


# -- with an identity -------------------------------------------------------------------------------------------------


async def test_a_spiffe_client_without_sidecar_is_judged_by_its_identity_and_the_app_told() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app, intercept=True) as mesh:
        svid = mesh.ca.svid(WEB)
        client = await direct_http(mesh, svid)
        assert client.writer.server == API  # type: ignore[attr-defined]
        forged = "x-forwarded-client-cert: URI=spiffe://shop.example/ns/shop/sa/admin\r\n"
        assert (await client.ask("GET", "/orders/1", headers=forged)).status == 200
        denied = await client.ask("DELETE", "/orders/1")
        assert (denied.status, denied.json()["reason"]) == (403, "method_not_allowed")
        assert (await client.ask("POST", "/orders/2", body=b"x" * 100_000)).status == 200
        client.close()
        assert len(seen) == 2
        assert f"URI={WEB}\r\n".encode() in seen[0]
        assert b"admin" not in seen[0]
        [line] = mesh.api.log("request denied")
        assert (line["peer"], line["origin"]) == (str(WEB), str(API))
        await until(nothing_left(mesh))


async def test_another_identity_is_another_caller() -> None:
    async with http_app() as app, Mesh(http_app=app, intercept=True) as mesh:
        client = await direct_http(mesh, mesh.ca.svid("spiffe://shop.example/ns/shop/sa/other"))
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (403, "caller_not_allowed")
        client.close()


@pytest.mark.parametrize("mode", list(PortMode))
async def test_a_spiffe_client_reaches_an_opaque_port_with_half_close(mode: PortMode) -> None:
    async with echo_app(greeting=b"hello\n") as app, Mesh(tcp_app=app, intercept=True, mode=mode) as mesh:
        client = await direct(mesh, TCP_PORT)
        assert await asyncio.wait_for(client.reader.readline(), 10) == b"hello\n"
        blob = bytes(range(256)) * 4096
        client.write(blob)
        client.half_close()
        assert await asyncio.wait_for(client.reader.read(), 20) == blob + b"bye"
        client.close()
        await until(nothing_left(mesh))
        [line] = mesh.api.log("connection ended")
        assert (line["reason"], line["decision"], line["rule"], line["peer"]) == (
            "closed",
            "permit",
            "ledger",
            str(WEB),
        )
        assert (line["bytes_to_app"], line["bytes_from_app"]) == (len(blob), len(blob) + 9)


async def test_what_a_client_says_with_its_last_handshake_message_is_heard() -> None:
    """Finished, data and close_notify may arrive in one read."""
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True) as mesh:
        reader, writer = await mesh.arrive(TCP_PORT)
        client = DirectClient(reader, writer, mesh.ca.svid(WEB))
        pieces = await client.shake_but_hold()
        client.half_close(b"all at once")
        writer.write(pieces + client.held())
        client.pump()
        assert await asyncio.wait_for(client.reader.read(), 10) == b"all at once"
        client.close()
        await until(nothing_left(mesh))


async def test_a_denied_spiffe_client_of_an_opaque_port_gets_no_byte() -> None:
    async with echo_app(greeting=b"secret") as app, Mesh(tcp_app=app, intercept=True) as mesh:
        client = await direct(mesh, TCP_PORT, mesh.ca.svid(API))
        await ended(client.reader)
        client.close()
        [line] = mesh.api.log("connection denied")
        assert (line["reason"], line["peer"], line["port"]) == ("caller_not_allowed", str(API), TCP_PORT)
        await until(nothing_left(mesh))


@pytest.mark.parametrize(
    ("port", "offered", "chosen"),
    [
        (HTTP_PORT, [b"h2", b"http/1.1"], b"http/1.1"),
        (HTTP_PORT, None, b""),
        (TCP_PORT, [b"postgresql"], b""),
        (TCP_PORT, None, b""),
    ],
)
async def test_the_application_protocol_is_the_ports(port: int, offered: list[bytes] | None, chosen: bytes) -> None:
    async with echo_app() as app, Mesh(http_app=app, tcp_app=app, intercept=True) as mesh:
        client = await direct(mesh, port, alpn=offered)
        assert client.alpn == chosen
        client.close()


async def test_the_header_of_the_proxy_protocol_comes_before_the_callers_first_byte() -> None:
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True, proxy_protocol=True) as mesh:
        client = await direct(mesh, TCP_PORT)
        client.write(b"first")
        head = await asyncio.wait_for(client.reader.readexactly(16), 10)
        assert head[:13] == b"\r\n\r\n\0\r\nQUIT\n\x21"
        body = await asyncio.wait_for(client.reader.readexactly(int.from_bytes(head[14:16], "big")), 10)
        assert socket.inet_ntoa(body[:4]) == "127.0.0.1"
        assert int.from_bytes(body[10:12], "big") == TCP_PORT
        assert str(WEB).encode() in body
        assert await asyncio.wait_for(client.reader.readexactly(5), 10) == b"first"
        client.close()


# -- rogues -----------------------------------------------------------------------------------------------------------


def _rogues() -> dict[str, tuple[Callable[[TestCa], X509Svid | None], str]]:
    return {
        "none": (lambda ca: None, "no_certificate"),
        "foreign authority": (lambda ca: TestCa("shop.example").svid(WEB), "untrusted"),
        "foreign domain": (lambda ca: TestCa("other.example").svid("spiffe://other.example/x"), "unknown_trust_domain"),
        "expired": (lambda ca: ca.svid(WEB, not_before=-7200, lifetime=-3600), "expired"),
        "not yet": (lambda ca: ca.svid(WEB, not_before=3600, lifetime=7200), "not_yet_valid"),
        "two ids": (lambda ca: ca.svid(WEB, uris=[str(WEB), str(API)]), "spiffe_id_count"),
        "a ca": (lambda ca: ca.svid(WEB, ca=True), "leaf_rules"),
    }


@pytest.mark.parametrize("name", _rogues())
@pytest.mark.parametrize("port", [HTTP_PORT, TCP_PORT])
async def test_rogue_certificates_are_refused_with_their_reason(name: str, port: int) -> None:
    make, reason = _rogues()[name]
    async with echo_app(greeting=b"secret") as app, Mesh(tcp_app=app, http_app=app, intercept=True) as mesh:
        reader, writer = await mesh.arrive(port)
        with pytest.raises((SSL.Error, ConnectionError)):
            client = await DirectClient.over((reader, writer), make(mesh.ca))
            await asyncio.wait_for(client.reader.readexactly(1), 10)
        writer.close()
        assert mesh.api.failures == [("inbound", reason)]
        [line] = mesh.api.log("handshake refused")
        assert line["reason"] == reason
        await until(nothing_left(mesh))


async def test_older_tls_is_refused() -> None:
    async with Mesh(intercept=True) as mesh:
        with pytest.raises((SSL.Error, ConnectionError)):
            await direct(mesh, HTTP_PORT, version=SSL.TLS1_2_VERSION)
        assert mesh.api.failures == [("inbound", "protocol_version")]


async def test_a_client_that_speaks_only_another_http_is_refused() -> None:
    async with Mesh(intercept=True) as mesh:
        with pytest.raises((SSL.Error, ConnectionError)):
            await direct(mesh, HTTP_PORT, alpn=[b"h3"])
        assert mesh.api.failures == [("inbound", "no_h2")]
    async with Mesh(intercept=True, http=Protocol.GRPC) as mesh:
        with pytest.raises((SSL.Error, ConnectionError)):
            await direct(mesh, HTTP_PORT, alpn=[b"http/1.1"])
        assert mesh.api.failures == [("inbound", "no_h2")]


async def test_a_connection_that_breaks_off_in_the_handshake_leaves_nothing() -> None:
    async with Mesh(intercept=True) as mesh:
        for leave in (lambda writer: writer.close(), reset):
            _, writer = await mesh.arrive(HTTP_PORT)
            writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            await until(lambda: mesh.api.inbound.direct.open_count == 1)
            leave(writer)
            await until(nothing_left(mesh))


async def test_handshakes_that_do_not_end_are_bounded_and_end_with_the_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.inbound_direct.ARRIVAL_LIMIT", 4)
    async with echo_app(b"hello") as app, Mesh(tcp_app=app, intercept=True) as mesh:
        begun = [await mesh.arrive(TCP_PORT) for _ in range(4)]
        for _, writer in begun[:2]:
            writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        await until(lambda: mesh.api.inbound.direct.open_count == 4)
        client = await direct(mesh, TCP_PORT)  # whoever shows who it is crowds out the oldest that did not
        assert await asyncio.wait_for(client.reader.readexactly(5), 10) == b"hello"
        assert mesh.api.failures == [("inbound", "crowded_out")]
        await ended(next(reader for reader, _ in begun if reader.at_eof() or reader.exception()))
        await until(lambda: mesh.api.inbound.direct.open_count == 4)
        client.close()
        await mesh.api.inbound.close(0.0)
        for reader, writer in begun:
            await ended(reader)
            writer.close()
        await until(nothing_left(mesh))


# -- the life of an identity ------------------------------------------------------------------------------------------


async def test_an_svid_that_ends_ends_its_connection() -> None:
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True) as mesh:
        svid = mesh.ca.svid(WEB, lifetime=5.0)
        short, long = await direct(mesh, TCP_PORT, svid), await direct(mesh, TCP_PORT)
        for client in (short, long):
            await lives(client.reader, client)
        await ended(short.reader)
        assert mesh.api.clock.now() >= svid.not_after
        await lives(long.reader, long)
        [line] = mesh.api.log("connection ended")
        assert (line["reason"], line["peer"]) == ("identity_expired", str(WEB))
        for client in (short, long):
            client.close()
        await until(nothing_left(mesh))


async def test_our_own_svid_that_ends_ends_the_connections_that_were_shown_it() -> None:
    ca = TestCa("shop.example")
    async with (
        echo_app() as app,
        Mesh(tcp_app=app, ca=ca, intercept=True, api_svid=ca.svid(API, lifetime=5.0)) as mesh,
    ):
        client = await direct(mesh, TCP_PORT)
        await lives(client.reader, client)
        mesh.api.renew(ca.svid(API))
        later = await direct(mesh, TCP_PORT)
        await ended(client.reader)
        await lives(later.reader, later)
        [line] = mesh.api.log("connection ended")
        assert line["reason"] == "identity_expired"
        for one in (client, later):
            one.close()


async def test_an_http_client_is_asked_to_leave_before_its_svid_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no request of a client that renews is cut off: it comes again with its new SVID."""
    async with http_app() as app, Mesh(http_app=app, intercept=True) as mesh:
        monkeypatch.setattr("sidecar.tenure.GRACE_SHARE", 0.7)
        svid = mesh.ca.svid(WEB, lifetime=10.0)
        client = await direct_http(mesh, svid)
        assert (await client.ask("GET", "/orders/1")).status == 200
        assert await asyncio.wait_for(client.reader.read(), 10) == b""  # an orderly end
        assert mesh.api.clock.now() < svid.not_after
        client.close()
        await until(nothing_left(mesh))


async def test_new_bundles_end_the_peers_that_they_no_longer_vouch_for() -> None:
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True) as mesh:
        client = await direct(mesh, TCP_PORT)
        await lives(client.reader, client)
        mesh.api.context.verifier = ChainVerifier([mesh.ca.bundle()])
        mesh.api.inbound.reverify()
        await lives(client.reader, client)
        mesh.api.context.verifier = ChainVerifier([TestCa("shop.example").bundle()])
        mesh.api.inbound.reverify()
        await ended(client.reader)
        client.close()
        [line] = mesh.api.log("connection ended")
        assert line["reason"] == "peer_refused"
        await until(nothing_left(mesh))


async def test_a_connection_that_is_over_is_forgotten_before_its_svid_is() -> None:
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True) as mesh:
        loop = asyncio.get_running_loop()
        armed = 0
        call_later = loop.call_later

        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal armed
            handle = call_later(*args, **kwargs)
            if args[0] > 600:
                armed += 1
                cancel = handle.cancel

                def counted() -> None:
                    nonlocal armed
                    armed -= 1
                    cancel()

                return _Handle(handle, counted)
            return handle

        loop.call_later = counting  # type: ignore[method-assign, assignment]
        try:
            client = await direct(mesh, TCP_PORT)
            await lives(client.reader, client)
            assert armed == 1
            client.close()
            await until(nothing_left(mesh))
            assert armed == 0
        finally:
            del loop.call_later


class _Handle:
    """A timer whose cancellation is seen."""

    def __init__(self, handle: asyncio.TimerHandle, cancel: Callable[[], None]) -> None:
        self._handle = handle
        self.cancel = cancel


# -- policy -----------------------------------------------------------------------------------------------------------


async def test_a_new_policy_ends_exactly_the_newly_denied() -> None:
    rules = (rule("web", ports=[TCP_PORT]), rule("api", API, ports=[TCP_PORT]), *PLAIN)
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True, mode=PERMISSIVE, rules=rules) as mesh:
        web = [await direct(mesh, TCP_PORT) for _ in range(5)]
        api = [await direct(mesh, TCP_PORT, mesh.ca.svid(API)) for _ in range(5)]
        plain = [await mesh.arrive(TCP_PORT) for _ in range(5)]
        everyone: list[tuple[asyncio.StreamReader, Any]] = [*((one.reader, one) for one in (*web, *api)), *plain]
        for reader, writer in everyone:
            await lives(reader, writer)

        endings = mesh.api.recorder.endings
        mesh.enforce(rule("api", API, ports=[TCP_PORT]), *PLAIN[:2])

        assert mesh.api.recorder.endings == endings + 5  # at once: what times a revision looks right after it
        for client in web:
            await ended(client.reader)
        for reader, writer in everyone[5:]:
            await lives(reader, writer)
        denied = mesh.api.log("connection denied")
        assert [(line["reason"], line["peer"]) for line in denied] == [("caller_not_allowed", str(WEB))] * 5

        mesh.enforce(rule("api", API, ports=[TCP_PORT]))

        for reader, _ in plain:
            await ended(reader)
        for reader, writer in everyone[5:10]:
            await lives(reader, writer)
        assert len(mesh.api.inbound.relays) == 5
        for _, writer in everyone:
            writer.close()
        await until(nothing_left(mesh))


async def test_a_websocket_that_is_denied_is_told_so_in_its_own_words() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x02hi")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with serving(serve) as app, Mesh(http_app=app, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        reader, writer = await mesh.arrive(HTTP_PORT)
        writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert await asyncio.wait_for(reader.readexactly(4), 10) == b"\x81\x02hi"
        mesh.enforce(*PLAIN[1:])
        assert await asyncio.wait_for(reader.read(), 10) == b"\x88\x10\x03\xf0policy changed"
        writer.close()
        await until(nothing_left(mesh))


async def test_an_idle_http_client_survives_and_its_next_request_is_judged_by_the_new_policy() -> None:
    async with http_app() as app, Mesh(http_app=app, intercept=True) as mesh:
        client = await direct_http(mesh)
        assert (await client.ask("GET", "/orders/1")).status == 200
        mesh.enforce(rule("fewer", ports=[HTTP_PORT], methods=["POST"], paths=["/orders/{id}"]))
        assert (await client.ask("GET", "/orders/1")).status == 403
        assert (await client.ask("POST", "/orders/1")).status == 200
        client.close()


async def test_a_port_that_becomes_strict_ends_its_plaintext_callers_and_no_others() -> None:
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        plain, known = await mesh.arrive(TCP_PORT), await direct(mesh, TCP_PORT)
        tunnelled = await mesh.dial(("10.96.0.1", TCP_PORT))
        pairs: list[tuple[asyncio.StreamReader, Any]] = [plain, (known.reader, known), tunnelled]
        for reader, writer in pairs:
            await lives(reader, writer)

        mesh.set_mode(PortMode.STRICT)
        mesh.enforce(*PLAIN)

        await ended(plain[0])
        for reader, writer in pairs[1:]:
            await lives(reader, writer)
        [line] = mesh.api.log("connection denied")
        assert (line["reason"], line["peer"]) == ("plaintext_refused", "")

        mesh.set_mode(PERMISSIVE)
        mesh.enforce(*PLAIN)
        for reader, writer in pairs[1:]:
            await lives(reader, writer)
        for _, writer in pairs:
            writer.close()


@pytest.mark.parametrize("port", [HTTP_PORT, TCP_PORT])
async def test_a_connection_is_judged_by_the_ports_of_the_moment_it_is_let_in(port: int) -> None:
    """Between its first and its last message of introduction the port may have become strict, or gone."""
    async with echo_app(b"secret") as app, Mesh(tcp_app=app, http_app=app, intercept=True) as mesh:
        mesh.set_mode(PERMISSIVE)
        mesh.enforce(*PLAIN)
        waiting = await mesh.arrive(port)
        await until(lambda: mesh.api.inbound.direct.open_count == 1)
        mesh.set_mode(PortMode.STRICT)
        mesh.enforce(*PLAIN)
        waiting[1].write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n")
        await refused(waiting[0])
        waiting[1].close()

        reader, writer = await mesh.arrive(port)
        client = DirectClient(reader, writer, mesh.ca.svid(WEB))
        pieces = await client.shake_but_hold()
        mesh.workload = replace(mesh.workload, ports=())
        mesh.enforce(*PLAIN)
        writer.write(pieces)
        client.pump()
        await ended(client.reader)
        client.close()
        assert [line["reason"] for line in mesh.api.log("connection denied")] == [
            "plaintext_refused",
            "not_own_address",
        ]
        await until(nothing_left(mesh))
