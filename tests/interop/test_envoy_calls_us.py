"""Envoy, without a sidecar of its own, calls a service behind ours by mutual TLS; both SVIDs are of our own CA."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ringfence.snapshot import Protocol
from ringfence.spiffe import SpiffeId, X509Svid
from tests.data_path import API, HTTP_PORT, TCP_PORT, WEB, HttpClient, Mesh, echo_app, free_port, http_app, rule, until
from tests.integration.test_grpc_calls import ECHO, Echo, feed, grpc_app
from tests.interop.envoy import calling
from tests.interop.joined import Joined
from tests.pki import TestCa


@contextlib.asynccontextmanager
async def envoy_to(
    mesh: Mesh, folder: Path, protocol: str, *, svid: X509Svid | None = None, expected: SpiffeId = API
) -> AsyncIterator[int]:
    """Envoy with web's SVID, whose connections arrive at api as if redirected from the port of that protocol."""
    destination = ("127.0.0.1", TCP_PORT if protocol == "tcp" else HTTP_PORT)
    arrivals = free_port()
    await mesh.api.inbound.direct.intercept(arrivals, lambda _: destination)
    identity: dict[str, Any] = {"svid": svid or mesh.ca.svid(WEB), "bundle": mesh.ca.bundle(), "expected": expected}
    async with calling(folder, protocol, arrivals, **identity) as port:
        yield port


async def test_requests_are_judged_by_envoys_identity_and_the_app_told(tmp_path: Path, joined: Joined) -> None:
    seen: list[bytes] = []
    async with (
        http_app(seen) as app,
        Mesh(http_app=app, ca=joined) as mesh,
        envoy_to(mesh, tmp_path, "http") as port,
    ):
        client = await HttpClient.to(port)
        assert (await client.ask("GET", "/orders/1")).status == 200
        denied = await client.ask("DELETE", "/orders/1")
        assert (denied.status, denied.json()["reason"]) == (403, "method_not_allowed")
        assert (await client.ask("POST", "/orders/2", body=b"x" * 300_000)).status == 200
        client.close()
        assert len(seen) == 2
        assert all(head.count(f"By={API};".encode()) == head.count(f"URI={WEB}\r\n".encode()) == 1 for head in seen)
        assert mesh.api.log("request denied")[0]["peer"] == str(WEB)


async def test_a_new_policy_reaches_envoys_connections(tmp_path: Path) -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh, envoy_to(mesh, tmp_path, "http") as port:
        client = await HttpClient.to(port)
        assert (await client.ask("GET", "/orders/1")).status == 200
        mesh.enforce(rule("others", API, ports=[HTTP_PORT]))
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (403, "caller_not_allowed")
        client.close()


async def test_opaque_bytes_pass_both_ways_with_half_close(tmp_path: Path, joined: Joined) -> None:
    async with (
        echo_app(greeting=b"hello\n") as app,
        Mesh(tcp_app=app, ca=joined) as mesh,
        envoy_to(mesh, tmp_path, "tcp") as port,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.readline(), 10) == b"hello\n"
        blob = bytes(range(256)) * 4096
        writer.write(blob)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 20) == blob + b"bye"
        writer.close()
        await until(lambda: not len(mesh.api.inbound.relays))
        [line] = mesh.api.log("connection ended")
        assert (line["peer"], line["decision"], line["reason"]) == (str(WEB), "permit", "closed")


async def test_grpc_calls_of_every_kind_pass_and_a_forbidden_one_is_told_in_its_words(
    tmp_path: Path, joined: Joined
) -> None:
    echo = Echo()
    async with (
        grpc_app(echo) as app,
        Mesh(http=Protocol.GRPC, http_app=app, rules=(ECHO,), ca=joined) as mesh,
        envoy_to(mesh, tmp_path, "http2") as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as to,
    ):
        assert await to.unary_unary("/test.Echo/One")(b"abc", timeout=20) == b"cba"
        assert len([piece async for piece in to.unary_stream("/test.Echo/Many")(b"x", timeout=20)]) == 100
        assert (await to.stream_unary("/test.Echo/Gather")(feed(50), timeout=20)).count(b";") == 50
        assert len([piece async for piece in to.stream_stream("/test.Echo/Chat")(feed(20), timeout=20)]) == 20
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await to.unary_unary("/test.Admin/One")(b"abc", timeout=20)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert len(echo.callers) == 4
        assert all(f"URI={WEB}" in caller for caller in echo.callers)


async def test_an_envoy_of_another_authority_gets_no_byte(tmp_path: Path) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        async with envoy_to(mesh, tmp_path, "http", svid=TestCa("shop.example").svid(WEB)) as port:
            client = await HttpClient.to(port)
            assert (await client.ask("GET", "/orders/1")).status == 503
            client.close()
        assert ("inbound", "untrusted") in mesh.api.failures
        assert not seen


async def test_an_envoy_that_expects_somebody_else_leaves(tmp_path: Path) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        async with envoy_to(mesh, tmp_path, "http", expected=WEB) as port:
            client = await HttpClient.to(port)
            assert (await client.ask("GET", "/orders/1")).status == 503
            client.close()
        assert ("inbound", "peer_alert") in mesh.api.failures
        assert not seen


async def test_an_envoy_whose_svid_ends_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is drained between requests, so that none of them fails; it has no newer SVID here, so that once
    the old one is over it is refused."""
    monkeypatch.setattr("sidecar.tenure.GRACE_SHARE", 0.7)
    async with http_app() as app, Mesh(http_app=app) as mesh:
        svid = mesh.ca.svid(WEB, lifetime=10.0)
        async with envoy_to(mesh, tmp_path, "http", svid=svid) as port:
            client = await HttpClient.to(port)
            while not mesh.api.log("connection ended"):
                assert (await client.ask("GET", "/orders/1")).status == 200
            assert (await client.ask("GET", "/orders/1")).status == 200
            await until(lambda: mesh.api.clock.now() > svid.not_after, 20)
            assert (await client.ask("GET", "/orders/1")).status == 503
            client.close()
        assert ("inbound", "expired") in mesh.api.failures
