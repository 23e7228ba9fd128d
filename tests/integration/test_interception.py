"""Redirected connections of the app: led to the mesh, led outside by an egress rule, or reset, unseen by it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from ringfence.kit.clock import FakeClock
from ringfence.snapshot import EgressRule
from sidecar.egress_judge import HOST_SECONDS
from sidecar.sniff import SNIFF_LIMIT_BYTES
from tests.client_hello import client_hello
from tests.data_path import API_ADDRESSES, HTTP_PORT, TCP_PORT, WEB, HttpClient, Mesh, echo_app, http_app, until
from tests.ports import free_port

LOOPBACK = EgressRule(name="loopback", cidrs=("127.0.0.1/32",))
NAMED = EgressRule(name="named", hosts=("localhost",))
OUTSIDE = ("203.0.113.9", 443)


async def refused(reader: asyncio.StreamReader) -> None:
    """The connection is reset, and not one byte comes before."""
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(1), HOST_SECONDS + 10)


def denials(mesh: Mesh, reason: str = "egress_not_allowed") -> int:
    return mesh.web.metrics.denials.at("outbound", "", "outside", reason).value


# -- into the mesh ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", API_ADDRESSES)
async def test_a_request_to_a_mesh_service_by_address_goes_through_the_tunnel(address: str) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app, intercept=True) as mesh:
        client = HttpClient(*await mesh.dial((address, HTTP_PORT)))
        assert (await client.ask("GET", "/orders/1")).status == 200
        denied = await client.ask("DELETE", "/orders/1")
        assert (denied.status, denied.json()["reason"]) == (403, "method_not_allowed")
        client.close()
        assert f"URI={WEB}\r\n".encode() in seen[0]
        assert len(mesh.web.outbound.pool.links) == 1


@pytest.mark.parametrize("address", API_ADDRESSES)
async def test_opaque_bytes_to_a_mesh_service_by_address_pass_even_if_the_server_speaks_first(address: str) -> None:
    async with echo_app(greeting=b"220 ready\r\n") as app, Mesh(tcp_app=app, intercept=True) as mesh:
        reader, writer = await mesh.dial((address, TCP_PORT))
        assert await asyncio.wait_for(reader.readline(), 10) == b"220 ready\r\n"
        blob = bytes(range(256)) * 2048
        writer.write(blob)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 20) == blob + b"bye"
        writer.close()


async def test_a_mesh_service_at_another_port_is_outside() -> None:
    async with Mesh(intercept=True) as mesh:
        reader, writer = await mesh.dial((API_ADDRESSES[0], 8081))
        await refused(reader)
        writer.close()


async def test_a_mesh_service_without_endpoints_is_refused_and_never_dialled_outside_the_mesh() -> None:
    """Its address may lie within what an egress rule permits; its plaintext must not leave for that."""
    everywhere = EgressRule(name="everywhere", cidrs=("0.0.0.0/0", "::/0"), hosts=("*.example",))
    async with echo_app(greeting=b"in the clear") as app, Mesh(intercept=True, egress=(everywhere,)) as mesh:
        alone = [
            replace(upstream, endpoints=(), addresses=("127.0.0.1",), port=app, listen_port=0)
            for upstream in mesh.upstreams[1:]
        ]
        mesh.web.outbound.enforce(alone, mesh.egress)
        reader, writer = await mesh.dial(("127.0.0.1", app))
        await refused(reader)
        writer.close()
        [line] = mesh.web.log("connection denied")
        assert (line["reason"], line["service"]) == ("upstream_unreachable", "shop/api")


async def test_an_upstream_that_is_gone_ends_its_redirected_connections_and_no_others() -> None:
    async with echo_app(b"a") as app, Mesh(tcp_app=app, http_app=app, intercept=True) as mesh:
        opaque, other = await mesh.dial((API_ADDRESSES[0], TCP_PORT)), await mesh.dial((API_ADDRESSES[1], TCP_PORT))
        for reader, _ in (opaque, other):
            assert await asyncio.wait_for(reader.readexactly(1), 10) == b"a"
        fewer = [replace(upstream, addresses=API_ADDRESSES[:1]) for upstream in mesh.upstreams]
        mesh.web.outbound.enforce(fewer)
        for reader, writer in (opaque, other):  # where it is reached is no matter of permission
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
        mesh.web.outbound.enforce(mesh.upstreams[:1])
        for reader, writer in (opaque, other):
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
        await until(lambda: not len(mesh.web.outbound.relays))


# -- out of the mesh by address ---------------------------------------------------------------------------------------


async def test_a_permitted_address_is_reached_even_if_the_server_speaks_first() -> None:
    async with echo_app(greeting=b"hello\n") as app, Mesh(intercept=True, egress=(LOOPBACK,)) as mesh:
        reader, writer = await mesh.dial(("127.0.0.1", app))
        assert await asyncio.wait_for(reader.readline(), 10) == b"hello\n"
        blob = bytes(range(256)) * 8192
        writer.write(blob)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 20) == blob + b"bye"
        writer.close()
        await until(lambda: len(mesh.web.log("connection ended")) == 1)
        [line] = mesh.web.log("connection ended")
        assert (line["decision"], line["policy"], line["rule"]) == ("permit", "egress", "loopback")
        assert (line["service"], line["destination"], line["reason"]) == ("outside", f"127.0.0.1:{app}", "closed")
        assert (line["bytes_from_app"], line["bytes_to_app"]) == (len(blob), len(blob) + 9)
        assert not mesh.web.outbound.pool.links


@pytest.mark.parametrize(
    ("egress", "destination"),
    [
        ((), OUTSIDE),
        ((EgressRule(name="other", cidrs=("203.0.113.8/32",)),), OUTSIDE),
        ((EgressRule(name="port", cidrs=("203.0.113.9/32",), ports=(80,)),), OUTSIDE),
        ((EgressRule(name="host", hosts=("a.example",), ports=(80,)),), OUTSIDE),
        ((EgressRule(name="v4", cidrs=("203.0.113.9/32",)),), ("fd00::9", 443)),
    ],
)
async def test_what_no_rule_permits_is_reset_at_once_logged_and_counted(
    egress: tuple[EgressRule, ...], destination: tuple[str, int]
) -> None:
    async with Mesh(intercept=True, egress=egress) as mesh:
        reader, writer = await mesh.dial(destination)
        await refused(reader)
        writer.close()
        [line] = mesh.web.log("connection denied")
        host = f"[{destination[0]}]" if ":" in destination[0] else destination[0]
        assert (line["reason"], line["destination"]) == ("egress_not_allowed", f"{host}:443")
        assert (line["origin"], line["decision"], line["service"]) == (str(WEB), "deny", "outside")
        assert denials(mesh) == 1
        assert not len(mesh.web.outbound.relays)


async def test_a_destination_that_does_not_answer_is_a_reset_with_its_reason() -> None:
    async with Mesh(intercept=True, egress=(LOOPBACK,)) as mesh:
        reader, writer = await mesh.dial(("127.0.0.1", free_port()))
        await refused(reader)
        writer.close()
        [line] = mesh.web.log("connection ended")
        assert line["reason"] == "upstream_unreachable"


async def test_an_outside_server_that_resets_resets_the_app() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Mesh(intercept=True, egress=(LOOPBACK,)) as mesh:
        reader, writer = await mesh.dial(server.sockets[0].getsockname()[:2])
        writer.write(b"x")
        await refused(reader)
        writer.close()
        await until(lambda: not len(mesh.web.outbound.relays))
    server.close()


async def test_a_slow_app_holds_back_the_outside_server() -> None:
    sent = 0
    total = 64 * 1024 * 1024

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while sent < total:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Mesh(intercept=True, egress=(LOOPBACK,)) as mesh:
        reader, writer = await mesh.dial(server.sockets[0].getsockname()[:2])
        await asyncio.wait_for(reader.readexactly(1), 10)
        before = -1
        while before != sent:  # until it stands still
            before = sent
            for _ in range(40):
                await asyncio.sleep(0.005)
        assert sent < total // 2
        held = len(await asyncio.wait_for(reader.readexactly(total - 1), 60))
        assert held == total - 1
        writer.close()
    server.close()


# -- out of the mesh by host name -------------------------------------------------------------------------------------


async def test_a_permitted_host_in_a_server_name_is_reached_and_its_hello_arrives_whole() -> None:
    hello = client_hello(b"localhost")
    async with echo_app() as app, Mesh(intercept=True, egress=(NAMED,)) as mesh:
        reader, writer = await mesh.dial(("203.0.113.9", app))
        for at in range(0, len(hello), 100):
            writer.write(hello[at : at + 100])
            await writer.drain()
            await asyncio.sleep(0)
        assert await asyncio.wait_for(reader.readexactly(len(hello)), 10) == hello
        writer.write(b"more")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b"more"
        writer.close()
        await until(lambda: len(mesh.web.log("connection ended")) == 1)
        [line] = mesh.web.log("connection ended")
        assert (line["rule"], line["destination"]) == ("named", f"localhost:{app}")
        assert line["bytes_from_app"] == line["bytes_to_app"] == len(hello) + 4


async def test_a_permitted_host_of_a_request_is_reached() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(intercept=True, egress=(NAMED,)) as mesh:
        client = HttpClient(*await mesh.dial(("203.0.113.9", app)))
        request = f"POST /x HTTP/1.1\r\nHost: LOCALHOST:{app}\r\ncontent-length: 3\r\n\r\n".encode()
        client.writer.write(request + b"abc")
        assert (await client.reply()).status == 200
        client.close()
        assert seen == [request]


async def test_a_host_that_the_app_claims_is_looked_up_here_and_its_own_address_never_dialled() -> None:
    """An app that says a permitted name to another's address gets the owner of the name."""
    victim: list[bytes] = []
    seen: list[bytes] = []
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(http_app(seen, free_port()))
        # The same port at another loopback address, which only the app's own look-up leads to.
        other = await asyncio.start_server(lambda r, w: victim.append(b"dialled"), "127.0.0.2", app)
        stack.callback(other.close)
        mesh = await stack.enter_async_context(Mesh(intercept=True, egress=(NAMED,)))
        client = HttpClient(*await mesh.dial(("127.0.0.2", app)))
        client.writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (await client.reply()).status == 200
        client.close()
        assert len(seen) == 1
        assert not victim


