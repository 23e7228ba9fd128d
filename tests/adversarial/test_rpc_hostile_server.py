"""A control plane that turned hostile, behind good TLS: every wait ends, all is bounded, nothing reads as OK."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import hpack
import pytest

from ringfence.wire.gen import control_pb2, issuing_pb2
from sidecar.http2 import frames
from sidecar.rpc import Connection, RpcError, StatusCode, method
from sidecar.rpc.stream import WINDOW_BYTES
from tests.rpc_ends import HEAD, OK, RawPeer, RawServers, headers, message
from tests.waiting import until

JOIN = method(issuing_pb2.DESCRIPTOR, "Joining", "Join", issuing_pb2.JoinRequest, issuing_pb2.SvidResponse)
SUBSCRIBE = method(control_pb2.DESCRIPTOR, "Control", "Subscribe", control_pb2.SidecarReport, control_pb2.Snapshot)
TOKEN = b"a token that nobody else may see"
Script = Callable[[RawPeer], Awaitable[None]]


@pytest.fixture
def servers() -> RawServers:
    return RawServers()


def answering(*wire: bytes, settings: bytes = frames.settings({})) -> Script:
    """Says this as soon as there is a request, and then no more."""

    async def script(peer: RawPeer) -> None:
        await peer.write(settings)
        while TOKEN not in peer.seen:
            if not await peer.read():
                return
        for part in wire:
            await peer.write(part)
        await peer.read_all()

    return script


def pouring(first: bytes, part: bytes) -> Script:
    """Says this over and over, for as long as anybody listens."""

    async def script(peer: RawPeer) -> None:
        await peer.write(frames.settings({}) + first)
        while True:
            await peer.write(part)
            await asyncio.sleep(0)

    return script


async def ask(connection: Connection, deadline_seconds: float = 10.0) -> issuing_pb2.SvidResponse:
    request = issuing_pb2.JoinRequest(token=TOKEN.decode())
    return await connection.unary(JOIN, request, deadline_seconds=deadline_seconds)


async def refusal(servers: RawServers, script: Script, *, deadline_seconds: float = 10.0, **limits: Any) -> RpcError:
    """What a call to such a server ends with; nothing may be left of it."""
    async with servers.serving(script) as address:
        with pytest.raises(RpcError) as error:
            async with servers.connect(address, **limits) as connection:
                await ask(connection, deadline_seconds)
        await until(lambda: connection._transport is None or connection._transport.is_closing())
    assert len(str(error.value)) < 20_000
    return error.value


# --------------------------------------------------------------------------------------------------------- says nothing


async def test_a_server_that_never_answers_is_left_at_the_deadline(servers: RawServers) -> None:
    error = await refusal(servers, answering(), deadline_seconds=0.1)
    assert error.code is StatusCode.DEADLINE_EXCEEDED
    await until(lambda: frames.rst_stream(1, frames.CANCEL) in servers.peers[0].seen)


async def test_a_server_without_settings_is_left_at_the_deadline(servers: RawServers) -> None:
    error = await refusal(servers, answering(settings=b""), deadline_seconds=0.1)
    assert error.code is StatusCode.DEADLINE_EXCEEDED


async def test_a_server_that_gives_no_window_is_left_at_the_deadline(servers: RawServers) -> None:
    async def closed(peer: RawPeer) -> None:
        await peer.write(frames.settings({frames.SETTING_INITIAL_WINDOW_SIZE: 0}))
        await peer.read_all()

    async with servers.serving(closed) as address, servers.connect(address) as connection:
        call = connection.stream(SUBSCRIBE)
        await until(lambda: call._stream.send_window == 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call.write(control_pb2.SidecarReport())
        with pytest.raises(RpcError) as error:
            await call.read()
        assert error.value.code is StatusCode.CANCELLED


async def test_a_peer_that_is_gone_without_a_word_is_found_out(servers: RawServers) -> None:
    # Half open: the connection stands, and nothing ever comes on it.
    go = asyncio.Event()

    async def dead(peer: RawPeer) -> None:
        await peer.write(frames.settings({}) + headers(1, HEAD))
        await go.wait()

    try:
        async with (
            servers.serving(dead) as address,
            servers.connect(address, keepalive_seconds=0.05, keepalive_timeout_seconds=0.05) as connection,
        ):
            with pytest.raises(RpcError, match="no sign of life"):
                await connection.stream(SUBSCRIBE).read()
            # Whatever is tried on it afterwards ends the same.
            with pytest.raises(RpcError, match="no sign of life"):
                connection.stream(SUBSCRIBE)
    finally:
        go.set()


async def test_a_server_that_reads_nothing_cannot_make_answers_pile_up(servers: RawServers) -> None:
    async def deaf(peer: RawPeer) -> None:
        peer.writer.transport.pause_reading()
        await peer.write(frames.settings({}))
        while True:
            await peer.write(frames.ping(b"12345678"))
            await asyncio.sleep(0)

    error = await refusal(servers, deaf)
    assert "too many frames of kind ping" in error.details


async def test_a_server_that_cuts_the_connection_is_unavailable(servers: RawServers) -> None:
    async def cut(peer: RawPeer) -> None:
        await peer.write(frames.settings({}) + headers(1, HEAD)[:-3])

    assert (await refusal(servers, cut)).code is StatusCode.UNAVAILABLE


# -------------------------------------------------------------------------------------------------------- says nonsense


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        b"\0" * 1000,
        b"\xff" * 1000,
        frames.PREFACE,
        random.Random(7).randbytes(10_000),
    ],
)
async def test_garbage_is_no_http2(servers: RawServers, garbage: bytes) -> None:
    error = await refusal(servers, answering(garbage, settings=b""))
    assert error.code is StatusCode.INTERNAL
    assert "breaks HTTP/2" in error.details


@pytest.mark.parametrize(
    "wire",
    [
        headers(1, [*HEAD, *OK], end=True),
        headers(1, HEAD) + headers(1, OK, end=True),
        headers(1, HEAD) + message(1, b"") + headers(1, [], end=True),
        headers(1, HEAD) + message(1, b"") + headers(1, [*OK, *OK], end=True),
        headers(1, HEAD) + message(1, b"") + headers(1, [(b"grpc-status", b"00")], end=True),
        headers(1, HEAD) + message(1, b"") + headers(1, [(b"grpc-status", b"13")], end=True),
        headers(1, HEAD) + message(1, b"") + frames.frame(frames.DATA, frames.FLAG_END_STREAM, 1),
        headers(1, HEAD) + message(1, b"") + message(1, b"") + headers(1, OK, end=True),
        headers(1, HEAD) + message(1, b"") + frames.rst_stream(1, frames.NO_ERROR),
        headers(1, HEAD) + message(1, b"\xff\xff\xff") + headers(1, OK, end=True),
        headers(1, HEAD) + frames.frame(frames.DATA, 0, 1, b"\1\0\0\0\0") + headers(1, OK, end=True),
        headers(1, HEAD) + frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\5x") + headers(1, OK, end=True),
        headers(1, [(b":status", b"200"), (b"content-type", b"text/html")])
        + message(1, b"")
        + headers(1, OK, end=True),
        message(1, b"") + headers(1, OK, end=True),
        frames.goaway(0, frames.INTERNAL_ERROR, b"\xff" * 1000),
    ],
)
async def test_what_is_no_whole_answer_is_no_answer(servers: RawServers, wire: bytes) -> None:
    error = await refusal(servers, answering(wire))
    assert error.code is not StatusCode.OK


async def test_a_wrong_status_code_is_not_ok(servers: RawServers) -> None:
    trailers = headers(1, [(b"grpc-status", b"99999999999999999999")], end=True)
    error = await refusal(servers, answering(headers(1, HEAD) + message(1, b"") + trailers))
    assert error.code is StatusCode.UNKNOWN


async def test_words_of_the_server_stay_in_bounds(servers: RawServers) -> None:
    from sidecar.channels import told

    words = b"%1B[2J%0A" * 1500
    error = await refusal(
        servers, answering(headers(1, [*HEAD, (b"grpc-status", b"7"), (b"grpc-message", words)], end=True))
    )
    line = told(error)
    assert len(line) <= 500
    assert line.isprintable()


# -------------------------------------------------------------------------------------------------------- says too much


def endless(fields: int) -> bytes:
    """Continuations without an end, each a whole field that is never said before."""
    encoder = hpack.Encoder()
    block = b"".join(encoder.encode([(b"field-%d" % number, b"v" * 100)]) for number in range(fields))
    return frames.frame(frames.CONTINUATION, 0, 1, block)


@pytest.mark.parametrize(
    ("first", "part"),
    [
        (b"", b"\0"),
        (b"", frames.ping(b"12345678") * 100),
        (b"", frames.settings({3: 100}) * 100),
        (b"", frames.frame(0xEE, 0, 0, bytes(1000)) * 10),
        (b"", headers(1, [(b":status", b"103")]) * 10),
        (b"", frames.goaway(1, 0) * 10 + frames.rst_stream(1, 8) * 100),
        (headers(1, HEAD), frames.frame(frames.DATA, 0, 1) * 100),
        (frames.frame(frames.HEADERS, 0, 1, b"\x88"), endless(50)),
        (frames.frame(frames.HEADERS, 0, 1, b"\x88"), frames.frame(frames.CONTINUATION, 0, 1)),
        (headers(1, HEAD), message(1, b"x" * 1000) * 10),
        (headers(1, HEAD), message(1, b"") * 1000),
    ],
)
async def test_a_flood_ends_and_is_not_kept(servers: RawServers, first: bytes, part: bytes) -> None:
    async def flood(peer: RawPeer) -> None:
        await peer.write(frames.settings({}))
        while TOKEN not in peer.seen:
            await peer.read()
        await pouring(first, part)(peer)

    async with servers.serving(flood) as address:
        with suppress(RpcError):
            async with servers.connect(address) as connection:
                await ask(connection, 2.0)
                raise AssertionError("a flood is no answer")
        machine = connection._machine
        assert machine.stream is None
        assert len(machine._partial) + len(b"".join(machine._out)) < 64 * 1024


async def test_messages_that_nobody_reads_are_not_taken(servers: RawServers) -> None:
    sent = 0

    async def flood(peer: RawPeer) -> None:
        nonlocal sent
        await peer.write(frames.settings({}) + headers(1, HEAD))
        part = message(1, b"x" * 1000)
        while sent + len(part) - frames.HEADER_BYTES <= WINDOW_BYTES:  # as much as is allowed
            await peer.write(part)
            sent += len(part) - frames.HEADER_BYTES
        await peer.read_all()

    async with servers.serving(flood) as address, servers.connect(address) as connection:
        call = connection.stream(SUBSCRIBE)
        await until(lambda: call._stream.recv_window < 2000)
        assert call._stream._uncredited_bytes >= WINDOW_BYTES - 4000


async def test_a_huge_message_is_refused_by_its_first_five_bytes(servers: RawServers) -> None:
    huge = frames.frame(frames.DATA, 0, 1, b"\0\xff\xff\xff\xff")
    error = await refusal(servers, answering(headers(1, HEAD) + huge))
    assert error.code is StatusCode.RESOURCE_EXHAUSTED
    await until(lambda: frames.rst_stream(1, frames.CANCEL) in servers.peers[0].seen)


async def test_a_window_that_is_overrun_is_the_end(servers: RawServers) -> None:
    overrun = message(1, control_pb2.Snapshot(revision=7).SerializeToString()) * (WINDOW_BYTES // 4)

    async def flood(peer: RawPeer) -> None:
        await peer.write(frames.settings({}) + headers(1, HEAD) + overrun)
        await peer.read_all()

    async with servers.serving(flood) as address:
        with pytest.raises(RpcError, match="more than the stream's window"):
            async with servers.connect(address) as connection:
                call = connection.stream(SUBSCRIBE)
                await until(lambda: call._stream.status is not None)
                while await call.read() is not None:  # what came before is whole, and counts
                    pass


# ----------------------------------------------------------------------------------------------------- who is spoken to


async def test_no_byte_of_a_request_leaves_before_the_server_is_known(servers: RawServers) -> None:
    # The server is of a CA that this client does not trust: it sees the client's hello and its refusal, and no more.
    other = RawServers()

    async def listen(peer: RawPeer) -> None:
        await peer.read_all()

    async with other.serving(listen) as address:
        with pytest.raises(RpcError) as error:
            async with servers.connect(address) as connection:
                await ask(connection)
        assert error.value.refused is not None
        await until(lambda: other.peers)
    assert other.peers[0].seen == b""
