"""A call through two sidecars: the permitted arrives with the caller's name, the rest is refused with a reason."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.data_path import API, WEB, HttpClient, Mesh, echo_app, free_port, http_app, rule, until


async def test_a_permitted_request_reaches_the_app_with_the_callers_identity() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        for number in range(3):
            reply = await client.ask("GET", f"/orders/{number}?full=1")
            assert reply.status == 200
        client.close()
        assert len(seen) == 3
        assert seen[2].startswith(b"GET /orders/2?full=1 HTTP/1.1\r\n")
        assert f"URI={WEB}\r\n".encode() in seen[2]
        assert f"By={API};".encode() in seen[2]


@pytest.mark.parametrize("name", ["x-forwarded-client-cert", "X-Forwarded-Client-Cert", "x_forwarded_client_cert"])
async def test_an_identity_header_sent_by_a_client_never_reaches_the_app(name: str) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        await client.ask("GET", "/orders/1", headers=f"{name}: URI=spiffe://shop.example/ns/shop/sa/admin\r\n")
        client.close()
        assert b"admin" not in seen[0]
        assert seen[0].lower().replace(b"_", b"-").count(b"forwarded-client-cert") == 1


@pytest.mark.parametrize(
    ("method", "target", "status", "reason"),
    [
        ("DELETE", "/orders/1", 403, "method_not_allowed"),
        ("GET", "/admin", 403, "path_not_allowed"),
        ("GET", "/orders/..%2fadmin", 403, "path_ambiguous"),
        ("GET", "//admin", 403, "path_ambiguous"),
    ],
)
async def test_a_refused_request_tells_its_reason_and_an_id_that_both_logs_know(
    method: str, target: str, status: int, reason: str
) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask(method, target)
        assert reply.status == status
        told = reply.json()
        assert told.keys() == {"error", "reason", "request_id"}
        assert told["reason"] == reason
        assert (await client.ask("GET", "/orders/1")).status == 200  # the connection lives on
        client.close()
        [here] = mesh.api.log("request denied")
        [there] = mesh.web.log("request denied")
        assert here["request_id"] == there["request_id"] == told["request_id"]
        assert here["reason"] == there["reason"] == reason
        assert here["origin"] == there["origin"] == str(API)
        assert here["peer"] == str(WEB)
        assert len(seen) == 1


async def test_a_stranger_is_refused_in_the_same_words_whatever_it_asks() -> None:
    other = rule("others", API, ports=[8080], paths=["/orders/{id}"])
    async with http_app() as app, Mesh(http_app=app, rules=(other,)) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        replies = [await client.ask("GET", target) for target in ("/orders/1", "/nowhere", "/admin")]
        client.close()
        assert {(reply.status, reply.json()["reason"]) for reply in replies} == {(403, "caller_not_allowed")}
        assert all(b"others" not in reply.body for reply in replies)


async def test_without_any_policy_everything_is_denied() -> None:
    async with http_app() as app, Mesh(http_app=app, rules=()) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1")).status == 403
        client.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        await until(lambda: any(line["protocol"] == "tcp" for line in mesh.web.log("connection ended")))
        [denied] = mesh.api.log("connection denied")
        [ended] = [line for line in mesh.web.log("connection ended") if line["protocol"] == "tcp"]
        assert ended["request_id"] == denied["request_id"]
        assert ended["reason"] == denied["reason"] == "caller_not_allowed"


async def test_opaque_bytes_pass_both_ways_with_half_close_and_a_server_that_speaks_first() -> None:
    async with echo_app(greeting=b"hello\n") as app, Mesh(tcp_app=app) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        assert await asyncio.wait_for(reader.readline(), 10) == b"hello\n"
        blob = bytes(range(256)) * 4096
        writer.write(blob)
        writer.write_eof()
        received = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        assert received == blob + b"bye"
        await until(lambda: len(mesh.api.log("connection ended")) == 1)
        [line] = mesh.api.log("connection ended")
        assert (line["reason"], line["decision"], line["rule"]) == ("closed", "permit", "ledger")
        assert (line["bytes_to_app"], line["bytes_from_app"]) == (len(blob), len(blob) + 9)


async def test_bodies_pass_whole_in_both_framings() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("POST", "/orders/1", body=b"x" * 1_000_000)
        assert reply.status == 200
        client.close()


async def test_an_app_that_does_not_listen_is_an_answer_and_not_a_hang() -> None:
    async with Mesh() as mesh:
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, "app_unreachable")
        client.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readexactly(1), 10)
        writer.close()


async def test_an_upstream_whose_sidecar_is_away_is_an_answer_and_not_a_hang() -> None:
    async with Mesh() as mesh:
        nowhere = replace(mesh.upstreams[0].endpoints[0], mesh_port=free_port())
        gone = [replace(upstream, endpoints=(nowhere,)) for upstream in mesh.upstreams]
        mesh.web.outbound.enforce(gone)
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, "upstream_unreachable")
        client.close()


async def test_an_upstream_that_is_somebody_else_gets_no_byte() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        web = replace(mesh.upstreams[0].endpoints[0], spiffe_id=WEB)
        impostor = [replace(upstream, endpoints=(web,)) for upstream in mesh.upstreams]
        mesh.web.outbound.enforce(impostor)
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, "peer_refused")
        client.close()
        assert ("outbound", "unexpected_peer") in mesh.web.failures
        assert not mesh.api.inbound.relays


async def test_many_connections_share_one_link() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        clients = [await HttpClient.to(mesh.http_listen) for _ in range(50)]
        replies = await asyncio.gather(*(client.ask("GET", f"/orders/{n}") for n, client in enumerate(clients)))
        assert [reply.status for reply in replies] == [200] * 50
        assert len(mesh.web.outbound.pool.links) == 1
        assert len(mesh.api.inbound.relays) == 50
        for client in clients:
            client.close()
        await until(lambda: not len(mesh.api.inbound.relays) and not len(mesh.web.outbound.relays))
        assert not any(link.machine.streams for link in mesh.web.links | mesh.api.links)


async def test_pipelined_requests_are_judged_one_by_one_and_answered_in_order() -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        targets = ["/orders/1", "/admin", "/orders/2", "//x", "/orders/3"]
        client.writer.write(b"".join(b"GET %b HTTP/1.1\r\nhost: api\r\n\r\n" % t.encode() for t in targets))
        statuses = [(await client.reply()).status for _ in targets]
        client.close()
        assert statuses == [200, 403, 200, 403, 200]
