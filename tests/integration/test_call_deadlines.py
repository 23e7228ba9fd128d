"""HTTP/2 and gRPC: a call ends at its deadline, in its own words, and no other call of the connection notices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import h2.config
import h2.connection
import h2.events
import pytest

from ringfence.routing.model import CircuitBreaker, RequestTimeouts, Route, RouteMatch, Timeouts
from ringfence.snapshot import Protocol
from tests.data_path import serving, until
from tests.fleet import Fleet

Fields = dict[str, str]
OVER = pytest.mark.parametrize("count", [1, 3], ids=["one_endpoint", "three_endpoints"])


class H2App:
    """An HTTP/2 app, hyper-h2's: ``/test/whole`` is answered, of ``/test/begun`` the head, of all else nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.resets = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        end.initiate_connection()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for event in end.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        self._answer(end, event)
                    elif isinstance(event, h2.events.StreamReset):
                        self.resets += 1
                writer.write(end.data_to_send())
                await writer.drain()
        writer.close()

    def _answer(self, end: h2.connection.H2Connection, event: h2.events.RequestReceived) -> None:
        assert event.headers is not None
        assert event.stream_id is not None
        fields = {str(name): str(value) for name, value in event.headers}
        self.asked.append(fields[":path"])
        kind = fields.get("content-type", "text/plain")
        if fields[":path"] != "/test/never":
            whole = fields[":path"] == "/test/whole"
            end.send_headers(event.stream_id, [(":status", "200"), ("content-type", kind)], end_stream=whole)


