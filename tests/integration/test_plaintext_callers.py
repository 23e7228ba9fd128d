"""Callers without an identity at the redirected inbound port: refused, or permitted by a rule that says so."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.data_path import HTTP_PORT, TCP_PORT, WEB, HttpClient, Mesh, echo_app, http_app, rule, until
from tests.direct_callers import PERMISSIVE, PLAIN, ended, nothing_left, refused

pytestmark = pytest.mark.usefixtures("patient_arrivals")


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
