"""The forward proxy on loopback: where it leads, where it does not, and what it says then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from ringfence.policy.compile import compile_policy
from ringfence.policy.model import Allowlist, PolicySet
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import EgressRule, Protocol
from sidecar.http1.outstanding import OUTSTANDING_LIMIT
from tests.data_path import HTTP_PORT, TCP_PORT, HttpClient, Mesh, Reply, echo_app, free_port, http_app, rule, until
from tests.data_path import serving as plain_server
from tests.integration.test_grpc_calls import ECHO, Echo, grpc_app

TO_LOOPBACK = EgressRule(name="near", cidrs=("127.0.0.0/8",), hosts=("localhost",))


class Proxied:
    """A mesh whose web is a proxy to its app."""

    def __init__(self, mesh: Mesh, port: int) -> None:
        self.mesh = mesh
        self.port = port

    async def client(self) -> HttpClient:
        return await HttpClient.to(self.port)

    async def connect(self, authority: str, fields: str = "") -> tuple[HttpClient, Reply]:
        """A client, and what its CONNECT was answered; after 200 it speaks to the other end."""
        client = await self.client()
        client.writer.write(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{fields}\r\n".encode())
        return client, await client.reply()

    @property
    def told(self) -> list[tuple[str, str]]:
        """Reason and destination of each connection that was denied here."""
        return [(line["reason"], line.get("destination", "")) for line in self.mesh.web.log("connection denied")]


@contextlib.asynccontextmanager
async def proxied(**parts: Any) -> AsyncIterator[Proxied]:
    port = free_port()
    async with Mesh(**parts) as mesh:
        await mesh.web.outbound.proxy.prepare(("127.0.0.1", port))
        mesh.web.outbound.proxy.enforce(("127.0.0.1", port))
        yield Proxied(mesh, port)
    await until(lambda: not mesh.web.outbound.proxy.undecided and not len(mesh.web.outbound.relays))


async def asked(client: HttpClient, target: str, host: str, method: str = "GET", fields: str = "") -> Reply:
    client.writer.write(f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n".encode())
    return await client.reply()


async def over(client: HttpClient) -> None:
    """The proxy closes, in order."""
    assert await asyncio.wait_for(client.reader.read(), 10) == b""
    client.close()


# -- absolute form ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["api", "api.shop", "api.shop.svc", "API.shop", "api.shop.svc.cluster.local"])
async def test_a_request_goes_by_the_tunnel_to_the_upstream_of_that_name_in_origin_form(name: str) -> None:
    seen: list[bytes] = []
    host = f"{name}:{HTTP_PORT}"
    async with http_app(seen) as app, proxied(http_app=app) as site:
        client = await site.client()
        reply = await asked(client, f"http://{host}/orders/1?q=1", host)
        assert reply.status == 200
        denied = await asked(client, f"http://{host}/orders/1", host, "DELETE")
        assert (denied.status, denied.json()["reason"]) == (403, "method_not_allowed")
        assert (await asked(client, f"http://{host}/orders/2", host)).status == 200
        client.close()
        assert [head.split(b"\r\n")[0] for head in seen] == [
            b"GET /orders/1?q=1 HTTP/1.1",
            b"GET /orders/2 HTTP/1.1",
        ]
        assert f"host: {host}\r\n".encode() in seen[0]
        assert len(site.mesh.web.outbound.pool.links) == 1


async def test_a_request_that_names_no_port_goes_to_the_only_one_of_that_name_or_nowhere() -> None:
    async with http_app() as app, proxied(http_app=app) as site:
        client = await site.client()
        reply = await asked(client, "http://api.shop/orders/1", "api.shop")
        assert (reply.status, reply.json()["reason"]) == (403, DenyReason.EGRESS_NOT_ALLOWED)  # 8080, or 9000
        await over(client)
        site.mesh.web.outbound.enforce(site.mesh.upstreams[:1])
        client = await site.client()
        assert (await asked(client, "http://api.shop/orders/1", "api.shop")).status == 200
        client.close()


async def test_what_is_meant_for_the_proxy_or_for_one_hop_is_not_passed_on() -> None:
    seen: list[bytes] = []
    fields = (
        "Proxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\nproxy_anything: secret\r\n"
        "Connection: keep-alive, X-Hop\r\nX-Hop: secret\r\nKeep-Alive: timeout=5\r\nX-Kept: yes\r\n"
    )
    async with http_app(seen) as app, proxied(http_app=app) as site:
        client = await site.client()
        assert (await asked(client, "http://api.shop:8080/orders/1", "api.shop:8080", fields=fields)).status == 200
        assert (await asked(client, "http://api.shop:8080/orders/2", "api.shop:8080")).status == 200  # kept alive
        client.close()
        head = seen[0].lower()
        assert b"x-kept: yes" in head
        for gone in (b"proxy", b"secret", b"x-hop", b"timeout=5", b"c2vjcmv0"):
            assert gone not in head


async def test_each_request_of_a_connection_goes_where_it_says() -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother")
        writer.close()

    async with http_app() as app, plain_server(other) as second, proxied(http_app=app) as site:
        await _also(site.mesh, second)
        client = await site.client()
        for _ in range(3):
            assert (await asked(client, "http://api.shop:8080/orders/1", "api.shop:8080")).body.startswith(b"GET")
            assert (await asked(client, "http://other.shop:8088/orders/1", "other.shop:8088")).body == b"other"
        # Drop by drop, too, and one at a time.
        request = b"GET http://api.shop:8080/orders/1 HTTP/1.1\r\nhost: api.shop:8080\r\n\r\n"
        for at in range(len(request)):
            client.writer.write(request[at : at + 1])
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.reply()).body.startswith(b"GET")
        reply = await asked(client, "http://evil.example/", "evil.example")
        assert (reply.status, reply.json()["reason"]) == (403, DenyReason.EGRESS_NOT_ALLOWED)
        await over(client)


async def _also(mesh: Mesh, app: int) -> None:
    """Another HTTP service of api's, ``other`` on port 8088, whose app listens on ``app``."""
    ports = (*mesh.workload.ports, replace(mesh.workload.ports[0], port=8088, app_port=app))
    mesh.workload = replace(mesh.workload, ports=ports)
    rules = (rule("all", ports=[HTTP_PORT, 8088]),)
    table = compile_policy(
        PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=rules),)),
        trust_domain=mesh.workload.spiffe_id.trust_domain,
        http_ports=[HTTP_PORT, 8088],
    )
    mesh.api.inbound.enforce(mesh.workload, table)
    other = replace(mesh.upstreams[0], service="other", port=8088, listen_host="", listen_port=0)
    mesh.web.outbound.enforce((*mesh.upstreams, other), mesh.egress)


