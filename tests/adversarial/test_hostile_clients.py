"""Clients that hold on, leave in the middle, ask for too much, or come in masses: each gets its defined answer, nobody
else notices, and tasks, descriptors and gauges come back to where they were."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import struct
import sys
import time

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import sidecar.inbound
from ringfence.snapshot import PortMode
from sidecar.http2 import frames as h2
from sidecar.http_relay import BODY_IDLE_SECONDS
from sidecar.tunnel.stream import LARGEST_WINDOW_BYTES
from tests.calm_mesh import calm_mesh, dial, honest_call
from tests.data_path import (
    HTTP_PORT,
    TCP_PORT,
    WEB,
    HttpClient,
    Mesh,
    echo_app,
    http_app,
    plaintext_rule,
    rule,
    serving,
    until,
)
from tests.key_updates import TrafficKeys
from tests.raw_peer import HELLO, RawPeer

GET = b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n"
POST = b"POST /orders/1 HTTP/1.1\r\nhost: api\r\ncontent-length: 100\r\n\r\n"
OPEN_TO_ALL = (plaintext_rule("all", ports=[HTTP_PORT]),)
_RESET = struct.pack("ii", 1, 0)


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is None:
        return  # the other end was faster
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


# -- leaving in every state -------------------------------------------------------------------------------------------

STATES: dict[str, tuple[str, bytes, bytes, bytes]] = {
    # port, what is sent, what is read then, what is sent after it
    "connected": ("http", b"", b"", b""),
    "inside the request line": ("http", b"GET /ord", b"", b""),
    "inside a field": ("http", GET[:-10], b"", b""),
    "behind a request": ("http", GET, b"", b""),
    "inside a body": ("http", POST + b"half", b"", b""),
    "behind an answer": ("http", GET, b"\r\n\r\n", b""),
    "inside the second request": ("http", GET, b"\r\n\r\n", GET[:20]),
    "inside a pipeline": ("http", GET * 20 + GET[:20], b"\r\n\r\n", b""),
    "denied": ("http", GET.replace(b"GET", b"PUT"), b"\r\n\r\n", b""),
    "refused for its form": ("http", b"GET / HTTP/1.1\r\nhost : a\r\n\r\n", b"\r\n\r\n", b""),
    "opaque, silent": ("tcp", b"", b"", b""),
    "opaque, in the middle": ("tcp", b"hello", b"hello", b"again"),
}


@pytest.mark.parametrize("how", ["RST", "FIN"])
@pytest.mark.parametrize("state", STATES)
async def test_an_app_that_leaves_in_whatever_state_leaves_nothing(state: str, how: str) -> None:
    port, first, awaited, then = STATES[state]
    async with calm_mesh() as mesh:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", mesh.http_listen if port == "http" else mesh.tcp_listen
        )
        await until(lambda: len(mesh.web.outbound.relays) == 1)
        writer.write(first)
        if awaited:
            await asyncio.wait_for(reader.readuntil(awaited), 10)
        writer.write(then)
        await writer.drain()
        if how == "RST":
            reset(writer)
        else:
            writer.close()
        await until(lambda: not len(mesh.web.outbound.relays) and not len(mesh.api.inbound.relays))


# -- asking for too much ----------------------------------------------------------------------------------------------

TOO_MUCH: dict[str, tuple[bytes, str]] = {
    "a header line of 64 KiB": (
        b"GET /orders/1 HTTP/1.1\r\nhost: api\r\nx: " + b"y" * 65_400 + b"\r\n\r\n",
        "line_too_long",
    ),
    "a head of more than 64 KiB": (
        b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n" + (b"x: " + b"y" * 20_000 + b"\r\n") * 4 + b"\r\n",
        "head_too_large",
    ),
    "a header line of 33 KiB": (
        b"GET /orders/1 HTTP/1.1\r\nhost: api\r\nx: " + b"y" * 33_000 + b"\r\n\r\n",
        "line_too_long",
    ),
    "a target of 20 KiB": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: api\r\n\r\n", "line_too_long"),
    "a thousand fields": (
        b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        "too_many_fields",
    ),
    "a tunnel to elsewhere": (b"CONNECT 10.0.0.1:22 HTTP/1.1\r\nhost: 10.0.0.1:22\r\n\r\n", "bad_method"),
    "a tunnel to the app itself": (b"CONNECT 127.0.0.1:8080 HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\r\n", "bad_method"),
    "another host's page": (
        b"GET http://elsewhere.example/orders/1 HTTP/1.1\r\nhost: api\r\n\r\n",
        "host_mismatch",
    ),
}


@pytest.mark.parametrize("case", TOO_MUCH)
async def test_what_is_too_much_is_refused_with_its_reason_and_reaches_no_app(case: str) -> None:
    sent, reason = TOO_MUCH[case]
    seen: list[bytes] = []
    async with calm_mesh(seen=seen) as mesh:
        before = len(seen)
        client = await HttpClient.to(mesh.http_listen)
        client.writer.write(sent)
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
        client.close()
        assert len(seen) == before
        assert mesh.web.metrics.violations.at("outbound", "http", "client", reason).value == 1


async def test_a_header_line_that_is_large_and_lawful_passes() -> None:
    async with calm_mesh() as mesh:
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1", headers=f"x: {'y' * 30_000}\r\n")
        assert reply.status == 200
        assert b"y" * 30_000 in reply.body
        client.close()


async def test_an_identity_that_a_client_made_up_reaches_no_app_in_any_spelling() -> None:
    seen: list[bytes] = []
    forged = "".join(
        f"{name}: By=me;URI=spiffe://shop.example/ns/shop/sa/admin\r\n"
        for name in (
            "x-forwarded-client-cert",
            "X-Forwarded-Client-Cert",
            "x_forwarded_client_cert",
            "X.Forwarded.Client.Cert",
            "x-ringfence-identity",
        )
    )
    async with calm_mesh(seen=seen) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1", headers=forged)).status == 200
        client.close()
        assert b"admin" not in seen[-1]
        assert seen[-1].lower().count(b"client-cert") == 1
        assert f"URI={WEB}".encode() in seen[-1]


# -- masses -----------------------------------------------------------------------------------------------------------


async def test_a_thousand_callers_are_served_beside_readers_that_take_nothing() -> None:
    small = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET /orders/big"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 65536000\r\n\r\n")
                    for _ in range(1000):
                        writer.write(bytes(65536))
                        await writer.drain()
                writer.write(small)
                await writer.drain()
        writer.close()

    async with serving(serve) as app, Mesh(http_app=app) as mesh:
        stuck = [await asyncio.open_connection("127.0.0.1", mesh.http_listen, limit=1) for _ in range(8)]
        for _, writer in stuck:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(GET.replace(b"/orders/1", b"/orders/big"))
        try:
            await until(lambda: len(mesh.api.inbound.relays) == 8)
            await beside_a_thousand(mesh)
        finally:
            for _, writer in stuck:
                writer.transport.abort()
        await until(lambda: not len(mesh.web.outbound.relays) and not len(mesh.api.inbound.relays))
        assert held(mesh) == 0


def held(mesh: Mesh) -> int:
    """What web's links have received and its app has not taken."""
    return sum(link.machine.held_bytes for link in mesh.web.links)


