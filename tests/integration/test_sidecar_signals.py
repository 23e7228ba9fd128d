"""/healthz, /readyz and /metrics over real sockets: right answers, and bounds against whoever can reach the port."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from ringfence.kit.log import Logger
from sidecar.local_http import HEAD_LIMIT_BYTES, Asked, Page, Verbs
from sidecar.signals import ListenError, SignalsServer
from tests.waiting import until

LOG = Logger("signals", stream=io.StringIO())


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes


async def exchange(port: int, request: bytes, *, whole: bool = True) -> bytes:
    """All that the server answers until it closes; the request in one piece or byte by byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in [request] if whole else [request[at : at + 1] for at in range(len(request))]:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def parsed(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    version, status, _ = line.split(" ", 2)
    assert version == "HTTP/1.1"
    return Answer(int(status), dict(field.split(": ", 1) for field in fields), body)


@dataclass
class Bench:
    server: SignalsServer
    waiting: list[str]

    async def get(self, path: str, method: str = "GET") -> Answer:
        return parsed(await exchange(self.server.port, f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    waiting: list[str] = []
    server = SignalsServer(
        lambda: b"things_total 3.0\n", lambda: waiting, log=LOG, connection_limit=4, deadline_seconds=30.0
    )
    await server.start("127.0.0.1", 0)
    yield Bench(server, waiting)
    await server.close()


async def test_readiness_says_for_what_it_waits(bench: Bench) -> None:
    bench.waiting.append("a first identity")
    answer = await bench.get("/readyz")
    assert answer.status == 503
    assert json.loads(answer.body) == {"ready": False, "waiting_for": ["a first identity"]}
    bench.waiting.clear()
    answer = await bench.get("/readyz")
    assert answer.status == 200
    assert json.loads(answer.body) == {"ready": True, "waiting_for": []}


async def test_health_does_not_wait_for_readiness(bench: Bench) -> None:
    bench.waiting.append("a first identity")
    assert (await bench.get("/healthz")).status == 200


async def test_metrics_are_in_the_text_format(bench: Bench) -> None:
    answer = await bench.get("/metrics")
    assert answer.status == 200
    assert answer.fields["content-type"].startswith("text/plain; version=0.0.4")
    assert b"things_total 3.0" in answer.body


async def test_a_query_does_not_hide_the_page(bench: Bench) -> None:
    assert (await bench.get("/healthz?probe=1")).status == 200


async def test_head_has_the_length_and_no_body(bench: Bench) -> None:
    answer = await bench.get("/healthz", method="HEAD")
    assert answer.status == 200
    assert answer.body == b""
    assert int(answer.fields["content-length"]) == len((await bench.get("/healthz")).body)


async def test_the_length_is_the_bodys(bench: Bench) -> None:
    answer = await bench.get("/metrics")
    assert int(answer.fields["content-length"]) == len(answer.body)


async def test_bytes_one_by_one_mean_the_same(bench: Bench) -> None:
    request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    assert await exchange(bench.server.port, request, whole=False) == await exchange(bench.server.port, request)


async def test_the_policy_is_not_shown_here(bench: Bench) -> None:
    for path in ("/config", "/connections", "/drain", "/", "/metrics/"):
        assert (await bench.get(path)).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
async def test_other_methods_are_refused(bench: Bench, method: str) -> None:
    answer = await bench.get("/healthz", method=method)
    assert answer.status == 405
    assert answer.fields["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "request_line",
    ["GET /healthz", "GET  /healthz HTTP/1.1", "GET http://x/healthz HTTP/1.1", "GET /healthz HTTP/2.0", "nonsense"],
)
async def test_what_is_no_request_is_refused(bench: Bench, request_line: str) -> None:
    assert parsed(await exchange(bench.server.port, f"{request_line}\r\n\r\n".encode())).status == 400


@pytest.mark.parametrize("field", ["content-length: 5", "Transfer-Encoding: chunked", "content-length : 5"])
async def test_a_request_with_a_body_is_refused(bench: Bench, field: str) -> None:
    request = f"GET /healthz HTTP/1.1\r\n{field}\r\n\r\nhello".encode()
    assert parsed(await exchange(bench.server.port, request)).status == 400


async def test_a_second_request_on_the_connection_is_never_read(bench: Bench) -> None:
    request = b"GET /healthz HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n"
    raw = await exchange(bench.server.port, request)
    assert raw.count(b"HTTP/1.1 ") == 1
    assert parsed(raw).fields["connection"] == "close"


async def test_a_head_at_the_limit_is_taken_and_one_above_is_refused(bench: Bench) -> None:
    frame = b"GET /healthz HTTP/1.1\r\nx: %s\r\n\r\n"
    fits = frame % (b"a" * (HEAD_LIMIT_BYTES - len(frame) + 2))
    assert len(fits) == HEAD_LIMIT_BYTES
    assert parsed(await exchange(bench.server.port, fits)).status == 200
    above = frame % (b"a" * (HEAD_LIMIT_BYTES - len(frame) + 3))
    assert parsed(await exchange(bench.server.port, above)).status == 431


async def test_an_endless_head_is_cut_off(bench: Bench) -> None:
    raw = await exchange(bench.server.port, b"a" * 1_000_000)
    assert raw == b"" or parsed(raw).status == 431


async def test_whoever_asks_takes_the_place_of_one_who_only_holds_a_connection(bench: Bench) -> None:
    held = [await asyncio.open_connection("127.0.0.1", bench.server.port) for _ in range(4)]
    await until(lambda: bench.server.http.connections == 4)
    assert (await bench.get("/healthz")).status == 200
    with contextlib.suppress(ConnectionResetError):
        assert await held[0][0].read() == b""
    for _, writer in held:
        writer.transport.abort()
    await until(lambda: bench.server.http.connections == 0)
    assert (await bench.get("/healthz")).status == 200


async def test_connections_beyond_those_that_wait_for_answers_are_closed() -> None:
    hold = asyncio.Event()

    async def slow(_: Asked) -> Page:
        await hold.wait()
        return Page(200, "text/plain", b"")

    server = SignalsServer(bytes, list, log=LOG, more={"/slow": Verbs(get=slow, seconds=30.0)}, connection_limit=1)
    await server.start("127.0.0.1", 0)
    waiting = [asyncio.ensure_future(exchange(server.port, b"GET /slow HTTP/1.1\r\n\r\n")) for _ in range(2)]
    await until(lambda: server.http.asked == 2)
    assert await exchange(server.port, b"GET /healthz HTTP/1.1\r\n\r\n") == b""
    hold.set()
    assert [parsed(await one).status for one in waiting] == [200, 200]
    await server.close()


async def test_who_takes_no_answers_keeps_nobody_out_but_himself(bench: Bench) -> None:
    hold = asyncio.Event()

    async def slow(_: Asked) -> Page:
        await hold.wait()
        return Page(200, "text/plain", b"")

    bench.server.http.routes["/slow"] = Verbs(get=slow, seconds=30.0)
    theirs = []
    for _ in range(4):
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port, local_addr=("127.0.0.2", 0))
        writer.write(b"GET /slow HTTP/1.1\r\n\r\n")
        theirs.append((reader, writer))
    await until(lambda: bench.server.http.asked == 4)
    # One place is all that others need, and it is had from the oldest of those that have the most.
    for _ in range(3):
        assert (await bench.get("/healthz")).status == 200
    assert await theirs[0][0].read() == b""
    assert bench.server.http.asked == 3
    hold.set()
    assert [parsed(await reader.read()).status for reader, _ in theirs[1:]] == [200] * 3
    for _, writer in theirs:
        writer.transport.abort()


async def test_who_opens_many_connections_takes_no_place_of_another(bench: Bench) -> None:
    port = bench.server.port
    reader, ours = await asyncio.open_connection("127.0.0.1", port)
    await until(lambda: bench.server.http.connections == 1)
    theirs = [await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0)) for _ in range(12)]
    await until(lambda: sum(reader.at_eof() for reader, _ in theirs) == 9)
    ours.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert parsed(await reader.read()).status == 200
    for writer in (ours, *(writer for _, writer in theirs)):
        writer.transport.abort()