class H2Client:
    """An HTTP/2 client, hyper-h2's, through a sidecar."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.end = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.end.initiate_connection()
        self.heads: dict[int, Fields] = {}
        self.trailers: dict[int, Fields] = {}
        self.over: set[int] = set()
        self.resets: dict[int, int] = {}

    def ask(self, path: str, *more: tuple[str, str], grpc: bool = True) -> int:
        stream_id = self.end.get_next_available_stream_id()
        fields = [(":method", "POST" if grpc else "GET"), (":scheme", "http"), (":path", path), (":authority", "api")]
        if grpc:
            fields += [("content-type", "application/grpc"), ("te", "trailers")]
        self.end.send_headers(stream_id, [*fields, *more], end_stream=not grpc)
        self.writer.write(self.end.data_to_send())
        return stream_id

    async def ended(self, stream_id: int) -> None:
        async with asyncio.timeout(60):
            while stream_id not in self.over:
                await self._read()

    async def _read(self) -> None:
        data = await self.reader.read(65536)
        assert data, "the connection was closed"
        for event in self.end.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.heads[event.stream_id or 0] = {str(n): str(v) for n, v in event.headers or ()}
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers[event.stream_id or 0] = {str(n): str(v) for n, v in event.headers or ()}
            elif isinstance(event, h2.events.StreamEnded):
                self.over.add(event.stream_id or 0)
            elif isinstance(event, h2.events.StreamReset):
                self.over.add(event.stream_id or 0)
                self.resets[event.stream_id or 0] = int(event.error_code or 0)
        self.writer.write(self.end.data_to_send())


@contextlib.asynccontextmanager
async def calling(
    count: int, route: Route | None = None, protocol: Protocol = Protocol.GRPC
) -> AsyncIterator[tuple[H2App, Fleet, H2Client]]:
    app = H2App()
    async with serving(app.serve) as port, Fleet([port] * count, route=route, http=protocol) as fleet:
        client = H2Client(*await asyncio.open_connection("127.0.0.1", fleet.http_listen))
        yield app, fleet, client
        client.writer.close()


@OVER
async def test_a_call_is_answered_deadline_exceeded_at_the_deadline_that_it_brought(count: int) -> None:
    async with calling(count) as (app, fleet, client):
        late = client.ask("/test/never", ("grpc-timeout", "1000m"))
        patient = client.ask("/test/never", ("grpc-timeout", "1H"))
        await client.ended(late)
        assert client.heads[late][":status"] == "200"
        assert client.heads[late]["grpc-status"] == "4"
        assert client.heads[late]["grpc-message"].startswith("request_timeout")
        await until(lambda: app.resets == 1)  # the app need not go on
        assert fleet.counted("timeouts", "shop/api", "deadline") == 1
        whole = client.ask("/test/whole", ("grpc-timeout", "1H"))
        await client.ended(whole)
        assert patient not in client.over


@OVER
async def test_a_call_whose_response_has_begun_ends_with_trailers(count: int) -> None:
    async with calling(count) as (_, _, client):
        begun = client.ask("/test/begun", ("grpc-timeout", "1000000u"))
        await client.ended(begun)
        assert client.heads[begun][":status"] == "200"
        assert client.trailers[begun]["grpc-status"] == "4"


@OVER
async def test_calls_without_a_deadline_or_with_one_that_is_none_wait_on(count: int) -> None:
    async with calling(count) as (app, fleet, client):
        waiting = [
            client.ask("/test/never"),
            client.ask("/test/never", ("grpc-timeout", "123456789m")),
            client.ask("/test/never", ("grpc-timeout", "1x")),
            client.ask("/test/never", ("grpc-timeout", "1m"), ("grpc-timeout", "1m")),
        ]
        late = client.ask("/test/never", ("grpc-timeout", "1000m"))
        await client.ended(late)
        await until(lambda: len(app.asked) == 5)
        assert not client.over & set(waiting)
        assert fleet.counted("timeouts", "shop/api", "deadline") == 1


@OVER
async def test_the_header_means_nothing_where_the_request_is_not_grpc(count: int) -> None:
    async with calling(count) as (_, fleet, client):
        plain = client.ask("/test/begun", ("grpc-timeout", "1m"), grpc=False)
        late = client.ask("/test/never", ("grpc-timeout", "100m"))
        await client.ended(late)
        assert plain not in client.over
        assert fleet.counted("timeouts", "shop/api", "deadline") == 1


@OVER
async def test_the_earlier_of_the_routes_timeout_and_the_calls_own_holds(count: int) -> None:
    match = RouteMatch(name="quick", paths=("/test/never",), timeouts=RequestTimeouts(request_seconds=0.2))
    async with calling(count, Route(name="r", matches=(match,))) as (_, fleet, client):
        by_route = client.ask("/test/never", ("grpc-timeout", "1H"))
        await client.ended(by_route)
        by_call = client.ask("/test/never", ("grpc-timeout", "1m"))
        await client.ended(by_call)
        assert [client.heads[call]["grpc-status"] for call in (by_route, by_call)] == ["4", "4"]
        assert fleet.counted("timeouts", "shop/api", "request") == 1
        assert fleet.counted("timeouts", "shop/api", "deadline") == 1


@OVER
async def test_a_request_that_is_not_grpc_gets_504_or_where_it_has_begun_a_reset(count: int) -> None:
    route = Route(name="r", timeouts=Timeouts(response_head_seconds=1.0, request_seconds=2.0))
    async with calling(count, route, Protocol.HTTP2) as (_, fleet, client):
        never, begun = client.ask("/test/never", grpc=False), client.ask("/test/begun", grpc=False)
        await client.ended(never)
        assert client.heads[never][":status"] == "504"
        await client.ended(begun)
        assert client.heads[begun][":status"] == "200"
        assert begun in client.resets
        assert fleet.counted("timeouts", "shop/api", "response_head") == 1
        assert fleet.counted("timeouts", "shop/api", "request") == 1


@OVER
async def test_calls_above_the_limit_are_refused_as_unavailable(count: int) -> None:
    async with calling(count, Route(name="r", circuit_breaker=CircuitBreaker(requests=1))) as (app, fleet, client):
        first = client.ask("/test/never", ("grpc-timeout", "4000m"))
        await until(lambda: len(app.asked) == 1)
        second = client.ask("/test/whole")
        await client.ended(second)
        assert client.heads[second]["grpc-status"] == "14"
        assert client.heads[second]["grpc-message"].startswith("circuit_open")
        await client.ended(first)
        third = client.ask("/test/whole")
        await client.ended(third)
        assert "grpc-status" not in client.heads[third]  # the app's own
        assert fleet.counted("circuit_open", "shop/api", "requests") == 1
