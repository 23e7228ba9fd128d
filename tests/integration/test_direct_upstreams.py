"""Upstreams without a sidecar: web's sidecar dials them by mutual TLS; api's inbound port plays the SPIFFE server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from OpenSSL import SSL

from ringfence.policy.reasons import DenyReason
from ringfence.routing.model import Retries, Route, Timeouts
from ringfence.snapshot import Endpoint, Protocol, Transport
from ringfence.spiffe import ChainVerifier, SpiffeId
from sidecar.http2 import frames as f
from sidecar.http2.literal import encode
from sidecar.http2.reading import LARGEST_ID
from tests.data_path import API, HTTP_PORT, TCP_PORT, WEB, HttpClient, Mesh, echo_app, free_port, http_app, rule, until
from tests.data_path import serving as plain_server
from tests.http2_ends import GRPC
from tests.pki import TestCa
from tests.tls_ends import RawEnd, raw_context


def endpoint(port: int, spiffe_id: SpiffeId = API) -> Endpoint:
    return Endpoint(
        mesh_host="127.0.0.1", mesh_port=port, address="127.0.0.1", spiffe_id=spiffe_id, transport=Transport.DIRECT
    )


def lead(mesh: Mesh, end: Endpoint) -> None:
    """web's upstreams are this endpoint."""
    mesh.web.outbound.enforce([replace(upstream, endpoints=(end,)) for upstream in mesh.upstreams])


@contextlib.asynccontextmanager
async def direct(port: int = HTTP_PORT, **parts: Any) -> AsyncIterator[Mesh]:
    """A mesh whose web dials what serves ``port`` of api by mutual TLS, without tunnel."""
    arrivals = free_port()
    async with Mesh(**parts) as mesh:
        await mesh.api.inbound.direct.intercept(arrivals, lambda _: ("127.0.0.1", port))
        lead(mesh, endpoint(arrivals))
        yield mesh
    await until(lambda: not mesh.web.outbound.direct.open_count and not mesh.api.inbound.direct.open_count)


async def opaque(mesh: Mesh) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)


async def lives(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"ping")
    assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"


async def ended_with(mesh: Mesh, reader: asyncio.StreamReader, reason: str) -> dict[str, Any]:
    """The app's connection ends without a byte; how web's sidecar says so."""
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    await until(lambda: bool(mesh.web.log("connection ended")))
    [line] = mesh.web.log("connection ended")
    assert line["reason"] == reason
    return line


async def test_each_app_connection_is_one_of_its_own_and_ends_with_it() -> None:
    async with http_app() as app, direct(http_app=app) as mesh:
        clients = [await HttpClient.to(mesh.http_listen) for _ in range(3)]
        for client in clients:
            assert (await client.ask("GET", "/orders/1")).status == 200
        assert mesh.web.outbound.direct.open_count == 3
        assert not mesh.web.links
        clients[0].close()
        await until(lambda: mesh.web.outbound.direct.open_count == 2)
        assert (await clients[1].ask("GET", "/orders/1")).status == 200
        denied = await clients[2].ask("DELETE", "/orders/1")
        assert (denied.status, denied.json()["reason"]) == (403, "method_not_allowed")
        for client in clients:
            client.close()


