"""Callers without a tunnel at the redirected inbound port: SPIFFE peers by mutual TLS, plaintext where permitted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from OpenSSL import SSL

from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import PortMode, Protocol
from ringfence.spiffe import ChainVerifier, X509Svid
from tests.data_path import (
    API,
    HTTP_PORT,
    TCP_PORT,
    WEB,
    Connection,
    HttpClient,
    Mesh,
    echo_app,
    http_app,
    plaintext_rule,
    rule,
    serving,
    until,
)
from tests.pki import TestCa
from tests.redirected import DirectClient, reset

PERMISSIVE = PortMode.PERMISSIVE
PLAIN = (
    plaintext_rule("plain orders", ports=[HTTP_PORT], methods=["GET"], paths=["/orders/{id}"]),
    plaintext_rule("plain ledger", ports=[TCP_PORT]),
    rule("web ledger", ports=[TCP_PORT]),
)


@pytest.fixture(autouse=True)
def silence_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a busy machine makes of a caller that speaks at once is not a caller that waits for the server to speak."""
    monkeypatch.setattr("sidecar.arrival.SERVER_FIRST_SECONDS", 1.0)


async def direct(mesh: Mesh, port: int, svid: X509Svid | None = None, **context: Any) -> DirectClient:
    """A SPIFFE client, web by default, on a TLS connection to a port of api."""
    return await DirectClient.over(await mesh.arrive(port), svid or mesh.ca.svid(WEB), **context)


async def direct_http(mesh: Mesh, svid: X509Svid | None = None, **context: Any) -> HttpClient:
    client = await direct(mesh, HTTP_PORT, svid, **context)
    return HttpClient(client.reader, client)  # type: ignore[arg-type]


async def ended(reader: asyncio.StreamReader) -> None:
    """The connection ends, in whatever way, without a byte."""
    with contextlib.suppress(ConnectionError, SSL.Error):
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def refused(reader: asyncio.StreamReader) -> None:
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(1), 10)


async def lives(reader: asyncio.StreamReader, writer: Any) -> None:
    writer.write(b"ping")
    assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"


def nothing_left(mesh: Mesh) -> Callable[[], bool]:
    return lambda: not len(mesh.api.inbound.relays) and not mesh.api.inbound.direct.open_count


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


# -- without an identity ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [HTTP_PORT, TCP_PORT])
async def test_plaintext_to_a_strict_port_is_reset_logged_and_counted_whatever_the_rules_say(port: int) -> None:
    async with echo_app(b"secret") as app, Mesh(tcp_app=app, http_app=app, intercept=True, rules=PLAIN) as mesh:
        reader, writer = await mesh.arrive(port)
        writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n")
        await refused(reader)
        writer.close()
        [line] = mesh.api.log("connection denied")
        assert (line["reason"], line["port"]) == ("plaintext_refused", port)
        assert line["remote"] == "127.0.0.1:{}".format(writer.get_extra_info("sockname")[1])
        assert mesh.api.metrics.denials.at("inbound", "", "shop/api", "plaintext_refused").value == 1
        assert not mesh.api.metrics.plaintext.table
        await until(nothing_left(mesh))


async def test_plaintext_requests_need_a_rule_that_says_so_and_have_no_identity() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        client = HttpClient(*await mesh.arrive(HTTP_PORT))
        forged = f"x-forwarded-client-cert: URI={WEB}\r\n"
        assert (await client.ask("GET", "/orders/1", headers=forged)).status == 200
        reply = await client.ask("POST", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (403, "method_not_allowed")
        client.close()
        assert b"spiffe" not in seen[0]
        assert mesh.api.metrics.plaintext.at("shop/api", str(HTTP_PORT), "127.0.0.1").value == 1
        mesh.enforce(rule("orders", ports=[HTTP_PORT]))
        client = HttpClient(*await mesh.arrive(HTTP_PORT))
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (403, "unauthenticated")
        client.close()
        assert len(seen) == 1
        assert mesh.api.metrics.plaintext.at("shop/api", str(HTTP_PORT), "127.0.0.1").value == 2


async def test_plaintext_to_an_opaque_port_needs_a_rule_that_says_so() -> None:
    async with echo_app(b"hello") as app, Mesh(tcp_app=app, intercept=True, mode=PERMISSIVE) as mesh:
        reader, writer = await mesh.arrive(TCP_PORT)
        writer.write(b"x")
        await ended(reader)
        writer.close()
        [line] = mesh.api.log("connection denied")
        assert (line["reason"], line["peer"]) == ("unauthenticated", "")
        assert line["remote"] == "127.0.0.1:{}".format(writer.get_extra_info("sockname")[1])
        await until(nothing_left(mesh))
        mesh.enforce(*PLAIN)
        reader, writer = await mesh.arrive(TCP_PORT)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(6), 10) == b"hellox"
        writer.close()
        await until(nothing_left(mesh))