async def test_a_silent_connection_meets_its_deadline() -> None:
    server = SignalsServer(bytes, list, log=LOG, deadline_seconds=0.05)
    await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        async with asyncio.timeout(10):
            await reader.readexactly(1)
    writer.transport.abort()
    await server.close()


async def test_a_client_that_half_closes_still_gets_its_answer(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    writer.write_eof()
    assert parsed(await asyncio.wait_for(reader.read(), 10)).status == 200
    writer.close()


async def test_a_page_that_fails_is_a_500_and_the_server_lives_on(bench: Bench) -> None:
    def fail() -> object:
        raise RuntimeError("a fault")

    bench.server.http.routes["/healthz"] = fail  # type: ignore[assignment]
    answer = await bench.get("/healthz")
    assert answer.status == 500
    assert b"a fault" not in answer.body
    assert (await bench.get("/readyz")).status == 200


async def test_a_port_that_is_taken_is_told_with_its_setting(bench: Bench) -> None:
    other = SignalsServer(bytes, list, log=LOG)
    with pytest.raises(ListenError, match=rf"--signals: 127.0.0.1:{bench.server.port} is already in use"):
        await other.start("127.0.0.1", bench.server.port)


async def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(ListenError, match="no address of this machine"):
        await SignalsServer(bytes, list, log=LOG).start("192.0.2.1", 0)


async def test_closing_ends_open_connections_and_frees_the_port(bench: Bench) -> None:
    reader, _writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
    await until(lambda: bench.server.http.connections == 1)
    port = bench.server.port
    await bench.server.close()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    _writer.transport.abort()
    again = SignalsServer(bytes, list, log=LOG)
    await again.start("127.0.0.1", port)
    await again.close()