async def test_a_pipelined_request_for_another_destination_is_sent_elsewhere_and_never_to_the_first() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, proxied(http_app=app) as site:
        client = await site.client()
        client.writer.write(
            b"GET http://api.shop:8080/orders/1 HTTP/1.1\r\nhost: api.shop:8080\r\n\r\n"
            b"GET http://evil.example/orders/2 HTTP/1.1\r\nhost: evil.example\r\n\r\n"
        )
        assert (await client.reply()).status == 200
        assert (await client.reply()).status == 421
        await over(client)
        assert len(seen) == 1


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://api.shop:8080/orders/1", "ledger.shop:8080"),
        ("http://api.shop:8080/orders/1", "api.shop"),
        ("http://web@api.shop:8080/orders/1", "api.shop:8080"),
        ("/orders/1", "api.shop:8080"),
        ("https://api.shop:8080/orders/1", "api.shop:8080"),
        ("http://api.shop:0/orders/1", "api.shop:0"),
        ("http://api.shop:8080/orders/1#x", "api.shop:8080"),
    ],
)
async def test_what_is_ambiguous_or_not_for_a_proxy_is_refused(target: str, host: str) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, proxied(http_app=app) as site:
        client = await site.client()
        reply = await asked(client, target, host)
        assert reply.status in (400, 403)
        assert reply.json()["reason"] in (DenyReason.PROTOCOL_ERROR, DenyReason.PATH_AMBIGUOUS)
        await over(client)
        assert not seen