async def beside_a_thousand(mesh: Mesh) -> None:
    """A thousand connections with two requests each, all of them answered while eight readers hold what they may."""
    await until(lambda: held(mesh) > 0)
    clients = [await HttpClient.to(mesh.http_listen) for _ in range(1000)]
    for _ in range(2):
        for client in clients:
            client.writer.write(GET)
        async with asyncio.timeout(60):
            for client in clients:
                assert (await client.reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(mesh.api.inbound.relays) == 1008
    assert held(mesh) <= 8 * LARGEST_WINDOW_BYTES
    for client in clients:
        client.close()


async def test_handshakes_that_are_never_ended_crowd_out_each_other_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sidecar.inbound, "LINK_LIMIT", 8)
    async with calm_mesh() as mesh:
        silent = [await asyncio.open_connection("127.0.0.1", mesh.mesh_port) for _ in range(7)]
        await until(lambda: len(mesh.api.inbound.links) == 8)
        peers = []
        for number in range(4):  # each finds the house full
            peer = await dial(mesh)
            assert await peer.alive()
            peers.append(peer)
            assert mesh.api.failures.count(("inbound", "crowded_out")) == number + 1
        for reader, _ in silent[:4]:
            assert await asyncio.wait_for(reader.read(), 10) == b""
        assert len(mesh.api.inbound.links) == 8
        for _, writer in silent:
            writer.close()
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("limit", [16, 1024])
async def test_a_thousand_handshakes_at_once_hold_up_no_call(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar.inbound, "LINK_LIMIT", limit)  # most are crowded out in the turn they are accepted in
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    async with calm_mesh() as mesh:
        flood = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", mesh.mesh_port) for _ in range(1000)))
        for _, writer in flood:
            writer.write(hello)
        await honest_call(mesh)
        for _, writer in flood:
            reset(writer)


async def test_key_updates_without_end_leave_memory_and_the_others_alone() -> None:
    """TLS 1.3 has no renegotiation; what is left of it is that a peer may ask for new keys as often as it likes."""
    async with calm_mesh() as mesh:
        keys = TrafficKeys()
        peer = await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(WEB), hello=b"", watch=keys.line)
        keys.begin(AESGCM)
        peer.writer.write(keys.record(HELLO, 0x17))
        await peer.next(h2.SETTINGS)
        for _ in range(100):
            peer.writer.write(b"".join(keys.update() for _ in range(50)))
            await peer.writer.drain()
        await honest_call(mesh)
        [link] = [link for link in mesh.api.links if link.remote[1] == peer.writer.get_extra_info("sockname")[1]]
        assert not link._engine.outgoing()  # each was answered, and none of the answers is kept
        peer.close()


