"""A new policy judges all that lives: what fails in the middle, what only moved, what was being connected."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from ringfence.snapshot import PortMode
from sidecar.http2 import frames as h2
from sidecar.inbound_relay import InboundRelay
from tests.data_path import HTTP_PORT, OPEN, TCP_PORT, HttpClient, Mesh, echo_app, http_app, rule, until
from tests.integration.test_relay_edges import app_of
from tests.raw_peer import RawPeer


async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        writer.write(b"ping")
        return await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"
    return False


async def test_a_relay_that_cannot_be_judged_ends_and_the_others_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    async with echo_app() as app, Mesh(tcp_app=app) as mesh:
        ends = [await asyncio.open_connection("127.0.0.1", mesh.tcp_listen) for _ in range(6)]
        assert all([await echoes(*end) for end in ends])
        broken = [relay for relay, _ in mesh.api.inbound.relays][1]
        deny = mesh.api.inbound.refusals.deny

        def failing(facts: object, *rest: object, **more: object) -> None:
            if facts is broken.facts:
                raise RuntimeError("cannot tell")
            deny(facts, *rest, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(mesh.api.inbound.refusals, "deny", failing)
        mesh.enforce(OPEN[0])
        await until(lambda: not len(mesh.api.inbound.relays))
        for reader, writer in ends:
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
        assert len(mesh.api.log("defect")) == 1
        assert len(mesh.api.log("connection ended")) == 6


async def test_links_that_cannot_be_verified_or_renewed_end_and_the_others_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Mesh() as mesh:
        peers = [
            await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(f"spiffe://shop.example/ns/shop/sa/{n}")) for n in "abc"
        ]
        assert all([await peer.alive() for peer in peers])
        verifier = mesh.api.context.verifier
        verify = verifier.verify
        asked: list[str] = []

        class Failing:
            def verify(self, chain: object, *rest: object) -> object:
                found = verify(chain, *rest)  # type: ignore[arg-type]
                asked.append(str(found.spiffe_id))
                if len(asked) == 2:
                    raise RuntimeError("no verdict")
                return found

        mesh.api.context.verifier = Failing()  # type: ignore[assignment]
        mesh.api.inbound.reverify()
        assert len(asked) == 3
        assert len(mesh.api.inbound.links) == 2
        assert len(mesh.api.log("tunnel broken")) == 1
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("change", [{"mode": PortMode.PERMISSIVE}, {"app_port": 9}, {"app_host": "127.0.0.9"}])
async def test_a_port_that_is_served_in_another_way_ends_nothing_that_lives(change: dict[str, object]) -> None:
    async with echo_app() as tcp, http_app() as http, Mesh(tcp_app=tcp, http_app=http) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        client = await HttpClient.to(mesh.http_listen)
        assert await echoes(reader, writer)
        assert (await client.ask("GET", "/orders/1")).status == 200
        mesh.workload = replace(mesh.workload, ports=tuple(replace(port, **change) for port in mesh.workload.ports))
        for _ in range(2):
            mesh.enforce(*OPEN)
            assert await echoes(reader, writer)
            assert (await client.ask("GET", "/orders/1")).status == 200
        writer.close()
        client.close()


async def test_a_port_that_is_gone_or_speaks_another_protocol_ends_what_leads_to_it() -> None:
    async with echo_app() as tcp, Mesh(tcp_app=tcp) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        assert await echoes(reader, writer)
        mesh.workload = replace(mesh.workload, ports=mesh.workload.ports[:1])
        mesh.enforce(*OPEN)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        [line] = mesh.api.log("connection denied")
        assert line["reason"] == "not_own_address"
        writer.close()


async def test_a_caller_in_plaintext_ends_when_its_port_becomes_strict() -> None:
    async with echo_app() as tcp, Mesh(tcp_app=tcp) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        assert await echoes(reader, writer)
        [(relay, caller)] = list(mesh.api.inbound.relays)
        assert isinstance(relay, InboundRelay)
        caller.spiffe_id = None
        mesh.enforce(*OPEN)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        [line] = mesh.api.log("connection denied")
        assert line["reason"] == "plaintext_refused"
        writer.close()


async def test_a_connect_that_is_denied_while_its_app_is_being_connected_ends_there() -> None:
    async with echo_app() as tcp, Mesh(tcp_app=tcp) as mesh:
        peer = await RawPeer.dial(mesh.mesh_port, mesh.web.tls.svid)
        assert await peer.alive()
        enforced = False
        admit = mesh.api.inbound.admit

        def admitting(*parts: object) -> None:
            nonlocal enforced
            admit(*parts)  # type: ignore[arg-type]
            if not enforced:
                enforced = True
                mesh.enforce(OPEN[0])

        mesh.api.inbound.admit = admitting  # type: ignore[method-assign,assignment]
        peer.send(peer.connect(1, b"127.0.0.1:%d" % TCP_PORT), h2.frame(h2.DATA, 0, 1, b"too late"))
        assert (await peer.next(h2.RST_STREAM, 1)).code == h2.NO_ERROR
        await until(lambda: not mesh.api.inbound.connects and not len(mesh.api.inbound.relays))
        assert [line["reason"] for line in mesh.api.log("connection denied")] == ["port_not_allowed"]
        assert await peer.alive()
        peer.close()


async def test_of_requests_in_flight_exactly_those_newly_denied_end_and_idle_connections_stay() -> None:
    gate = asyncio.Event()
    arrived = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        while True:
            await reader.readuntil(b"\r\n\r\n")
            arrived += 1
            await gate.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with app_of(serve) as app, Mesh(http_app=app) as mesh:
        kept, denied, idle = [await HttpClient.to(mesh.http_listen) for _ in range(3)]
        gate.set()
        assert (await idle.ask("GET", "/orders/1")).status == 200
        gate.clear()
        asked = [
            asyncio.ensure_future(kept.ask("GET", "/orders/1")),
            asyncio.ensure_future(denied.ask("POST", "/orders/1")),
        ]
        await until(lambda: arrived == 3)
        mesh.enforce(rule("orders", ports=[HTTP_PORT], methods=["GET"], paths=["/orders/{id}"]), OPEN[1])
        refused = await asked[1]
        assert (refused.status, refused.json()["reason"]) == (403, "method_not_allowed")
        assert not asked[0].done()
        gate.set()
        assert (await asked[0]).status == 200
        assert (await idle.ask("GET", "/orders/2")).status == 200
        [line] = mesh.api.log("connection denied")
        assert line["request_id"] == refused.json()["request_id"]
        for client in (kept, denied, idle):
            client.close()