async def test_a_huge_or_endless_head_is_refused_and_a_slow_one_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_app() as app, proxied(http_app=app) as site:
        for head in (
            b"GET http://api.shop:8080/" + b"a" * 20_000 + b" HTTP/1.1\r\n",
            b"GET http://api.shop:8080/orders/1 HTTP/1.1\r\nhost: api.shop:8080\r\n" + b"a: b\r\n" * 20_000,
            b"CONNECT api.shop:9000 HTTP/1.1\r\n" + b"a: b\r\n" * 20_000,
            b"CONNECT api.shop:9000 HTTP/1.1\r\na: " + b"b" * 60_000 + b"\r\n\r\n",
        ):
            client = await site.client()
            client.writer.write(head)
            assert (await client.reply()).status == 400
            await over(client)
        monkeypatch.setattr("sidecar.forward_proxy.HEAD_SECONDS", 0.2)
        client = await site.client()
        client.writer.write(b"GET http://api")
        assert (await client.reply()).status == 408
        await over(client)


async def test_a_port_whose_protocol_is_found_out_is_had_by_either() -> None:
    async with http_app() as app, proxied(http_app=app, http=Protocol.AUTO) as site:
        client = await site.client()
        assert (await asked(client, "http://api:8080/orders/1", "api:8080")).status == 200
        denied = await asked(client, "http://api:8080/orders/1", "api:8080", "DELETE")
        assert (denied.status, denied.json()["reason"]) == (403, "method_not_allowed")
        client.close()
        client, reply = await site.connect(f"api:{HTTP_PORT}")
        assert reply.status == 200
        assert (await client.ask("GET", "/orders/1")).status == 200
        client.close()


async def test_a_port_that_does_not_speak_http_is_not_had_in_absolute_form() -> None:
    async with echo_app() as app, proxied(tcp_app=app) as site:
        client = await site.client()
        reply = await asked(client, "http://api.shop:9000/", "api.shop:9000")
        assert (reply.status, reply.json()["reason"]) == (400, DenyReason.PROTOCOL_ERROR)
        await over(client)


# -- CONNECT ----------------------------------------------------------------------------------------------------------


async def test_connect_to_an_opaque_port_is_a_tunnel_with_half_close() -> None:
    async with echo_app(greeting=b"hello\n") as app, proxied(tcp_app=app) as site:
        client, reply = await site.connect(f"api.shop.svc:{TCP_PORT}")
        assert reply.status == 200
        assert await asyncio.wait_for(client.reader.readline(), 10) == b"hello\n"
        blob = bytes(range(256)) * 4096
        client.writer.write(blob)
        client.writer.write_eof()
        assert await asyncio.wait_for(client.reader.read(), 20) == blob + b"bye"
        client.close()


async def test_what_follows_connect_in_one_write_is_the_tunnels() -> None:
    async with echo_app() as app, proxied(tcp_app=app) as site:
        client = await site.client()
        client.writer.write(b"CONNECT api:9000 HTTP/1.1\r\n\r\nearly")
        assert (await client.reply()).status == 200
        assert await asyncio.wait_for(client.reader.readexactly(5), 10) == b"early"
        client.close()


async def test_connect_to_an_http_port_is_judged_request_by_request() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, proxied(http_app=app) as site:
        client, reply = await site.connect(f"api:{HTTP_PORT}")
        assert reply.status == 200
        assert (await client.ask("GET", "/orders/1")).status == 200
        denied = await client.ask("DELETE", "/orders/1")
        assert (denied.status, denied.json()["reason"]) == (403, "method_not_allowed")
        client.close()
        assert len(seen) == 1


