"""Our sidecar calls a service that has none: Envoy before an app, which takes mutual TLS from web alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Endpoint, Protocol, Transport
from ringfence.spiffe import SpiffeId
from tests.data_path import API, WEB, HttpClient, Mesh, echo_app, http_app, until
from tests.integration.test_grpc_calls import Echo, feed, grpc_app
from tests.interop.envoy import serving
from tests.interop.joined import Joined

OTHER = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/other")


@contextlib.asynccontextmanager
async def envoy_before(
    app: int,
    folder: Path,
    protocol: str,
    joined: Joined,
    *,
    server: SpiffeId = API,
    admits: SpiffeId = WEB,
    http: Protocol = Protocol.HTTP,
) -> AsyncIterator[Mesh]:
    """web's sidecar, whose upstreams are Envoy's port, where ``api`` must answer; Envoy is ``server``."""
    identity: dict[str, Any] = {"svid": joined.svid(server), "bundle": joined.bundle(), "expected": admits}
    async with serving(folder, protocol, app, **identity) as port, Mesh(ca=joined, http=http) as mesh:
        end = Endpoint(
            mesh_host="127.0.0.1", mesh_port=port, address="127.0.0.1", spiffe_id=API, transport=Transport.DIRECT
        )
        mesh.web.outbound.enforce([replace(upstream, endpoints=(end,)) for upstream in mesh.upstreams])
        yield mesh
    await until(lambda: not mesh.web.outbound.direct.open_count)


async def test_requests_of_http_1_pass_on_one_connection(tmp_path: Path, joined: Joined) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, envoy_before(app, tmp_path, "http", joined) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        for number in range(3):
            assert (await client.ask("GET", f"/orders/{number}")).status == 200
        assert (await client.ask("POST", "/orders/9", body=b"x" * 300_000)).status == 200
        assert mesh.web.outbound.direct.open_count == 1
        client.close()
        assert [head.split(b" ")[1] for head in seen] == [b"/orders/0", b"/orders/1", b"/orders/2", b"/orders/9"]
        await until(lambda: not len(mesh.web.outbound.relays))
        [line] = mesh.web.log("connection ended")
        assert (line["peer"], line["requests"], line["reason"]) == (str(API), 4, "closed")


async def test_grpc_calls_of_every_kind_pass(tmp_path: Path, joined: Joined) -> None:
    echo = Echo()
    async with (
        grpc_app(echo) as app,
        envoy_before(app, tmp_path, "http2", joined, http=Protocol.GRPC) as mesh,
        grpc.aio.insecure_channel(f"127.0.0.1:{mesh.http_listen}") as to,
    ):
        assert await to.unary_unary("/test.Echo/One")(b"abc", timeout=20) == b"cba"
        assert len([piece async for piece in to.unary_stream("/test.Echo/Many")(b"x", timeout=20)]) == 100
        assert (await to.stream_unary("/test.Echo/Gather")(feed(50), timeout=20)).count(b";") == 50
        assert len([piece async for piece in to.stream_stream("/test.Echo/Chat")(feed(20), timeout=20)]) == 20
        assert mesh.web.outbound.direct.open_count == 1


async def test_opaque_bytes_pass_and_the_server_may_speak_first(tmp_path: Path, joined: Joined) -> None:
    async with echo_app(greeting=b"hello\n") as app, envoy_before(app, tmp_path, "tcp", joined) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        assert await asyncio.wait_for(reader.readline(), 10) == b"hello\n"
        blob = bytes(range(256)) * 4096
        writer.write(blob)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 20) == blob + b"bye"
        writer.close()
        await until(lambda: not len(mesh.web.outbound.relays))
        [line] = mesh.web.log("connection ended")
        assert (line["peer"], line["reason"]) == (str(API), "closed")


async def test_an_envoy_with_another_identity_gets_no_byte(tmp_path: Path, joined: Joined) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, envoy_before(app, tmp_path, "http", joined, server=WEB) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, DenyReason.PEER_REFUSED)
        client.close()
        assert ("outbound", "unexpected_peer") in mesh.web.failures
        assert not seen


async def test_a_refusal_by_envoy_is_told_with_its_reason(tmp_path: Path, joined: Joined) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, envoy_before(app, tmp_path, "http", joined, admits=OTHER) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, DenyReason.PEER_REFUSED)
        client.close()
        assert ("outbound", "peer_alert") in mesh.web.failures
        [line] = mesh.web.log("handshake refused")
        assert (line["reason"], line["detail"]) == ("peer_alert", "certificate_unknown")
        assert not seen


async def test_a_refusal_by_envoy_ends_an_opaque_connection_with_its_reason(tmp_path: Path, joined: Joined) -> None:
    async with echo_app(greeting=b"secret") as app, envoy_before(app, tmp_path, "tcp", joined, admits=OTHER) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        await until(lambda: bool(mesh.web.log("connection ended")))
        assert mesh.web.log("connection ended")[0]["reason"] == DenyReason.PEER_REFUSED