async def test_no_connection_is_made_before_the_app_has_asked() -> None:
    async with http_app() as app, direct(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        await until(lambda: bool(len(mesh.web.outbound.relays)))
        assert not mesh.web.outbound.direct.open_count
        client.close()


async def test_what_the_app_says_and_ends_with_before_the_handshake_is_delivered() -> None:
    async with echo_app() as app, direct(TCP_PORT, tcp_app=app) as mesh:
        reader, writer = await opaque(mesh)
        writer.write(b"all at once")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b"all at once"
        writer.close()


async def test_an_opaque_connection_ends_with_the_svid_that_was_shown_on_it() -> None:
    ca = TestCa("shop.example")
    async with (
        echo_app() as app,
        direct(TCP_PORT, tcp_app=app, ca=ca, web_svid=ca.svid(WEB, lifetime=5.0)) as mesh,
    ):
        reader, writer = await opaque(mesh)
        await lives(reader, writer)
        mesh.web.renew(ca.svid(WEB))
        later = await opaque(mesh)
        await lives(*later)
        line = await ended_with(mesh, reader, DenyReason.IDENTITY_EXPIRED)
        assert line["peer"] == str(API)
        await lives(*later)
        for one in (writer, later[1]):
            one.close()


async def test_http_moves_to_the_new_svid_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.tenure.GRACE_SHARE", 0.3)
    ca = TestCa("shop.example")
    old = ca.svid(WEB, lifetime=5.0)
    async with http_app() as app, direct(http_app=app, ca=ca, web_svid=old) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1")).status == 200
        mesh.web.renew(ca.svid(WEB))
        while mesh.web.clock.now() <= old.not_after:
            assert (await client.ask("GET", "/orders/1")).status == 200
            await asyncio.sleep(0)
        assert (await client.ask("GET", "/orders/1")).status == 200
        client.close()
        # The one that was left, and the one that the app still had.
        await until(lambda: len(mesh.api.log("connection ended")) == 2)
        assert "identity_expired" not in {line["reason"] for line in mesh.api.log("connection ended")}
        assert [line["reason"] for line in mesh.web.log("connection ended")] == ["closed"]


async def test_new_bundles_end_the_servers_that_they_no_longer_vouch_for() -> None:
    async with echo_app() as app, direct(TCP_PORT, tcp_app=app) as mesh:
        reader, writer = await opaque(mesh)
        await lives(reader, writer)
        mesh.web.context.verifier = ChainVerifier([mesh.ca.bundle()])
        mesh.web.outbound.reverify()
        await lives(reader, writer)
        mesh.web.context.verifier = ChainVerifier([TestCa("shop.example").bundle()])
        mesh.web.outbound.reverify()
        await ended_with(mesh, reader, DenyReason.PEER_REFUSED)
        writer.close()


async def test_an_endpoint_that_is_gone_loses_http_between_requests_and_keeps_opaque_streams() -> None:
    async with echo_app() as app, direct(TCP_PORT, tcp_app=app) as mesh:
        reader, writer = await opaque(mesh)
        await lives(reader, writer)
        lead(mesh, endpoint(free_port()))
        await lives(reader, writer)
        writer.close()
    async with http_app() as app, direct(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1")).status == 200
        lead(mesh, endpoint(free_port()))
        await until(lambda: not mesh.api.inbound.direct.open_count)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, DenyReason.UPSTREAM_UNREACHABLE)
        client.close()


async def test_a_server_that_nobody_runs_is_unreachable() -> None:
    async with Mesh() as mesh:
        lead(mesh, endpoint(free_port()))
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, DenyReason.UPSTREAM_UNREACHABLE)
        client.close()
        await until(lambda: not mesh.web.outbound.direct.open_count)


async def test_a_server_that_keeps_silent_is_given_up_when_its_route_says() -> None:
    route = Route(name="shop/api", timeouts=Timeouts(connect_seconds=1.0), retries=Retries(attempts=0))

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with plain_server(silent) as port, Mesh() as mesh:
        ends = (endpoint(port),)
        mesh.web.outbound.enforce([replace(upstream, endpoints=ends, route=route) for upstream in mesh.upstreams])
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (504, DenyReason.UPSTREAM_TIMEOUT)
        [line] = mesh.web.log("handshake refused")
        assert line["detail"] == "no handshake within 1 s"
        client.close()
        await until(lambda: not mesh.web.outbound.direct.open_count)


async def test_an_app_that_leaves_during_the_handshake_leaves_nothing() -> None:
    come = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        come.set()
        await reader.read()
        writer.close()

    async with plain_server(silent) as port:
        async with Mesh() as mesh:
            lead(mesh, endpoint(port))
            _, writer = await opaque(mesh)
            await asyncio.wait_for(come.wait(), 10)
            writer.close()
            await until(lambda: not len(mesh.web.outbound.relays))
        await until(lambda: not mesh.web.outbound.direct.open_count)


async def test_a_server_that_loses_our_trust_during_the_handshake_hears_nothing_and_leaves_nothing() -> None:
    ca = TestCa("shop.example")
    server = TlsServer(raw_context(ca.svid(API), is_client=False))
    come, trusted = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        come.set()
        await trusted.wait()
        await server.serve(reader, writer)

    async with plain_server(slow) as port, Mesh(ca=ca) as mesh:
        lead(mesh, endpoint(port))
        reader, writer = await opaque(mesh)
        writer.write(b"secret")
        await asyncio.wait_for(come.wait(), 10)
        mesh.web.renew(ca.svid(WEB))
        mesh.web.context.verifier = ChainVerifier([TestCa("shop.example").bundle()])
        trusted.set()
        await ended_with(mesh, reader, DenyReason.PEER_REFUSED)
        writer.close()
        await until(lambda: not mesh.web.outbound.direct.open_count)
        assert server.heard == b""
        circuits = [target.balancer.circuit for target in mesh.web.outbound.targets]
        assert [(circuit.pending, circuit.connections) for circuit in circuits] == [(0, 0)] * len(circuits)