async def test_grpc_goes_through_connect() -> None:
    async with (
        grpc_app(Echo()) as app,
        proxied(http=Protocol.GRPC, http_app=app, rules=(ECHO,)) as site,
        grpc.aio.insecure_channel(
            "api.shop:8080", options=[("grpc.http_proxy", f"http://127.0.0.1:{site.port}")]
        ) as to,
    ):
        assert await to.unary_unary("/test.Echo/One")(b"abc", timeout=20) == b"cba"


async def test_a_tunnel_that_policy_denies_is_told_so() -> None:
    http_only = (rule("http", ports=[HTTP_PORT]),)
    async with echo_app(greeting=b"secret") as app, proxied(tcp_app=app, rules=http_only) as site:
        client, reply = await site.connect(f"api:{TCP_PORT}")
        assert (reply.status, reply.json()["reason"]) == (403, "port_not_allowed")
        await over(client)


async def test_a_tunnel_whose_app_is_not_there_is_told_so() -> None:
    async with proxied() as site:
        client, reply = await site.connect(f"api:{TCP_PORT}")
        assert (reply.status, reply.json()["reason"]) == (502, DenyReason.APP_UNREACHABLE)
        await over(client)


async def test_connect_leads_out_of_the_mesh_by_an_egress_rule_alone() -> None:
    async with echo_app() as outside, proxied(egress=(TO_LOOPBACK,)) as site:
        for host in ("127.0.0.1", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]"):
            client, reply = await site.connect(f"{host}:{outside}")
            assert reply.status == 200
            client.writer.write(b"ping")
            assert await asyncio.wait_for(client.reader.readexactly(4), 10) == b"ping"
            client.close()
        for host in ("api.shop", "10.1.2.3", "evil.example", "localhost.evil.example"):
            client, reply = await site.connect(f"{host}:{outside}")
            assert (reply.status, reply.json()["reason"]) == (403, DenyReason.EGRESS_NOT_ALLOWED)
            await over(client)
        assert site.told[-1] == (DenyReason.EGRESS_NOT_ALLOWED, f"localhost.evil.example:{outside}")
        assert site.mesh.web.metrics.denials.at("outbound", "", "outside", DenyReason.EGRESS_NOT_ALLOWED).value == 4


async def test_without_rules_it_leads_nowhere_but_to_the_upstreams() -> None:
    async with echo_app() as outside, echo_app() as app, proxied(tcp_app=app) as site:
        for authority in (f"127.0.0.1:{outside}", f"127.0.0.1:{app}", f"localhost:{outside}", "api.shop:22"):
            client, reply = await site.connect(authority)
            assert (reply.status, reply.json()["reason"]) == (403, DenyReason.EGRESS_NOT_ALLOWED)
            await over(client)


async def test_it_does_not_lead_to_itself_by_whatever_name() -> None:
    async with proxied(egress=(TO_LOOPBACK,)) as site:
        for host in ("127.0.0.1", "127.0.0.2", "localhost", "[::ffff:127.0.0.1]"):
            client, reply = await site.connect(f"{host}:{site.port}")
            assert reply.status in (403, 502)
            assert reply.json()["reason"] in (DenyReason.EGRESS_NOT_ALLOWED, DenyReason.UPSTREAM_UNREACHABLE)
            await over(client)


async def test_a_destination_that_does_not_answer_is_told_so() -> None:
    async with proxied(egress=(TO_LOOPBACK,)) as site:
        client, reply = await site.connect(f"127.0.0.1:{free_port()}")
        assert (reply.status, reply.json()["reason"]) == (502, DenyReason.UPSTREAM_UNREACHABLE)
        await over(client)


