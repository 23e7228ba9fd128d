"""Peers with a valid SVID that keep no rule of the tunnel: each gets its defined answer, and leaves nothing behind.

A raw peer speaks real TLS to the real inbound side over loopback and then sends what its test says. After each test
relays, links, tasks and descriptors are back where they were, and an honest caller is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from ringfence.spiffe import X509Svid
from sidecar.http2 import frames as h2
from sidecar.tunnel import machine
from sidecar.tunnel.sending import CONNECTION_WINDOW_BYTES, FRAME_LIMIT_BYTES, HELD_LIMIT_BYTES
from sidecar.tunnel.stream import EXTRA_LIMIT_BYTES, STREAM_WINDOW_BYTES
from tests.data_path import API, HTTP_PORT, TCP_PORT, WEB, HttpClient, Mesh, echo_app, http_app, serving, until
from tests.pki import TestCa
from tests.raw_peer import HELLO, RawPeer, raw_server

OWN_HTTP = b"127.0.0.1:%d" % HTTP_PORT
OWN_TCP = b"127.0.0.1:%d" % TCP_PORT
CONNECT = (b":method", b"CONNECT")
Fields = list[tuple[bytes, bytes]]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of this process, now


async def honest_call(mesh: Mesh) -> None:
    client = await HttpClient.to(mesh.http_listen)
    assert (await client.ask("GET", "/orders/1")).status == 200
    client.close()
    await until(lambda: not len(mesh.web.outbound.relays) and not len(mesh.api.inbound.relays))


@contextlib.asynccontextmanager
async def calm_mesh(*, tcp_app: int | None = None, seen: list[bytes] | None = None) -> AsyncIterator[Mesh]:
    """A mesh that must be as calm after the test as before it, and serve its honest callers."""
    async with echo_app() as echo, http_app(seen) as http, Mesh(http_app=http, tcp_app=tcp_app or echo) as mesh:
        await honest_call(mesh)
        first = await RawPeer.dial(mesh.mesh_port, mesh.ca.svid(WEB))
        first.close()
        await until(lambda: len(mesh.api.links) == 1)
        await until(lambda: len(asyncio.all_tasks()) <= 4)
        before = (descriptors(), len(asyncio.all_tasks()))
        yield mesh
        await until(lambda: not len(mesh.api.inbound.relays) and not mesh.api.inbound.connects)
        await until(lambda: len(mesh.api.links) == 1)
        try:
            # What an earlier test of this process left may be gone meanwhile.
            await until(lambda: descriptors() <= before[0] and len(asyncio.all_tasks()) == before[1])
        except TimeoutError:
            now = (descriptors(), len(asyncio.all_tasks()))
            raise AssertionError(f"(descriptors, tasks): {before} before, {now} after: {asyncio.all_tasks()}") from None
        for link in mesh.api.links:
            await until(lambda link=link: not link.machine.streams)  # type: ignore[misc]
            assert link.machine.held_bytes == link.machine.kept_bytes == 0
        await honest_call(mesh)
        assert not mesh.api.log("defect")
        assert "internal_error" not in mesh.api.lines.getvalue()


async def dial(mesh: Mesh, svid: X509Svid | None = None) -> RawPeer:
    return await RawPeer.dial(mesh.mesh_port, svid or mesh.ca.svid(WEB))


# -- CONNECT ----------------------------------------------------------------------------------------------------------

FOREIGN = [
    b"10.9.8.7:8080",
    b"127.0.0.2:8080",
    b"127.0.0.1:22",
    b"127.0.0.1:15008",
    b"localhost:8080",
    b"api.shop.svc.cluster.local:8080",
    b"[::1]:8080",
    b"[::ffff:127.0.0.1]:8080",
    b"0.0.0.0:8080",
    b"127.1:8080",
    b"2130706433:8080",
    b"0x7f.0.0.1:8080",
    b"127.0.0.1",
    b"127.0.0.1:",
    b"127.0.0.1:08080",
    b"127.0.0.1:+8080",
    b"127.0.0.1:8080:8080",
    b"127.0.0.1:73616",
    b" 127.0.0.1:8080",
    b"127.0.0.1:8080 ",
    b"127.0.0.1:8080\0",
    b"127.0.0.1:8080\r\nhost: x",
    b"user@127.0.0.1:8080",
    b"http://127.0.0.1:8080/",
    b"\xff\xfe",
    b":8080",
    b"",
]
MALFORMED: dict[str, Fields] = {
    "no authority": [CONNECT],
    "no method": [(b":authority", OWN_TCP)],
    "no field at all": [],
    "two authorities": [CONNECT, (b":authority", OWN_TCP), (b":authority", OWN_TCP)],
    "two methods": [CONNECT, CONNECT, (b":authority", OWN_TCP)],
    "a path": [CONNECT, (b":authority", OWN_TCP), (b":path", b"/")],
    "a scheme": [CONNECT, (b":authority", OWN_TCP), (b":scheme", b"https")],
    "extended CONNECT": [
        CONNECT,
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":path", b"/"),
        (b":authority", OWN_TCP),
    ],
    "a status": [(b":status", b"200")],
    "an unknown pseudo header": [CONNECT, (b":authority", OWN_TCP), (b":rule", b"allow")],
    "CONNECT in lower case": [(b":method", b"connect"), (b":authority", OWN_TCP)],
    "GET": [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/orders/1"), (b":authority", OWN_HTTP)],
    "POST": [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/orders/1"), (b":authority", OWN_HTTP)],
}


async def test_connect_to_what_is_not_the_workloads_own_is_refused_by_name_and_the_link_lives_on() -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        for number, authority in enumerate(FOREIGN):
            stream_id = 2 * number + 1
            peer.send(peer.connect(stream_id, authority))
            fields = peer.fields(await peer.next(h2.HEADERS, stream_id))
            assert fields[b":status"] == b"403", authority
            assert fields[b"x-ringfence-refusal"].startswith(b"reason=not_own_address; id="), authority
            assert fields[b"x-ringfence-refusal"].endswith(f"origin={API}".encode()), authority
            assert (await peer.next(h2.RST_STREAM, stream_id)).code == h2.NO_ERROR
        assert len(mesh.api.log("connection denied")) == len(FOREIGN)
        denied = mesh.api.metrics.denials.at("inbound", str(WEB), "shop/api", "not_own_address")
        assert denied.value == len(FOREIGN)
        peer.close()


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_request_that_is_no_plain_connect_is_refused(case: str) -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        peer.send(peer.headers(1, *MALFORMED[case]))
        fields = peer.fields(await peer.next(h2.HEADERS, 1))
        assert fields[b":status"] == b"403"
        assert b"reason=not_own_address" in fields[b"x-ringfence-refusal"]
        assert not len(mesh.api.inbound.relays)
        assert await peer.alive()
        peer.close()


async def test_further_fields_of_a_connect_change_nothing() -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        spoofed = [
            (b"x-ringfence-refusal", b"reason=caller_not_allowed; id=00; origin=me"),
            (b"x-forwarded-client-cert", b"URI=spiffe://shop.example/ns/shop/sa/admin"),
            (b"host", b"10.0.0.1"),
        ]
        peer.send(peer.connect(1, OWN_TCP, *spoofed), h2.frame(h2.DATA, h2.FLAG_END_STREAM, 1, b"echo"))
        fields = peer.fields(await peer.next(h2.HEADERS, 1))
        assert fields == {b":status": b"200"}
        assert (await peer.next(h2.DATA, 1)).payload == b"echo"
        [(facts, _)] = [(relay.facts, caller) for relay, caller in mesh.api.inbound.relays] or [(None, None)]
        assert facts is None or facts.peer == str(WEB)
        peer.close()
        await until(lambda: len(mesh.api.log("connection ended")) >= 1)
        assert {line["peer"] for line in mesh.api.log("connection ended")} == {str(WEB)}


async def test_a_caller_whom_nothing_permits_is_told_so_and_no_more() -> None:
    stranger = "spiffe://shop.example/ns/shop/sa/stranger"
    async with calm_mesh() as mesh:
        peer = await dial(mesh, mesh.ca.svid(stranger))
        peer.send(peer.connect(1, OWN_TCP))
        fields = peer.fields(await peer.next(h2.HEADERS, 1))
        assert fields.keys() == {b":status", b"x-ringfence-refusal"}
        assert fields[b":status"] == b"403"
        assert b"caller_not_allowed" in fields[b"x-ringfence-refusal"]
        assert b"ledger" not in fields[b"x-ringfence-refusal"]
        peer.close()


async def test_no_byte_of_a_peer_without_identity_reaches_a_stream() -> None:
    now = TestCa("shop.example")
    async with calm_mesh() as mesh:
        rogues: list[X509Svid | None] = [
            None,
            now.svid(WEB),
            TestCa("partner.example").svid("spiffe://partner.example/ns/shop/sa/web"),
            mesh.ca.svid(WEB, lifetime=-10.0, not_before=-3600.0),
        ]
        started = mesh.api.metrics.tunnels.at("inbound").value
        for rogue in rogues:
            peer = await RawPeer.dial(mesh.mesh_port, rogue, hello=b"")
            peer.send(HELLO, peer.connect(1, OWN_TCP), h2.frame(h2.DATA, 0, 1, b"secret"))
            assert not [frame for frame in await peer.ended() if frame.kind == h2.HEADERS]
            peer.close()
        await until(lambda: len(mesh.api.failures) == len(rogues))
        assert mesh.api.metrics.tunnels.at("inbound").value == started
        assert not len(mesh.api.inbound.relays)


# -- floods and broken frames -----------------------------------------------------------------------------------------


def rapid_reset(peer: RawPeer) -> list[bytes]:
    return [part for n in range(1, 20_001, 2) for part in (peer.connect(n, OWN_TCP), h2.rst_stream(n, h2.CANCEL))]


CUT_OFF: dict[str, tuple[Callable[[RawPeer], list[bytes]], int]] = {
    "pings": (lambda _: [h2.ping(bytes(8))] * 1000, h2.ENHANCE_YOUR_CALM),
    "settings": (lambda _: [h2.settings({})] * 1000, h2.ENHANCE_YOUR_CALM),
    "goaways": (lambda _: [h2.goaway(0, 0)] * 1000, h2.ENHANCE_YOUR_CALM),
    "priorities": (lambda _: [h2.frame(h2.PRIORITY, 0, 1, bytes(5))] * 1000, h2.ENHANCE_YOUR_CALM),
    "unknown frames": (lambda _: [h2.frame(0x77, 0, 0, b"")] * 1000, h2.ENHANCE_YOUR_CALM),
    "empty data": (lambda peer: [peer.connect(1, OWN_TCP)] + [h2.frame(h2.DATA, 0, 1)] * 1000, h2.ENHANCE_YOUR_CALM),
    "padded nothing": (
        lambda peer: [peer.connect(1, OWN_TCP)] + [h2.frame(h2.DATA, h2.FLAG_PADDED, 1, b"\x07" + bytes(7))] * 1000,
        h2.ENHANCE_YOUR_CALM,
    ),
    "rapid reset": (rapid_reset, h2.ENHANCE_YOUR_CALM),
    "refused streams": (lambda peer: [peer.connect(n, b"x:1") for n in range(1, 20_001, 2)], h2.ENHANCE_YOUR_CALM),
    "continuations": (
        lambda _: [h2.frame(h2.HEADERS, 0, 1, b"")] + [h2.frame(h2.CONTINUATION, 0, 1, b"")] * 100,
        h2.ENHANCE_YOUR_CALM,
    ),
    "proofs that prove nothing": (
        lambda _: [h2.settings({0xF1CE: 1}), h2.frame(0xF1, 0, 0, b"not a proof")] * 30,
        h2.PROTOCOL_ERROR,
    ),
    "a proof from one who never announced it": (lambda _: [h2.frame(0xF1, 0, 0, b"x")], h2.PROTOCOL_ERROR),
    "a large header block": (
        lambda peer: [peer.connect(1, OWN_TCP, *((b"x-%d" % n, bytes(200)) for n in range(100)))],
        h2.ENHANCE_YOUR_CALM,
    ),
    "a header bomb": (
        # One field of 3 kB put into the table, then named by one byte five thousand times.
        lambda peer: [
            peer.connect(1, OWN_TCP, (b"x", b"y" * 3000)),
            h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, 3, b"\xbe" * 5000),
        ],
        h2.COMPRESSION_ERROR,
    ),
    "a table larger than allowed": (
        lambda _: [h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, 1, b"\x3f\xe1\xff\x03\x82")],
        h2.COMPRESSION_ERROR,
    ),
    "an index beyond the table": (
        lambda _: [h2.frame(h2.HEADERS, h2.FLAG_END_HEADERS, 1, b"\xff\x80\x01")],
        h2.COMPRESSION_ERROR,
    ),
    "a frame beyond the limit": (
        lambda _: [(FRAME_LIMIT_BYTES + 1).to_bytes(3, "big") + b"\0\0\0\0\0\1" + bytes(100)],
        h2.FRAME_SIZE_ERROR,
    ),
    "data on an idle stream": (lambda _: [h2.frame(h2.DATA, 0, 9, b"x")], h2.PROTOCOL_ERROR),
    "an even stream": (lambda peer: [peer.connect(2, OWN_TCP)], h2.PROTOCOL_ERROR),
    "stream 0": (lambda peer: [peer.connect(0, OWN_TCP)], h2.PROTOCOL_ERROR),
    "a push": (lambda _: [h2.frame(h2.PUSH_PROMISE, 4, 1, b"\0\0\0\2")], h2.PROTOCOL_ERROR),
    "a reset of an idle stream": (lambda _: [h2.rst_stream(9, 0)], h2.PROTOCOL_ERROR),
    "a window of 0": (lambda _: [h2.window_update(0, 0)], h2.PROTOCOL_ERROR),
    "a window too large": (lambda _: [h2.window_update(0, h2.LARGEST_WINDOW_BYTES)], h2.FLOW_CONTROL_ERROR),
    "a second preface": (lambda _: [h2.PREFACE], h2.FRAME_SIZE_ERROR),
    "garbage": (lambda _: [bytes(range(256)) * 64], h2.FRAME_SIZE_ERROR),
}


LIMITS = {
    "pings": "ping_flood",
    "settings": "settings_flood",
    "goaways": "goaway_flood",
    "priorities": "priority_flood",
    "unknown frames": "unknown_flood",
    "empty data": "empty_data_flood",
    "padded nothing": "empty_data_flood",
    "rapid reset": "reset_flood",
    "refused streams": "refused_flood",
    "continuations": "continuation_flood",
    "a large header block": "header_block_flood",
}


@pytest.mark.parametrize("case", CUT_OFF)
async def test_a_peer_that_breaks_the_protocol_is_told_its_crime_and_cut_off_alone(case: str) -> None:
    attack, code = CUT_OFF[case]
    async with calm_mesh() as mesh:
        bystander = await dial(mesh)
        bystander.send(bystander.connect(1, OWN_TCP))
        await bystander.next(h2.HEADERS, 1)
        peer = await dial(mesh)
        peer.send(*attack(peer))
        await peer.ended()
        goaways = [frame for frame in peer.seen if frame.kind == h2.GOAWAY]
        assert [frame.code for frame in goaways] == [code]
        if case.startswith("proofs"):
            assert mesh.api.proofs == ["refused"]
        else:
            [line] = mesh.api.log("tunnel broken")
            reason = LIMITS.get(case, h2.ERROR_NAMES[code])
            assert line["reason"] == reason
            assert line["peer"] == str(WEB)
            assert mesh.api.metrics.tunnel_errors.at("inbound", reason).value == 1
        bystander.send(h2.frame(h2.DATA, h2.FLAG_END_STREAM, 1, b"still here"))
        assert (await bystander.next(h2.DATA, 1)).payload == b"still here"
        peer.close()
        bystander.close()


async def test_data_beyond_the_window_is_a_crime_and_none_of_it_is_kept() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # the first connection fills it, and no other is ever made: nothing is consumed
        with socket.create_connection(full.getsockname()):
            async with calm_mesh(tcp_app=full.getsockname()[1]) as mesh:
                peer = await dial(mesh)
                piece = h2.frame(h2.DATA, 0, 3, bytes(FRAME_LIMIT_BYTES))
                peer.send(peer.connect(1, OWN_TCP), peer.connect(3, OWN_TCP))
                peer.send(*[piece] * (STREAM_WINDOW_BYTES // FRAME_LIMIT_BYTES))
                assert await peer.alive()
                peer.send(h2.frame(h2.DATA, 0, 3, b"one byte more"))
                assert (await peer.next(h2.GOAWAY)).code == h2.FLOW_CONTROL_ERROR
                await peer.ended()
                peer.close()


@pytest.mark.parametrize("plain", [True, False])
async def test_garbage_in_place_of_tls_records_ends_the_link(plain: bool) -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        assert await peer.alive()
        peer.send(peer.connect(1, OWN_TCP))
        await peer.next(h2.HEADERS, 1)
        garbage = b"GET / HTTP/1.1\r\n" * 1000 if plain else b"\x17\x03\x03\x01\x00" + bytes(256)
        peer.writer.write(garbage)
        await peer.ended()
        [line] = mesh.api.log("tunnel broken")
        assert line["reason"].startswith("tls_")
        assert not mesh.api.failures  # no handshake failed
        peer.close()


async def test_streams_beyond_the_limit_are_refused_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "STREAM_LIMIT", 50)
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        peer.send(*(peer.connect(n, OWN_TCP) for n in range(1, 101, 2)))
        for n in range(1, 101, 2):
            await peer.next(h2.HEADERS, n)
        for n in (101, 103):
            peer.send(peer.connect(n, OWN_TCP))
            assert (await peer.next(h2.RST_STREAM, n)).code == h2.REFUSED_STREAM
        peer.send(h2.rst_stream(1, h2.CANCEL), peer.connect(105, OWN_TCP))
        await peer.next(h2.HEADERS, 105)
        peer.close()


# -- slow readers -----------------------------------------------------------------------------------------------------


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends for ever to whoever says so, and echoes to the others."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            if data == b"more":
                while True:
                    writer.write(bytes(65536))
                    await writer.drain()
            writer.write(data)
    writer.close()


async def test_a_stream_without_window_holds_up_nobody_on_its_link() -> None:
    async with serving(endless) as app, calm_mesh(tcp_app=app) as mesh:
        peer = await dial(mesh)
        peer.send(h2.window_update(0, 1 << 30))
        peer.send(peer.connect(1, OWN_TCP), h2.frame(h2.DATA, 0, 1, b"more"))
        numbers = range(3, 203, 2)
        peer.send(*(peer.connect(n, OWN_TCP) for n in numbers))
        for round_number in range(3):
            peer.send(*(h2.frame(h2.DATA, 0, n, b"%d" % round_number) for n in numbers))
            for n in numbers:
                assert (await peer.next(h2.DATA, n)).payload == b"%d" % round_number
        got = sum(len(frame.payload) for frame in peer.seen if frame.kind == h2.DATA and frame.stream_id == 1)
        assert got == h2.DEFAULT_WINDOW_BYTES
        kept = [link.machine.kept_bytes for link in mesh.api.links if link.machine.kept_bytes]
        assert len(kept) == 1
        assert kept[0] <= 1 << 20
        peer.close()


async def test_a_peer_that_takes_no_byte_holds_up_no_other_link() -> None:
    async with serving(endless) as app, calm_mesh(tcp_app=app) as mesh:
        deaf = await dial(mesh)
        deaf.send(h2.settings({h2.SETTING_INITIAL_WINDOW_SIZE: h2.LARGEST_WINDOW_BYTES}))
        deaf.send(h2.window_update(0, 1 << 30))
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for n in range(1, 21, 2):
            deaf.send(deaf.connect(n, OWN_TCP), h2.frame(h2.DATA, 0, n, b"more"))
        await until(lambda: any(link._paused for link in mesh.api.links))
        [link] = [link for link in mesh.api.links if link._paused]
        for _ in range(5):
            await honest_call_beside(mesh)
        assert link._transport is not None
        assert link._transport.get_write_buffer_size() <= 4 << 20
        assert link.machine.kept_bytes <= 10 << 20
        deaf.writer.transport.abort()
        deaf.close()


async def honest_call_beside(mesh: Mesh) -> None:
    client = await HttpClient.to(mesh.http_listen)
    assert (await client.ask("GET", "/orders/1")).status == 200
    client.close()


async def test_apps_that_take_nothing_hold_no_more_than_their_windows() -> None:
    over = asyncio.Event()
    piece_bytes = 64 * 1024

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await over.wait()
        writer.transport.abort()
        writer.close()

    async with serving(stall) as app, calm_mesh(tcp_app=app) as mesh:
        peer = await dial(mesh)
        numbers = range(1, 11, 2)
        peer.send(*(peer.connect(n, OWN_TCP) for n in numbers))
        for n in numbers:
            await peer.next(h2.HEADERS, n)
        [link] = [link for link in mesh.api.links if link.machine.streams]
        windows = dict.fromkeys((0, *numbers), STREAM_WINDOW_BYTES) | {0: CONNECTION_WINDOW_BYTES}
        looked = len(peer.seen)
        # An honest sender, as fast as it may be, until every app is full and every window is used.
        while not all(stream.held_bytes for stream in link.machine.streams.values()) or any(
            window >= piece_bytes for window in windows.values() if window is not windows[0]
        ):
            sent = 0
            for n in numbers:
                while min(windows[n], windows[0]) >= piece_bytes:
                    peer.send(h2.frame(h2.DATA, 0, n, bytes(piece_bytes)))
                    windows[n] -= piece_bytes
                    windows[0] -= piece_bytes
                    sent += 1
            if sent:
                await asyncio.sleep(0)
            else:  # what is on its way may fill the last app, so that no update comes any more
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(peer.next(h2.WINDOW_UPDATE), 0.1)
            for frame in peer.seen[looked:]:
                if frame.kind == h2.WINDOW_UPDATE:
                    windows[frame.stream_id] += int.from_bytes(frame.payload, "big")
            looked = len(peer.seen)
        extra_bytes = link.machine.extra_bytes  # granted while the sockets' own buffers took everything
        assert extra_bytes <= EXTRA_LIMIT_BYTES
        assert link.machine.held_bytes <= len(numbers) * STREAM_WINDOW_BYTES + extra_bytes <= HELD_LIMIT_BYTES
        assert await peer.alive()
        over.set()
        peer.close()


# -- ends in every state ----------------------------------------------------------------------------------------------

STATES: dict[str, list[str]] = {
    "just opened": ["connect"],
    "with early data": ["connect", "data"],
    "answered": ["connect", "answer"],
    "in the middle": ["connect", "answer", "data", "echo"],
    "half closed by us": ["connect", "answer", "end"],
    "closed by both": ["connect", "data", "end", "echo", "closed"],
    "refused": ["foreign", "answer"],
    "reset already": ["connect", "reset"],
}


async def bring(peer: RawPeer, steps: list[str]) -> None:
    for step in steps:
        if step == "connect":
            peer.send(peer.connect(1, OWN_TCP))
        elif step == "foreign":
            peer.send(peer.connect(1, b"10.0.0.1:1"))
        elif step == "answer":
            await peer.next(h2.HEADERS, 1)
        elif step == "data":
            peer.send(h2.frame(h2.DATA, 0, 1, b"data"))
        elif step == "end":
            peer.send(h2.frame(h2.DATA, h2.FLAG_END_STREAM, 1))
        elif step == "echo":
            assert (await peer.next(h2.DATA, 1)).payload == b"data"
        elif step == "reset":
            peer.send(h2.rst_stream(1, h2.CANCEL))
        elif step == "closed":
            while not (await peer.next(h2.DATA, 1)).flags & h2.FLAG_END_STREAM:
                pass


AFTERS: dict[str, Callable[[RawPeer], list[bytes]]] = {
    "a reset": lambda _: [h2.rst_stream(1, h2.CANCEL)],
    "two resets": lambda _: [h2.rst_stream(1, h2.CANCEL)] * 2,
    "a reset without error": lambda _: [h2.rst_stream(1, h2.NO_ERROR)],
    "data": lambda _: [h2.frame(h2.DATA, 0, 1, b"late")],
    "an end": lambda _: [h2.frame(h2.DATA, h2.FLAG_END_STREAM, 1, b"late")],
    "two ends": lambda _: [h2.frame(h2.DATA, h2.FLAG_END_STREAM, 1)] * 2,
    "trailers": lambda peer: [peer.headers(1, (b"x", b"y"), end=True)],
    "trailers without an end": lambda peer: [peer.headers(1, (b"x", b"y"))],
    "a window": lambda _: [h2.window_update(1, 1000)],
    "a window too large": lambda _: [h2.window_update(1, h2.LARGEST_WINDOW_BYTES)],
}


@pytest.mark.parametrize("state", STATES)
async def test_whatever_comes_for_a_stream_in_whatever_state_costs_that_stream_at_most(state: str) -> None:
    async with calm_mesh() as mesh:
        for after, make in AFTERS.items():
            peer = await dial(mesh)
            await bring(peer, STATES[state])
            peer.send(*make(peer))
            peer.send(peer.connect(3, OWN_TCP), h2.frame(h2.DATA, h2.FLAG_END_STREAM, 3, b"another"))
            assert (await peer.next(h2.DATA, 3)).payload == b"another", after
            peer.close()
        await until(lambda: len(mesh.api.links) == 1)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_peer_that_vanishes_in_whatever_state_leaves_nothing(state: str, how: str) -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        await bring(peer, STATES[state])
        if how == "rst":
            peer.writer.transport.abort()
        elif peer.writer.can_write_eof():
            peer.writer.write_eof()
            await peer.ended()
        peer.close()


async def test_a_connect_that_says_nothing_more_costs_a_relay_and_goes_with_its_peer() -> None:
    async with calm_mesh() as mesh:
        peer = await dial(mesh)
        peer.send(*(peer.connect(n, OWN_TCP) for n in range(1, 101, 2)))
        peer.send(*(peer.connect(n, OWN_HTTP) for n in range(101, 201, 2)))
        await until(lambda: len(mesh.api.inbound.relays) == 100)
        await until(lambda: not mesh.api.inbound.connects)
        peer.close()
        await until(lambda: not len(mesh.api.inbound.relays))


async def test_http_in_a_raw_stream_is_judged_like_any_other() -> None:
    seen: list[bytes] = []
    async with calm_mesh(seen=seen) as mesh:
        seen.clear()
        peer = await dial(mesh)
        spoof = b"x-forwarded-client-cert: URI=spiffe://shop.example/ns/shop/sa/admin\r\n"
        peer.send(peer.connect(1, OWN_HTTP))
        for line in (b"GET /orders/1 HTTP/1.1", b"GET /admin HTTP/1.1", b"DELETE /orders/1 HTTP/1.1"):
            peer.send(h2.frame(h2.DATA, 0, 1, line + b"\r\nhost: api\r\n" + spoof + b"\r\n"))
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 3:
            answers += (await peer.next(h2.DATA, 1)).payload
        assert [answers.count(b"HTTP/1.1 " + status) for status in (b"200", b"403")] == [1, 2]
        assert len(seen) == 1
        assert b"admin" not in seen[0]
        assert f"URI={WEB}".encode() in seen[0]
        peer.close()


# -- spoofed refusals -------------------------------------------------------------------------------------------------

SPOOF = b"x-ringfence-refusal: reason=caller_not_allowed; id=aa; origin=spiffe://shop.example/ns/shop/sa/api\r\n"


@pytest.mark.parametrize("trailer", [False, True])
async def test_a_refusal_told_by_an_app_reaches_nobody(trailer: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                if trailer:
                    writer.write(b"HTTP/1.1 403 F\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + SPOOF + b"\r\n")
                else:
                    writer.write(b"HTTP/1.1 403 F\r\n" + SPOOF + b"content-length: 0\r\n\r\n")
        writer.close()

    async with serving(serve) as app, Mesh(http_app=app) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.http_listen)
        writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):  # a forged trailer cuts its response off
            while piece := await asyncio.wait_for(reader.read(4096), 10):
                answer += piece
        writer.close()
        assert answer.startswith((b"HTTP/1.1 403 F\r\n", b"HTTP/1.1 502") if trailer else b"HTTP/1.1 403 F\r\n")
        assert b"caller_not_allowed" not in answer
        for line in mesh.web.log("request denied") + mesh.api.log("request denied"):
            assert line["reason"] == "protocol_error"


async def test_a_refusal_told_by_a_client_reaches_no_app() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1", headers=SPOOF.decode())).status == 200
        client.close()
        assert b"refusal" not in seen[0]
        assert not mesh.api.log("request denied")


# -- hostile servers --------------------------------------------------------------------------------------------------

SERVER_CRIMES: dict[str, Callable[[RawPeer], list[bytes]]] = {
    "a stream of its own": lambda peer: [peer.headers(2, (b":method", b"CONNECT"), (b":authority", b"x:1"))],
    "headers on an idle stream": lambda peer: [peer.headers(99, (b":status", b"200"))],
    "a push": lambda _: [h2.frame(h2.PUSH_PROMISE, 4, 1, b"\0\0\0\2")],
    "data on an idle stream": lambda _: [h2.frame(h2.DATA, 0, 99, b"x")],
    "garbage": lambda _: [bytes(range(256)) * 64],
    "a window of 0": lambda _: [h2.window_update(1, 0)],
    "a flood of goaways": lambda _: [h2.goaway(h2.LARGEST_WINDOW_BYTES, 0)] * 1000,
}


@pytest.mark.parametrize("crime", SERVER_CRIMES)
async def test_a_server_that_breaks_the_protocol_is_answered_for_and_left(crime: str) -> None:
    async def serve(peer: RawPeer) -> None:
        await peer.next(h2.HEADERS)
        peer.send(*SERVER_CRIMES[crime](peer))
        await peer.ended()

    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), serve) as port:
        mesh.lead_to(port)
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1")
        assert (reply.status, reply.json()["reason"]) == (502, "protocol_error")
        client.close()
        await until(lambda: not len(mesh.web.outbound.relays) and not mesh.web.outbound.pool.links)
        assert len(mesh.web.log("tunnel broken")) == 1


@pytest.mark.parametrize(
    "reply",
    [
        [(b":status", b"200"), (b":status", b"403")],
        [(b":status", b"")],
        [(b":status", b"2000")],
        [(b"x", b"no status at all")],
        [(b":status", b"407"), (b"proxy-authenticate", b"\xff\r\n\x1b[31m")],
        [(b":status", b"503"), (b"x-ringfence-refusal", b"reason=overloaded; id=aa; origin=\r\nx: y")],
    ],
)
async def test_an_answer_to_connect_that_is_no_yes_is_a_no(reply: list[tuple[bytes, bytes]]) -> None:
    async def serve(peer: RawPeer) -> None:
        request = await peer.next(h2.HEADERS)
        peer.send(peer.headers(request.stream_id, *reply), h2.frame(h2.DATA, 0, request.stream_id, b"HTTP/1.1 200 OK"))
        await peer.ended()

    async with Mesh() as mesh, raw_server(mesh.ca.svid(API), serve) as port:
        mesh.lead_to(port)
        client = await HttpClient.to(mesh.http_listen)
        answer = await client.ask("GET", "/orders/1")
        assert (answer.status, answer.json()["reason"]) == (502, "upstream_unreachable")
        client.close()
        for line in mesh.web.lines.getvalue().splitlines():
            assert "\x1b" not in line
        await until(lambda: not len(mesh.web.outbound.relays))