async def test_a_call_that_is_late_before_there_is_a_connection_is_cancelled_on_it() -> None:
    ca = TestCa("shop.example")
    server = TlsServer(raw_context(ca.svid(API), is_client=False))
    late = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await late.wait()
        await server.serve(reader, writer)

    async with plain_server(slow) as port, Mesh(ca=ca, http=Protocol.GRPC) as mesh:
        lead(mesh, endpoint(port))
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.http_listen)
        call = encode([*GRPC, (b"grpc-timeout", b"50m")])
        writer.write(f.PREFACE + f.settings({}) + f.header_frames(1, call, end=False, limit_bytes=1 << 14))
        await asyncio.wait_for(reader.readuntil(b"request_timeout"), 10)
        writer.write(f.ping(b"are here"))
        late.set()
        await until(lambda: f.ping(b"are here") in server.heard)
        assert f.rst_stream(1, f.CANCEL) in server.heard
        writer.close()


async def test_an_endpoint_that_goes_during_the_handshake_gets_no_more_calls_than_wait_for_it() -> None:
    ca = TestCa("shop.example")
    server = TlsServer(raw_context(ca.svid(API), is_client=False))
    come, gone = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        come.set()
        await gone.wait()
        await server.serve(reader, writer)

    async with plain_server(slow) as port, Mesh(ca=ca, http=Protocol.GRPC) as mesh:
        lead(mesh, endpoint(port))
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.http_listen)
        writer.write(f.PREFACE + f.settings({}) + f.header_frames(1, encode(GRPC), end=False, limit_bytes=1 << 14))
        await asyncio.wait_for(come.wait(), 10)
        lead(mesh, endpoint(free_port()))
        gone.set()
        goaway = f.goaway(LARGEST_ID, f.NO_ERROR)
        assert await asyncio.wait_for(reader.readuntil(goaway), 10)
        writer.close()


class TlsServer:
    """A server of any pyOpenSSL context, which counts what it is told in the app's words."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = RawEnd(self._context, is_client=False)
        with contextlib.suppress(SSL.Error, ConnectionError):
            while data := await reader.read(65536):
                self.heard += end.receive(data)
                writer.write(end.outgoing())
        writer.close()


def rogue(ca: TestCa, kind: str) -> SSL.Context:
    match kind:
        case "another authority":
            return raw_context(TestCa("shop.example").svid(API), is_client=False)
        case "another service":
            return raw_context(ca.svid(WEB), is_client=False)
        case "two identities":
            return raw_context(ca.svid(API, uris=[str(API), str(WEB)]), is_client=False)
        case "expired":
            return raw_context(ca.svid(API, not_before=-7200, lifetime=-3600), is_client=False)
        case "TLS 1.2":
            return raw_context(ca.svid(API), is_client=False, version=SSL.TLS1_2_VERSION)
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["another authority", "another service", "two identities", "expired", "TLS 1.2"])
@pytest.mark.parametrize("opaque_port", [False, True])
async def test_a_server_that_does_not_prove_to_be_the_one_meant_hears_not_a_byte(kind: str, opaque_port: bool) -> None:
    ca = TestCa("shop.example")
    server = TlsServer(rogue(ca, kind))
    async with plain_server(server.serve) as port, Mesh(ca=ca) as mesh:
        lead(mesh, endpoint(port))
        if opaque_port:
            reader, writer = await opaque(mesh)
            writer.write(b"secret")
            await ended_with(mesh, reader, DenyReason.PEER_REFUSED)
            writer.close()
        else:
            client = await HttpClient.to(mesh.http_listen)
            reply = await client.ask("POST", "/orders/1", body=b"secret")
            assert (reply.status, reply.json()["reason"]) == (502, DenyReason.PEER_REFUSED)
            client.close()
        assert server.heard == b""
        assert [direction for direction, _ in mesh.web.failures] == ["outbound"]


async def test_a_server_that_speaks_plaintext_hears_not_a_byte() -> None:
    heard = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            heard = await reader.read()
        writer.close()

    async with plain_server(serve) as port, Mesh() as mesh:
        lead(mesh, endpoint(port))
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("POST", "/orders/1", body=b"secret")
        assert (reply.status, reply.json()["reason"]) == (502, DenyReason.PLAINTEXT_REFUSED)
        client.close()
    assert b"secret" not in heard


async def test_a_server_that_refuses_our_svid_is_told_apart_from_one_that_fails() -> None:
    async with http_app() as app, direct(http_app=app, rules=(rule("all", WEB),)) as mesh:
        mesh.api.tls.verifier = ChainVerifier([TestCa("shop.example").bundle()])
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, DenyReason.PEER_REFUSED)
        client.close()
        assert ("outbound", "peer_alert") in mesh.web.failures