@pytest.mark.parametrize("name", ["a..wild.example", "..wild.example"])
async def test_a_name_with_an_empty_label_is_none_whatever_is_permitted(name: str) -> None:
    async with proxied(egress=(EgressRule(name="wild", hosts=("*.wild.example",)),)) as site:
        client, reply = await site.connect(f"{name}:443")
        assert (reply.status, reply.json()["reason"]) == (400, DenyReason.PROTOCOL_ERROR)
        await over(client)
        plain = await site.client()
        reply = await asked(plain, f"http://{name}/", name)
        assert (reply.status, reply.json()["reason"]) == (400, DenyReason.PROTOCOL_ERROR)
        await over(plain)


async def test_a_permitted_name_that_cannot_be_looked_up_is_told_so_and_holds_nothing() -> None:
    name = "x" * 64 + ".wild.example"
    async with proxied(egress=(EgressRule(name="wild", hosts=("*.wild.example",)),)) as site:
        client, reply = await site.connect(f"{name}:443")
        assert (reply.status, reply.json()["reason"]) == (502, DenyReason.UPSTREAM_UNREACHABLE)
        await over(client)
        plain = await site.client()
        reply = await asked(plain, f"http://{name}/", name)
        assert (reply.status, reply.json()["reason"]) == (502, DenyReason.UPSTREAM_UNREACHABLE)
        await over(plain)


async def test_plain_http_leads_out_of_the_mesh_by_an_egress_rule_alone() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as outside, proxied(egress=(TO_LOOPBACK,)) as site:
        host = f"localhost:{outside}"
        client = await site.client()
        for number in range(2):
            fields = "Proxy-Authorization: secret\r\nX-Ringfence-Refusal: forged\r\n"
            assert (await asked(client, f"http://{host}/a/{number}?b", host, fields=fields)).status == 200
        client.writer.write(f"POST http://{host}/ HTTP/1.1\r\nhost: {host}\r\ncontent-length: 300000\r\n\r\n".encode())
        client.writer.write(b"x" * 300_000)
        assert (await client.reply()).status == 200
        assert [head.split(b"\r\n")[0] for head in seen] == [
            b"GET /a/0?b HTTP/1.1",
            b"GET /a/1?b HTTP/1.1",
            b"POST / HTTP/1.1",
        ]
        assert not any(b"secret" in head or b"forged" in head for head in seen)
        denied = await asked(client, "http://evil.example/", "evil.example")
        assert (denied.status, denied.json()["reason"]) == (403, DenyReason.EGRESS_NOT_ALLOWED)
        await over(client)


async def test_a_destination_of_plain_http_that_fails_is_answered_for() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with plain_server(cut) as outside, proxied(egress=(TO_LOOPBACK,)) as site:
        for port in (outside, free_port(), site.port):
            client = await site.client()
            reply = await asked(client, f"http://127.0.0.1:{port}/", f"127.0.0.1:{port}")
            expected = DenyReason.EGRESS_NOT_ALLOWED if port == site.port else DenyReason.UPSTREAM_UNREACHABLE
            assert (reply.status, reply.json()["reason"]) == (403 if port == site.port else 502, expected)
            await over(client)


async def test_requests_held_back_are_sent_out_of_the_mesh_although_the_client_has_ended() -> None:
    """A client may ask for more than is passed on at once, and half-close behind it."""
    count = 3 * OUTSTANDING_LIMIT
    async with http_app() as app, proxied(egress=(TO_LOOPBACK,)) as site:
        client = await site.client()
        host = f"127.0.0.1:{app}"
        client.writer.write(f"GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\n\r\n".encode() * count)
        client.writer.write_eof()
        assert [(await client.reply()).status for _ in range(count)] == [200] * count
        await over(client)


async def test_an_answer_made_here_is_not_destroyed_by_what_the_client_still_sends() -> None:
    async with http_app() as app, proxied(egress=(TO_LOOPBACK,)) as site:
        client = await site.client()
        host = f"127.0.0.1:{app}"
        assert (await asked(client, f"http://{host}/", host)).status == 200
        bad = f"POST http://{host}/ HTTP/1.1\r\nhost: {host}\r\ncontent-length: 700000\r\ncontent-length: 1\r\n\r\n"
        client.writer.write(bad.encode() + bytes(700_000))
        assert (await client.reply()).status == 400
        await over(client)