async def test_a_name_that_stands_for_a_mesh_service_does_not_lead_around_the_tunnel() -> None:
    async with echo_app(greeting=b"in the clear") as app, Mesh(intercept=True, egress=(NAMED,)) as mesh:
        service = [replace(up, addresses=("127.0.0.1", "::1"), port=app, listen_port=0) for up in mesh.upstreams[1:]]
        mesh.web.outbound.enforce(service, mesh.egress)
        reader, writer = await mesh.dial(("203.0.113.9", app))
        writer.write(client_hello(b"localhost"))
        await refused(reader)
        writer.close()
        [line] = mesh.web.log("connection ended")
        assert (line["reason"], line["destination"]) == ("egress_not_allowed", f"localhost:{app}")


@pytest.mark.parametrize(
    "first",
    [
        client_hello(b"other.example"),
        client_hello(None),
        b"GET / HTTP/1.1\r\nhost: other.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: other.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost.other.example\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"GET / HTTP/1.1\r\nx: ".ljust(SNIFF_LIMIT_BYTES, b"y"),
    ],
)
async def test_other_hosts_and_none_are_reset_and_their_first_bytes_lead_nowhere(first: bytes) -> None:
    async with echo_app() as app, Mesh(intercept=True, egress=(NAMED,)) as mesh:
        reader, writer = await mesh.dial(("127.0.0.1", app))
        writer.write(first)
        await refused(reader)
        writer.close()
        assert denials(mesh) == 1
        assert not mesh.web.log("connection ended")


