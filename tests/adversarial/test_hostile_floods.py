"""Peers with a valid SVID that send too much, break the protocol or take nothing: each is cut off alone, at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import pytest

from sidecar.http2 import frames as h2
from sidecar.tunnel import machine
from sidecar.tunnel.sending import CONNECTION_WINDOW_BYTES, FRAME_LIMIT_BYTES, HELD_LIMIT_BYTES
from sidecar.tunnel.stream import EXTRA_LIMIT_BYTES, STREAM_WINDOW_BYTES
from tests.calm_mesh import OWN_TCP, calm_mesh, dial
from tests.data_path import WEB, HttpClient, Mesh, serving, until
from tests.raw_peer import RawPeer

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