async def test_plain_http_out_of_the_mesh_ends_with_the_rule_that_permits_it() -> None:
    waiting = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.set()
        await reader.read()
        writer.close()

    async with plain_server(silent) as outside, proxied(egress=(TO_LOOPBACK,)) as site:
        client = await site.client()
        client.writer.write(f"GET http://localhost:{outside}/ HTTP/1.1\r\nhost: localhost:{outside}\r\n\r\n".encode())
        await asyncio.wait_for(waiting.wait(), 10)
        site.mesh.web.outbound.enforce(site.mesh.upstreams, ())
        reply = await client.reply()
        assert (reply.status, reply.json()["reason"]) == (403, DenyReason.EGRESS_NOT_ALLOWED)
        await over(client)


async def test_new_egress_rules_end_the_tunnels_that_they_no_longer_permit() -> None:
    async with echo_app() as outside, proxied(egress=(TO_LOOPBACK,)) as site:
        client, reply = await site.connect(f"localhost:{outside}")
        assert reply.status == 200
        site.mesh.web.outbound.enforce(site.mesh.upstreams, (TO_LOOPBACK,))
        client.writer.write(b"ping")
        assert await asyncio.wait_for(client.reader.readexactly(4), 10) == b"ping"
        site.mesh.web.outbound.enforce(site.mesh.upstreams, ())
        await over(client)


@pytest.mark.parametrize(
    "head",
    [
        "CONNECT web:secret@api:9000 HTTP/1.1\r\n\r\n",
        "CONNECT api HTTP/1.1\r\n\r\n",
        "CONNECT api:9000 HTTP/1.1\r\nhost: evil:9000\r\n\r\n",
        "CONNECT api:9000 HTTP/1.1\r\ncontent-length: 4\r\n\r\nping",
        "CONNECT 2130706433:9000 HTTP/1.1\r\n\r\n",
    ],
)
async def test_a_connect_that_could_mean_two_things_is_refused(head: str) -> None:
    async with echo_app(greeting=b"hello") as app, proxied(tcp_app=app, egress=(TO_LOOPBACK,)) as site:
        client = await site.client()
        client.writer.write(head.encode())
        reply = await client.reply()
        assert (reply.status, reply.json()["reason"]) == (400, DenyReason.PROTOCOL_ERROR)
        await over(client)


# -- life -------------------------------------------------------------------------------------------------------------


async def test_a_client_that_says_nothing_goes_with_the_sidecar() -> None:
    async with proxied() as site:
        client = await site.client()
        await until(lambda: bool(site.mesh.web.outbound.proxy.undecided))
        await site.mesh.web.outbound.close(0.0)
        await over(client)


async def test_a_proxy_that_moves_or_goes_takes_nothing_new_at_the_old_place() -> None:
    async with http_app() as app, proxied(http_app=app) as site:
        proxy, moved = site.mesh.web.outbound.proxy, free_port()
        await proxy.prepare(("127.0.0.1", moved))
        proxy.enforce(("127.0.0.1", moved))
        client = await HttpClient.to(moved)
        assert (await asked(client, "http://api:8080/orders/1", "api:8080")).status == 200
        client.close()
        proxy.enforce(None)
        for port in (site.port, moved):
            with pytest.raises(ConnectionRefusedError):
                await site.client() if port == site.port else await HttpClient.to(port)


async def test_a_response_to_head_has_no_body_when_it_is_a_refusal() -> None:
    async with proxied() as site:
        client = await site.client()
        client.writer.write(b"HEAD http://evil.example/ HTTP/1.1\r\nhost: evil.example\r\n\r\n")
        answer = await asyncio.wait_for(client.reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 403")
        assert answer.endswith(b"\r\n\r\n")
        client.close()