async def test_a_client_that_tells_no_host_in_time_is_reset() -> None:
    async with echo_app() as app, Mesh(intercept=True, egress=(NAMED,)) as mesh:
        reader, writer = await mesh.dial(("127.0.0.1", app))
        writer.write(b"GET / HT")
        await refused(reader)
        writer.close()
        [line] = mesh.web.log("connection denied")
        assert line["detail"] == "no host name was told in time"


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\n"])
async def test_a_client_that_leaves_before_it_told_a_host_is_logged_and_counted(first: bytes) -> None:
    """So that an app that looks who listens out there does not do so unseen."""
    async with echo_app() as app, Mesh(intercept=True, egress=(NAMED,)) as mesh:
        _, writer = await mesh.dial(("127.0.0.1", app))
        writer.write(first)
        writer.close()
        await until(lambda: denials(mesh) == 1)
        assert len(mesh.web.log("connection denied")) == 1


async def test_a_request_with_its_half_close_in_one_piece_is_led_on() -> None:
    async with http_app() as app, Mesh(intercept=True, egress=(NAMED,)) as mesh:
        client = HttpClient(*await mesh.dial(("203.0.113.9", app)))
        client.writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        client.writer.write_eof()
        assert (await client.reply()).status == 200
        client.close()


async def test_those_who_have_told_no_host_yet_are_bounded_and_end_with_the_sidecar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidecar.outbound.RELAY_LIMIT", 3)
    async with echo_app() as app, Mesh(intercept=True, egress=(NAMED,)) as mesh:
        waiting = [await mesh.dial(("127.0.0.1", app)) for _ in range(3)]
        await until(lambda: len(mesh.web.outbound.undecided) == 3)
        reader, writer = await mesh.dial(("127.0.0.1", app))
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        await mesh.web.outbound.close(0.0)
        for reader, writer in waiting:
            await refused(reader)
            writer.close()
        assert not mesh.web.outbound.undecided


