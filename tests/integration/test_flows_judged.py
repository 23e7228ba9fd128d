"""Which calls become flows, on real connections: each that is judged, once, in the words of its protocol."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest

from ringfence.snapshot import PortMode, Protocol
from tests.data_path import HTTP_PORT, TCP_PORT, WEB, HttpClient, Mesh, echo_app, http_app, rule, until
from tests.integration.test_grpc_calls import ECHO, Echo, channel, grpc_app

Counted = dict[tuple[str, int, str, str, str, str, str], tuple[int, int]]


def counted(mesh: Mesh) -> Counted:
    """(caller, port, protocol, method, path, verdict, reason): calls and misses, since this was asked last."""
    found: Counted = {}
    for flows, rows in mesh.api.recorder.flows.take()[0]:
        for row in rows:
            key = row.key
            words = (flows.caller, flows.port, flows.protocol, key.method, key.path, key.verdict.value, key.reason)
            found[words] = (row.count, row.missed)
    return found


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.AUTO])
async def test_requests_of_http1_are_counted_with_what_the_app_does_not_know(protocol: Protocol) -> None:
    reads = rule("reads", ports=[HTTP_PORT], methods=["GET"])
    async with http_app() as app, Mesh(http=protocol, http_app=app, rules=(reads,)) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        for path in ("/orders/1", "/orders/2", "/status/404"):
            await client.ask("GET", path)
        await client.ask("DELETE", "/orders/1")
        client.close()
        where = (str(WEB), HTTP_PORT, "http")
        await until(lambda: not mesh.api.inbound.relays)
        found = counted(mesh)
    assert {key: value[0] for key, value in found.items()} == {
        (*where, "GET", "/orders/{id}", "permit", ""): 2,
        (*where, "GET", "/status/{id}", "permit", ""): 1,
        (*where, "DELETE", "/orders/{id}", "deny", "method_not_allowed"): 1,
    }


@pytest.mark.parametrize("protocol", [Protocol.GRPC, Protocol.HTTP2, Protocol.AUTO])
async def test_grpc_calls_are_counted_by_their_method_also_those_that_there_are_not(protocol: Protocol) -> None:
    async with (
        grpc_app(Echo()) as app,
        Mesh(http=protocol, http_app=app, rules=(ECHO,)) as mesh,
        channel(mesh) as to,
    ):
        for _ in range(3):
            await to.unary_unary("/test.Echo/One")(b"abc", timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to.unary_unary("/test.Echo/Nothing2024And25")(b"abc", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.aio.AioRpcError):
            await to.unary_unary("/test.Admin/One")(b"abc", timeout=10)
        found = counted(mesh)
    where = (str(WEB), HTTP_PORT, "grpc", "POST")
    assert found == {
        (*where, "/test.Echo/One", "permit", ""): (3, 0),
        (*where, "/test.Echo/Nothing2024And25", "permit", ""): (1, 1),
        (*where, "/test.Admin/One", "deny", "path_not_allowed"): (1, 0),
    }


async def test_a_call_is_counted_when_it_is_judged_and_not_when_it_ends() -> None:
    async with (
        grpc_app(Echo()) as app,
        Mesh(http=Protocol.GRPC, http_app=app, rules=(ECHO,)) as mesh,
        channel(mesh) as to,
    ):
        call = to.stream_stream("/test.Echo/Chat")(timeout=30)
        await call.write(b"hello")
        assert await call.read() == b"HELLO"
        assert list(counted(mesh).values()) == [(1, 0)]
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
        assert counted(mesh) == {}


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.AUTO])
async def test_connections_that_nobody_reads_are_counted_once_even_if_ended_later(
    protocol: Protocol,
) -> None:
    async with echo_app() as app, Mesh(tcp=protocol, tcp_app=app) as mesh:
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
            writer.write(b"\x00\x01hello")
            assert await reader.readexactly(7) == b"\x00\x01hello"
            writer.close()
        assert counted(mesh) == {(str(WEB), TCP_PORT, "tcp", "", "", "permit", ""): (2, 0)}
        mesh.enforce(rule("other", ports=[HTTP_PORT]))
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        writer.write(b"\x00\x01hello")
        assert await reader.read() == b""
        writer.close()
        found = counted(mesh)
    assert found == {(str(WEB), TCP_PORT, "tcp", "", "", "deny", "port_not_allowed"): (1, 0)}


async def test_the_calling_side_counts_nothing_of_its_own_calls() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        await client.ask("GET", "/orders")
        client.close()
        assert mesh.web.recorder.flows.empty
        assert not mesh.api.recorder.flows.empty


async def test_callers_without_identity_are_counted_as_that() -> None:
    async with http_app() as app, Mesh(http_app=app, intercept=True, mode=PortMode.PERMISSIVE) as mesh:
        reader, writer = await mesh.arrive(HTTP_PORT)
        writer.write(b"GET /orders HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")
        assert b" 403 " in await reader.readline()
        writer.close()
        assert list(counted(mesh)) == [("", HTTP_PORT, "http", "GET", "/orders", "deny", "unauthenticated")]


async def test_plaintext_that_a_strict_port_refuses_is_counted_too() -> None:
    async with http_app() as app, Mesh(http_app=app, intercept=True) as mesh:
        reader, writer = await mesh.arrive(HTTP_PORT)
        writer.write(b"GET /orders HTTP/1.1\r\nhost: api\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        assert list(counted(mesh)) == [("", HTTP_PORT, "tcp", "", "", "deny", "plaintext_refused")]
