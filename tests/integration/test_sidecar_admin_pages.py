"""The admin socket beyond the configuration: each page, its refusals, and taps with traffic under them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from sidecar.admin import AdminServer
from sidecar.admin_pages import (
    CONNECTIONS_LIMIT,
    DrainPage,
    LogLevelPage,
    TapPage,
    certs_document,
    connections_document,
    read_limit,
)
from sidecar.local_http import Asked, BadRequestError, Page, Verbs, json_page
from sidecar.metrics import SidecarMetrics
from sidecar.recording import Recorder
from sidecar.relay import RelayFacts
from sidecar.tap import QUEUE_LIMIT_LINES, TAPS_LIMIT, Seen, Tap, Taps, read_filter
from tests.data_path import API, WEB, HttpClient, Mesh, echo_app, http_app, until
from tests.pki import TestCa


@dataclass
class Desk:
    """An admin server with the pages, and a client of it."""

    path: Path
    taps: Taps
    log: Logger
    drains: list[bool] = field(default_factory=list)

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(request)
        head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
        writer.transport.abort()
        first, *lines = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        status, _, told = await self.ask(f"POST {path} HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        return status, told

    async def tap(self, query: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        before = len(self.taps)
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(f"GET /tap{query} HTTP/1.1\r\n\r\n".encode())
        assert b" 200 OK\r\n" in await reader.readuntil(b"\r\n\r\n")
        assert len(self.taps) == before + 1
        return reader, writer


@pytest.fixture
async def open_desk(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    servers: list[AdminServer] = []

    async def make(taps: Taps | None = None, more: dict[str, Any] | None = None) -> Desk:
        log = Logger("admin", stream=io.StringIO())
        desk = Desk(tmp_path / "run" / f"{len(servers)}.sock", taps if taps is not None else Taps(), log)
        level = LogLevelPage(log)

        def drain() -> bool:
            desk.drains.append(True)
            return len(desk.drains) == 1

        pages: dict[str, Any] = {
            "/loglevel": Verbs(get=level.get, post=level.post),
            "/drain": Verbs(post=DrainPage(drain, log).post),
            "/tap": Verbs(get=TapPage(desk.taps, asyncio.get_running_loop().call_soon).get),
            **(more or {}),
        }
        server = AdminServer(pages, log=log)
        servers.append(server)
        await server.start(desk.path)
        return desk

    yield make
    for server in servers:
        await server.close()


# -- log level and drain ----------------------------------------------------------------------------------------------


async def test_the_log_level_is_told_and_set(open_desk: Any) -> None:
    desk = await open_desk()
    assert json.loads((await desk.ask(b"GET /loglevel HTTP/1.1\r\n\r\n"))[2]) == {"level": "info"}
    status, told = await desk.post("/loglevel", b'{"level": "debug"}')
    assert (status, json.loads(told)) == (200, {"level": "debug", "before": "info"})
    assert desk.log.enabled("debug")


@pytest.mark.parametrize(
    "body",
    [b"", b"debug", b'"debug"', b"[]", b"{}", b'{"level": "loud"}', b'{"level": 10}', b'{"level": null}',
     b'{"level": "debug", "for": 5}', b"\xff", b'{"level": ["debug"]}', b"[" * 1000],
)  # fmt: skip
async def test_a_wrong_level_is_one_line_and_changes_nothing(open_desk: Any, body: bytes) -> None:
    desk = await open_desk()
    status, told = await desk.post("/loglevel", body)
    assert status == 400
    assert told.count(b"\n") == 1
    assert desk.log.level == "info"


async def test_a_body_may_come_in_pieces(open_desk: Any) -> None:
    desk = await open_desk()
    reader, writer = await asyncio.open_unix_connection(str(desk.path))
    for piece in (b"POST /loglevel HTTP/1.1\r\ncontent-le", b"ngth: 17\r\n\r", b"\n{", b'"level":"error"}GET /'):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    assert b" 200 OK" in await asyncio.wait_for(reader.read(), 10)
    writer.transport.abort()
    assert desk.log.level == "error"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("content-length: 1025", 413),
        ("content-length: 99999999999999999999", 400),
        ("content-length: -1", 400),
        ("content-length: 2, 2", 400),
        ("content-length: 2\r\ncontent-length: 2", 400),
        ("transfer-encoding: chunked", 400),
        ("content-length: 2\r\nTransfer-Encoding: chunked", 400),
    ],
)
async def test_a_body_whose_end_is_not_told_plainly_is_refused(open_desk: Any, fields: str, status: int) -> None:
    desk = await open_desk()
    answer = await desk.ask(f"POST /loglevel HTTP/1.1\r\n{fields}\r\n\r\n".encode())
    assert answer[0] == status


@pytest.mark.parametrize(
    ("request_line", "allow"),
    [
        ("GET /drain", "POST"),
        ("HEAD /drain", "POST"),
        ("POST /tap", "GET, HEAD"),
        ("PUT /loglevel", "GET, HEAD, POST"),
        ("post /drain", "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(open_desk: Any, request_line: str, allow: str) -> None:
    desk = await open_desk()
    status, fields, _ = await desk.ask(f"{request_line} HTTP/1.1\r\n\r\n".encode())
    assert (status, fields["allow"]) == (405, allow)
    assert not desk.drains


async def test_a_drain_is_asked_for_once_however_often_it_is_posted(open_desk: Any) -> None:
    desk = await open_desk()
    assert (await desk.post("/drain", b"now"))[0] == 400
    assert not desk.drains
    assert json.loads((await desk.post("/drain", b""))[1]) == {"draining": True, "already": False}
    assert json.loads((await desk.post("/drain", b""))[1]) == {"draining": True, "already": True}


# -- identities and connections ---------------------------------------------------------------------------------------


def test_certificates_are_told_and_no_key() -> None:
    ca = TestCa("shop.example")
    svid = ca.svid(WEB)
    document = certs_document(svid, 59.96, [ca.bundle()], svid.not_before)
    own = document["svid"]
    assert isinstance(own, dict)
    assert own["spiffe_id"] == str(WEB)
    assert own["serial"] == svid.serial
    assert own["left_seconds"] == 60.0
    assert own["not_after"] > own["not_before"] == document["now"]
    text = json.dumps(document)
    assert "PRIVATE" not in text
    assert f"{svid.private_key.private_numbers().private_value:x}" not in text
    assert certs_document(None, 0.0, [], 0.0)["svid"] is None


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=10001", "limit=-1", "limit=x", "limit=", "many=1", "limit=1&limit=1"]
)
def test_a_wrong_limit_is_refused(query: str) -> None:
    with pytest.raises(BadRequestError, match="give"):
        read_limit(query)


def test_limits_in_range_are_taken() -> None:
    assert read_limit("limit=1") == 1
    assert read_limit(f"limit={CONNECTIONS_LIMIT}") == CONNECTIONS_LIMIT


async def test_connections_and_links_are_told_with_what_was_left_out() -> None:
    async with http_app() as app, echo_app() as echo, Mesh(http_app=app, tcp_app=echo) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        await client.ask("GET", "/orders/1")
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"

        def document(limit: int) -> Any:
            return connections_document(
                (relay for relay, _ in mesh.api.inbound.relays),
                (("inbound", link) for link in mesh.api.inbound.links),
                monotonic=mesh.api.clock.monotonic(),
                limit=limit,
            )

        told = document(10)
        by_protocol = {shown["protocol"]: shown for shown in told["connections"]}
        opaque = by_protocol["tcp"]
        assert opaque["peer"] == str(WEB)
        assert (opaque["service"], opaque["port"], opaque["direction"]) == ("shop/api", 9000, "inbound")
        assert (opaque["decision"], opaque["policy"], opaque["rule"]) == ("permit", "shop/api", "ledger")
        assert (opaque["bytes_from_app"], opaque["bytes_to_app"]) == (4, 4)
        assert by_protocol["http"]["requests"] == 1
        assert told["connections_left_out"] == 0
        [link] = told["links"]
        assert (link["peer"], link["state"], link["streams"]) == (str(WEB), "ready", 2)
        assert link["peer_not_after"].endswith("Z")
        short = document(1)
        assert (len(short["connections"]), short["connections_left_out"]) == (1, 1)
        writer.close()
        client.close()


# -- taps -------------------------------------------------------------------------------------------------------------


async def line_of(reader: asyncio.StreamReader) -> Any:
    return json.loads(await asyncio.wait_for(reader.readline(), 10))


async def test_a_tap_tells_requests_denials_and_opaque_connections_once_each(open_desk: Any) -> None:
    async with http_app() as app, echo_app() as echo, Mesh(http_app=app, tcp_app=echo) as mesh:
        desk = await open_desk(mesh.api.recorder.taps)
        reader, writer = await desk.tap()
        client = await HttpClient.to(mesh.http_listen)
        await client.ask("GET", "/orders/1")
        told = await line_of(reader)
        assert (told["event"], told["decision"], told["policy"], told["rule"]) == (
            "request", "permit", "shop/api", "orders",
        )  # fmt: skip
        assert (told["from"], told["to"], told["method"], told["target"], told["status"]) == (
            str(WEB), "shop/api", "GET", "/orders/1", 200,
        )  # fmt: skip
        denied = await client.ask("DELETE", "/orders/1")
        told = await line_of(reader)
        assert (told["decision"], told["reason"]) == ("deny", "method_not_allowed")
        assert told["request_id"] == denied.json()["request_id"]
        _, peer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        peer.close()
        told = await line_of(reader)
        assert (told["event"], told["decision"], told["protocol"]) == ("connection", "permit", "tcp")
        mesh.enforce()
        await client.ask("GET", "/orders/2")
        assert (await line_of(reader))["reason"] == "caller_not_allowed"
        assert mesh.api.log("request") == []  # a tap is no reason to log
        client.close()
        writer.close()
        await until(lambda: not mesh.api.recorder.every_request)


async def test_the_callers_side_tells_what_the_other_refused(open_desk: Any) -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        desk = await open_desk(mesh.web.recorder.taps)
        reader, writer = await desk.tap("?denied=1&to=api")
        client = await HttpClient.to(mesh.http_listen)
        await client.ask("GET", "/orders/1")
        await client.ask("GET", "/admin")
        told = await line_of(reader)
        assert (told["direction"], told["decision"], told["reason"]) == ("outbound", "deny", "path_not_allowed")
        assert (told["target"], told["origin"]) == ("/admin", str(API))
        client.close()
        writer.close()
        await until(lambda: len(desk.taps) == 0)


async def test_a_refused_call_is_told_once_on_the_callers_side(open_desk: Any) -> None:
    async with http_app() as app, Mesh(http_app=app) as mesh:
        desk = await open_desk(mesh.web.recorder.taps)
        reader, writer = await desk.tap()
        client = await HttpClient.to(mesh.http_listen)
        await client.ask("GET", "/admin")
        await client.ask("GET", "/orders/1")
        assert [(await line_of(reader))["target"] for _ in range(2)] == ["/admin", "/orders/1"]
        client.close()
        writer.close()
        await until(lambda: len(desk.taps) == 0)


def test_the_callers_side_names_its_own_identity_as_the_caller() -> None:
    recorder = Recorder(
        log=Logger("sidecar", stream=io.StringIO()),
        metrics=SidecarMetrics(),
        clock=SystemClock(),
        every_request=False,
        own_id=str(WEB),
    )
    lines: list[bytes] = []
    later: list[Callable[[], None]] = []
    Tap(recorder.taps, read_filter("from=web&to=shop/api"), later.append).started(lines.append)
    for direction in ("outbound", "inbound"):  # in the second the peer, which is api, would be the caller
        facts = RelayFacts(direction=direction, peer=str(API), service="shop/api", port=1, protocol="http", started=0.0)
        recorder.request_done(facts, None, method=b"GET", target=b"/a\xff", status=200, seconds=0.1)
    later.pop()()
    [told] = [json.loads(line) for line in b"".join(lines).splitlines()]
    assert (told["from"], told["target"], "decision" in told) == (str(WEB), "/a\\xff", False)


async def test_a_fifth_tap_is_refused_until_one_closes(open_desk: Any) -> None:
    desk = await open_desk()
    taps = [await desk.tap() for _ in range(TAPS_LIMIT)]
    assert (await desk.ask(b"GET /tap HTTP/1.1\r\n\r\n"))[0] == 503
    taps[0][1].close()
    await until(lambda: len(desk.taps) == TAPS_LIMIT - 1)
    taps.append(await desk.tap())
    for _, writer in taps:
        writer.close()
    await until(lambda: not desk.taps.any)


@pytest.mark.parametrize("query", ["denied=2", "from=a/b/c", "since=1", "to="])
async def test_a_wrong_filter_is_one_line(open_desk: Any, query: str) -> None:
    desk = await open_desk()
    status, _, told = await desk.ask(f"GET /tap?{query} HTTP/1.1\r\n\r\n".encode())
    assert (status, told.count(b"\n")) == (400, 1)
    assert len(desk.taps) == 0


async def test_looking_at_a_taps_head_opens_none(open_desk: Any) -> None:
    desk = await open_desk()
    assert (await desk.ask(b"HEAD /tap HTTP/1.1\r\n\r\n"))[0] == 200
    assert len(desk.taps) == 0


async def test_a_reader_that_does_not_read_holds_a_bounded_queue_and_learns_what_it_missed(open_desk: Any) -> None:
    desk = await open_desk()
    reader, writer = await desk.tap()
    writer.transport.pause_reading()
    [tap] = desk.taps._open
    seen = Seen(caller="", service="shop/api", denied=False)
    number = 0
    while tap.missed < 50:
        for _ in range(100):
            desk.taps.tell(seen, lambda: {"filler": "x" * 500})
            number += 1
        assert len(tap._lines) <= QUEUE_LIMIT_LINES
        await asyncio.sleep(0)
    missed = tap.missed
    writer.transport.resume_reading()
    for _ in range(number - missed):
        assert "missed" not in await line_of(reader)
    desk.taps.tell(seen, lambda: {"number": number})
    assert await line_of(reader) == {"number": number, "missed": missed}
    writer.close()
    await until(lambda: len(desk.taps) == 0)


async def test_a_page_that_fails_costs_its_request_only(open_desk: Any) -> None:
    def broken(_: Asked) -> Page:
        raise RuntimeError("defect")

    desk = await open_desk(more={"/broken": Verbs(get=broken, post=lambda asked: json_page(len(asked.body)))})
    assert (await desk.ask(b"GET /broken HTTP/1.1\r\n\r\n"))[0] == 500
    assert await desk.post("/broken", b"x" * 1024) == (200, b"1024\n")