# -- who dials the port itself ----------------------------------------------------------------------------------------


async def test_the_port_dialled_directly_refuses() -> None:
    """Led on by where it came to, the connection would come back for ever."""
    async with Mesh(intercept=True, egress=(LOOPBACK, NAMED)) as mesh:
        reader, writer = await mesh.dial(None)
        await refused(reader)
        writer.close()
        [line] = mesh.web.log("connection denied")
        assert line["reason"] == "not_own_address"
        assert denials(mesh, "not_own_address") == 1


# -- new rules --------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def four_flows(mesh: Mesh, app: int) -> AsyncIterator[dict[str, Any]]:
    """One living connection by each of three ways out, and one into the mesh."""
    flows = {
        "address": await mesh.dial(("127.0.0.1", app)),
        "other address": await mesh.dial(("127.0.0.2", app)),
        "host": await mesh.dial(("203.0.113.9", app)),
        "mesh": await mesh.dial((API_ADDRESSES[0], TCP_PORT)),
    }
    flows["host"][1].write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await asyncio.wait_for(flows["host"][0].readuntil(b"\r\n\r\n"), 10)
    for name in flows:
        await lives(flows[name])
    yield flows
    for _, writer in flows.values():
        writer.close()


async def lives(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    reader, writer = pair
    writer.write(b"ping")
    assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"


ADDRESSES = EgressRule(name="addresses", cidrs=("127.0.0.0/30",))


@pytest.mark.parametrize(
    ("egress", "ending"),
    [
        ((LOOPBACK, NAMED), {"other address"}),
        ((ADDRESSES,), {"host"}),
        ((NAMED,), {"address", "other address"}),
        ((), {"address", "other address", "host"}),
        ((replace(ADDRESSES, name="renamed"), replace(NAMED, name="also")), set()),
        ((replace(ADDRESSES, ports=(1,)), NAMED), {"address", "other address"}),
    ],
)
async def test_new_egress_rules_end_exactly_the_newly_denied(egress: tuple[EgressRule, ...], ending: set[str]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(echo_app(port=free_port()))
        again = await asyncio.start_server(_echo, "127.0.0.2", app)
        stack.callback(again.close)
        mesh = await stack.enter_async_context(Mesh(tcp_app=app, intercept=True, egress=(ADDRESSES, NAMED)))
        flows = await stack.enter_async_context(four_flows(mesh, app))

        mesh.web.outbound.enforce(mesh.upstreams, egress)

        for name, pair in flows.items():
            if name in ending:
                assert await asyncio.wait_for(pair[0].read(), 10) == b""
            else:
                await lives(pair)
        denied = mesh.web.log("connection denied")
        assert [line["reason"] for line in denied] == ["egress_not_allowed"] * len(ending)
        assert denials(mesh) == len(ending)
        await until(lambda: len(mesh.web.outbound.relays) == 4 - len(ending))
        ended = mesh.web.log("connection ended")
        assert {line["request_id"] for line in ended} == {line["request_id"] for line in denied}
        assert {line["decision"] for line in ended} <= {"deny"}


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_after_all_of_it_nothing_is_left() -> None:
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True, egress=(LOOPBACK, NAMED)) as mesh:
        pairs = [
            await mesh.dial(destination)
            for destination in [("127.0.0.1", app), ("203.0.113.9", app), OUTSIDE, (API_ADDRESSES[1], TCP_PORT), None]
        ]
        for _, writer in pairs:
            writer.transport.abort()
        await until(lambda: not len(mesh.web.outbound.relays) and not mesh.web.outbound.undecided)
        await until(lambda: not len(mesh.api.inbound.relays))


async def test_a_canary_goes_nowhere_and_is_no_denial() -> None:
    """By it the sidecar tries whether anything is led to it; whoever else dials it is let go of."""
    async with Mesh(intercept=True) as mesh:
        reader, writer = await mesh.dial(("192.0.2.106", 15001))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        other, writer = await mesh.dial(("192.0.2.106", 15002))
        await refused(other)
        writer.close()
        assert denials(mesh) == 1


# -- a workload that is only observed ---------------------------------------------------------------------------------


def would_deny(mesh: Mesh) -> list[tuple[str, str]]:
    return [(line["would_deny"], line["destination"]) for line in mesh.web.log("would deny")]


async def test_what_no_rule_permits_passes_while_the_workload_is_observed() -> None:
    async with echo_app(greeting=b"hi\n") as app, Mesh(intercept=True) as mesh:
        mesh.web.outbound.enforce(mesh.upstreams, (), time.time() + 1000)
        reader, writer = await mesh.dial(("127.0.0.1", app))
        assert await asyncio.wait_for(reader.readline(), 10) == b"hi\n"
        writer.close()
        await until(lambda: len(mesh.web.log("connection ended")) == 1)
        assert would_deny(mesh) == [("egress_not_allowed", f"127.0.0.1:{app}")]
        [line] = mesh.web.log("connection ended")
        assert (line["decision"], line["would_deny"], line["service"]) == ("permit", "egress_not_allowed", "outside")
        counted = mesh.web.metrics.would_deny.at("", "outside", str(app), "egress_not_allowed")
        assert (counted.value, denials(mesh)) == (1, 0)


async def test_what_a_rule_permits_is_permitted_by_it_although_the_workload_is_observed() -> None:
    async with echo_app(greeting=b"hi\n") as app, Mesh(intercept=True) as mesh:
        mesh.web.outbound.enforce(mesh.upstreams, (LOOPBACK,), time.time() + 1000)
        reader, writer = await mesh.dial(("127.0.0.1", app))
        assert await asyncio.wait_for(reader.readline(), 10) == b"hi\n"
        writer.close()
        await until(lambda: len(mesh.web.log("connection ended")) == 1)
        assert (mesh.web.log("connection ended")[0]["rule"], would_deny(mesh)) == ("loopback", [])


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n", b"\x00\x01"])
async def test_a_host_rule_delays_and_loses_nothing_of_what_is_observed(first: bytes) -> None:
    async with echo_app(greeting=b"hi\n") as app, Mesh(intercept=True) as mesh:
        mesh.web.outbound.enforce(mesh.upstreams, (NAMED,), time.time() + 1000)
        reader, writer = await mesh.dial(("127.0.0.1", app))
        writer.write(first)
        assert await asyncio.wait_for(reader.readexactly(3 + len(first)), 10) == b"hi\n" + first
        writer.close()
        assert would_deny(mesh) == [("egress_not_allowed", f"127.0.0.1:{app}")]


async def test_the_mesh_is_reached_by_the_mesh_although_the_workload_is_observed() -> None:
    async with echo_app(greeting=b"in the clear") as app, Mesh(intercept=True) as mesh:
        alone = [
            replace(up, endpoints=(), addresses=("127.0.0.1",), port=app, listen_port=0) for up in mesh.upstreams[1:]
        ]
        mesh.web.outbound.enforce(alone, (), time.time() + 1000)
        reader, writer = await mesh.dial(("127.0.0.1", app))
        await refused(reader)
        writer.close()


async def test_what_was_only_observed_ends_with_the_observation() -> None:
    async with echo_app(b"a") as app, Mesh(intercept=True) as mesh:
        moment = time.time() + 1000
        mesh.web.outbound.enforce(mesh.upstreams, (), moment)
        reader, writer = await mesh.dial(("127.0.0.1", app))
        assert await asyncio.wait_for(reader.readexactly(1), 10) == b"a"
        mesh.web.outbound.enforce(mesh.upstreams, (), moment)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
        mesh.web.outbound.enforce(mesh.upstreams, (), None)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        assert denials(mesh) == 1


async def test_what_was_only_observed_ends_when_the_time_is_over() -> None:
    clock = FakeClock()
    async with echo_app(b"a") as app, Mesh(intercept=True, clock=clock) as mesh:
        mesh.web.outbound.enforce(mesh.upstreams, (LOOPBACK,), clock.now() + 1000)
        mesh.web.outbound.enforce(mesh.upstreams, (), clock.now() + 1000)
        reader, writer = await mesh.dial(("127.0.0.1", app))
        assert await asyncio.wait_for(reader.readexactly(1), 10) == b"a"
        mesh.web.outbound.time_passed()
        assert len(mesh.web.outbound.relays) == 1
        clock.advance(1001)
        mesh.web.outbound.time_passed()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        late, writer = await mesh.dial(("127.0.0.1", app))
        await refused(late)
        writer.close()