async def test_a_server_may_speak_first_to_a_plaintext_caller() -> None:
    async with (
        echo_app(b"220 ready\r\n") as app,
        Mesh(tcp_app=app, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh,
    ):
        reader, writer = await mesh.arrive(TCP_PORT)
        assert await asyncio.wait_for(reader.readline(), 10) == b"220 ready\r\n"
        writer.write(b"QUIT\r\n")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b"QUIT\r\nbye"
        writer.close()
        await until(nothing_left(mesh))
        assert mesh.api.log("connection ended")[0]["reason"] == "closed"


async def test_a_caller_that_has_nothing_to_say_and_says_so_at_once_is_served() -> None:
    async with (
        echo_app(b"the time\r\n") as app,
        Mesh(tcp_app=app, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh,
    ):
        reader, writer = await mesh.arrive(TCP_PORT)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b"the time\r\nbye"
        writer.close()
        await until(nothing_left(mesh))


async def test_a_plaintext_caller_has_a_header_of_the_proxy_protocol_without_identity() -> None:
    async with (
        echo_app() as app,
        Mesh(tcp_app=app, intercept=True, mode=PERMISSIVE, rules=PLAIN, proxy_protocol=True) as mesh,
    ):
        reader, writer = await mesh.arrive(TCP_PORT)
        writer.write(b"first")
        head = await asyncio.wait_for(reader.readexactly(16), 10)
        assert head[14:16] == b"\0\x0c"  # two addresses and two ports, nothing behind them
        body = await asyncio.wait_for(reader.readexactly(12), 10)
        assert body[:4] == body[4:8] == socket.inet_aton("127.0.0.1")
        assert int.from_bytes(body[8:10], "big") == writer.get_extra_info("sockname")[1]
        assert await asyncio.wait_for(reader.readexactly(5), 10) == b"first"
        writer.close()


async def test_a_port_that_is_not_the_workloads_is_refused() -> None:
    async with Mesh(intercept=True, mode=PERMISSIVE) as mesh:
        for port in (None, 1):
            reader, writer = await mesh.arrive(port)
            await refused(reader)
            writer.close()
        assert [line["reason"] for line in mesh.api.log("connection denied")] == ["not_own_address"] * 2


# -- apps that are down, and slow ends --------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [True, False])
async def test_a_request_to_an_app_that_is_down_is_answered(tls: bool) -> None:
    async with Mesh(intercept=True, mode=PERMISSIVE, rules=(*PLAIN, rule("web", ports=[HTTP_PORT]))) as mesh:
        client = await direct_http(mesh) if tls else HttpClient(*await mesh.arrive(HTTP_PORT))
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, "app_unreachable")
        assert reply.headers["connection"] == "close"
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
        client.close()
        await until(nothing_left(mesh))
        [ended_line] = mesh.api.log("connection ended")
        assert ended_line["reason"] == "app_unreachable"


async def test_a_forbidden_request_to_an_app_that_is_down_is_answered_too() -> None:
    async with Mesh(intercept=True) as mesh:
        client = await direct_http(mesh)
        await until(lambda: any(getattr(relay, "_unavailable", None) for relay, _ in mesh.api.inbound.relays))
        reply = await client.ask("DELETE", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (403, "method_not_allowed")
        client.writer.write(b"GET /admin HTTP/1.1\r\nhost: api\r\n\r\nGET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n")
        assert [(await client.reply()).status for _ in range(2)] == [403, 502]
        client.close()
        await until(nothing_left(mesh))


async def test_an_upload_to_an_app_that_is_down_gets_its_answer_although_the_client_goes_on_sending() -> None:
    async with Mesh(intercept=True, mode=PERMISSIVE, rules=(plaintext_rule("all"),)) as mesh:
        client = HttpClient(*await mesh.arrive(HTTP_PORT))
        client.writer.write(b"PUT /orders/1 HTTP/1.1\r\nhost: api\r\ncontent-length: 10000000\r\n\r\n")
        for _ in range(8):
            client.writer.write(bytes(65536))
            await asyncio.sleep(0.001)
        reply = await client.reply()
        assert (reply.status, reply.json()["reason"]) == (502, "app_unreachable")
        client.close()
        await until(nothing_left(mesh))


async def test_a_client_that_asks_nothing_of_an_app_that_is_down_leaves_nothing_behind() -> None:
    async with Mesh(intercept=True) as mesh:
        client = await direct(mesh, HTTP_PORT)
        await until(lambda: len(mesh.api.inbound.relays) == 1)
        await until(lambda: any(getattr(relay, "_unavailable", None) for relay, _ in mesh.api.inbound.relays))
        client.half_close()
        await ended(client.reader)
        client.close()
        await until(nothing_left(mesh))


@pytest.mark.parametrize("tls", [True, False])
async def test_opaque_bytes_to_an_app_that_is_down_are_reset(tls: bool) -> None:
    async with Mesh(intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        reader, writer = pair = await mesh.arrive(TCP_PORT)
        if tls:
            reader = (await DirectClient.over(pair, mesh.ca.svid(WEB))).reader
        else:
            writer.write(b"x")
        await refused(reader)
        writer.close()
        await until(nothing_left(mesh))


@pytest.mark.parametrize("tls", [True, False])
async def test_a_malformed_request_gets_its_answer_although_more_follows(tls: bool) -> None:
    async with http_app() as app, Mesh(http_app=app, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        client = await direct_http(mesh) if tls else HttpClient(*await mesh.arrive(HTTP_PORT))
        client.writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\nhost: b\r\n\r\n" + bytes(200_000))
        reply = await client.reply()
        assert reply.status == 400
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
        client.close()
        await until(nothing_left(mesh))


async def test_a_truncated_tls_stream_is_never_taken_for_a_whole_one() -> None:
    heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.set_result(await reader.read())
        except ConnectionError as error:
            heard.set_result(error)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Mesh(tcp_app=server.sockets[0].getsockname()[1], intercept=True) as mesh:
        pair = await mesh.arrive(TCP_PORT)
        client = await DirectClient.over(pair, mesh.ca.svid(WEB))
        client.write(b"half of it")
        pair[1].write_eof()  # without close_notify
        assert isinstance(await asyncio.wait_for(heard, 10), ConnectionResetError)
        client.close()
        await until(nothing_left(mesh))
    server.close()


async def _still(read: Callable[[], int]) -> int:
    """The value once it has stood still for a while."""
    before, same = read(), 0
    while same < 40:
        await asyncio.sleep(0.005)
        before, same = (before, same + 1) if read() == before else (read(), 0)
    return before


@pytest.mark.parametrize("tls", [True, False])
async def test_a_slow_caller_holds_back_the_app_and_a_slow_app_the_caller(tls: bool) -> None:
    total = 48 * 1024 * 1024
    sent = taken = 0
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent, taken
        with contextlib.suppress(ConnectionError):
            while sent < total:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
            await gate.wait()
            while data := await reader.read(65536):
                taken += len(data)
            writer.write(b"!")
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Mesh(tcp_app=port, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        pair: Connection = await mesh.arrive(TCP_PORT)
        reader: asyncio.StreamReader
        writer: Any
        reader, writer = pair
        if tls:
            client = await DirectClient.over(pair, mesh.ca.svid(WEB), reading=False)
            reader, writer = client.reader, client
        assert await _still(lambda: sent) < total // 2
        if tls:
            client.pump()
        assert len(await asyncio.wait_for(reader.readexactly(total), 60)) == total
        written = 0

        async def upload() -> None:
            nonlocal written
            while written < total:
                writer.write(bytes(65536))
                await writer.drain()
                written += 65536

        task = asyncio.ensure_future(upload())
        assert await _still(lambda: written) < total // 2
        gate.set()
        await asyncio.wait_for(task, 60)
        (client.half_close if tls else writer.write_eof)()
        assert await asyncio.wait_for(reader.read(), 30) == b"!"
        assert taken == total
        writer.close()
        await until(nothing_left(mesh))
    server.close()


async def test_a_caller_that_never_reads_its_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.relay.CLOSE_SECONDS", 0.2)
    blob = bytes(32 * 1024 * 1024)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(blob)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Mesh(tcp_app=port, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        reader, writer = await mesh.arrive(TCP_PORT)
        reader._limit = 1  # type: ignore[attr-defined]  # its buffer takes next to nothing
        writer.write(b"x")
        await until(lambda: any(not relay.stream.writable for relay, _ in mesh.api.inbound.relays if relay.stream))
        mesh.enforce(PLAIN[0])
        await until(nothing_left(mesh))
        writer.close()
    server.close()


@pytest.mark.parametrize("tls", [True, False])
async def test_a_drain_ends_direct_callers(tls: bool) -> None:
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True, mode=PERMISSIVE, rules=PLAIN) as mesh:
        reader, writer = pair = await mesh.arrive(TCP_PORT)
        if tls:
            client = await DirectClient.over(pair, mesh.ca.svid(WEB))
            reader, writer = client.reader, client  # type: ignore[assignment]
        await lives(reader, writer)
        await mesh.api.inbound.close(0.0)
        await ended(reader)
        writer.close()
        await until(nothing_left(mesh))
        assert mesh.api.log("connection ended")[0]["reason"] == DenyReason.DRAINING