async def test_a_peer_that_asks_for_new_keys_and_reads_none_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.tunnel.link_sending._UNREAD_LIMIT_BYTES", 1024 * 1024)
    async with calm_mesh() as mesh:
        keys = TrafficKeys()
        peer = await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(WEB), hello=b"", watch=keys.line)
        keys.begin(AESGCM)
        peer.writer.write(keys.record(HELLO, 0x17))
        await peer.next(h2.SETTINGS)
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        [link] = [link for link in mesh.api.links if link.remote[1] == sock.getsockname()[1]]
        link._transport.set_write_buffer_limits(high=64 * 1024)  # type: ignore[union-attr]
        with contextlib.suppress(ConnectionError):
            while not link.closed:
                peer.writer.write(b"".join(keys.update() for _ in range(500)))
                await peer.writer.drain()
        [line] = mesh.api.log("tunnel broken")
        assert line["reason"] == "unread"
        await honest_call(mesh)
        peer.writer.transport.abort()


async def test_without_descriptors_newcomers_are_turned_away_nothing_spins_and_room_comes_back() -> None:
    async with calm_mesh() as mesh:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CALLERS, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 6, hard))  # noqa: PTH208
        try:
            child.stdin.write(b"%d\n" % mesh.http_listen)
            answered, _ = map(int, (await asyncio.wait_for(child.stdout.readline(), 60)).split())
            assert answered <= 6
            cpu, wall = time.process_time(), time.monotonic()
            await asyncio.sleep(0.5)  # in which the listener might spin
            assert time.process_time() - cpu < 0.5 * (time.monotonic() - wall)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await honest_call_beside(mesh)
        child.stdin.close()
        await child.wait()


async def honest_call_beside(mesh: Mesh) -> None:
    """A call while others may still be connected."""
    client = await HttpClient.to(mesh.http_listen)
    assert (await client.ask("GET", "/orders/1")).status == 200
    client.close()


_CALLERS = """
import socket, sys
print("ready", flush=True)
port = int(sys.stdin.readline())
callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(64)]
answered = 0
for caller in callers:
    caller.settimeout(10)
    try:
        caller.sendall(b"GET /orders/1 HTTP/1.1\\r\\nhost: api\\r\\n\\r\\n")
        answered += caller.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        pass
print(answered, len(callers), flush=True)
for caller in callers:
    caller.close()
sys.stdin.readline()
"""


async def test_redirected_connections_that_never_speak_crowd_out_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.inbound_direct.ARRIVAL_LIMIT", 8)
    async with (
        http_app() as app,
        Mesh(http_app=app, intercept=True, mode=PortMode.PERMISSIVE, rules=OPEN_TO_ALL) as mesh,
    ):
        flood = await asyncio.gather(*(mesh.arrive(HTTP_PORT) for _ in range(100)))
        assert mesh.api.inbound.direct.open_count <= 8
        client = HttpClient(*await mesh.arrive(HTTP_PORT))
        assert (await client.ask("GET", "/orders/1")).status == 200
        client.close()
        for _, writer in flood:
            reset(writer)
        await until(lambda: mesh.api.inbound.direct.open_count == 0)


@pytest.mark.parametrize("begun", [b"GET /orders/1 HTTP/1.1\r\nhost: a", POST + b"half"])
async def test_a_caller_without_sidecar_that_begins_and_does_not_go_on_is_let_go(begun: bytes) -> None:
    async with (
        http_app() as app,
        Mesh(http_app=app, intercept=True, mode=PortMode.PERMISSIVE, rules=OPEN_TO_ALL) as mesh,
    ):
        slow, lively = HttpClient(*await mesh.arrive(HTTP_PORT)), HttpClient(*await mesh.arrive(HTTP_PORT))
        slow.writer.write(begun)
        assert (await lively.ask("GET", "/orders/1")).status == 200
        await until(lambda: len(mesh.api.inbound.relays) == 2)
        now, relays = mesh.api.clock.monotonic(), mesh.api.inbound.relays
        await until(lambda: any(relay.inspector.progress.startswith("request") for relay, _ in relays))  # type: ignore[attr-defined]
        relays.sweep(now)
        relays.sweep(now + 3 * BODY_IDLE_SECONDS)
        await until(lambda: len(relays) == 1)
        assert mesh.api.log("connection ended")[0]["reason"] == "caller_timeout"
        assert (await lively.ask("GET", "/orders/1")).status == 200
        slow.close()
        lively.close()


async def test_the_kernel_watches_over_connections_that_have_no_deadline() -> None:
    async with echo_app() as app, Mesh(tcp_app=app, intercept=True) as mesh:
        mesh.enforce(rule("ledger", ports=[TCP_PORT]))
        _, writer = await mesh.arrive(TCP_PORT)
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        await until(lambda: len(mesh.api.inbound.direct._ends) == 1)
        [end] = mesh.api.inbound.direct._ends
        assert end._transport is not None
        assert end._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        writer.close()
        await until(lambda: mesh.api.inbound.direct.open_count == 0)
