"""What a route says of retries, on HTTP/2: repeated where it may be, never else, and within bounds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import h2.config
import h2.connection
import h2.events
import pytest

from ringfence.routing.model import Retries, RetryOn, Route
from ringfence.snapshot import Protocol
from tests.data_path import serving, until
from tests.fleet import Fleet
from tests.integration.test_call_deadlines import H2Client

REPEATING = Retries(
    attempts=2, on=(*Retries().on, RetryOn.RESET_BEFORE_RESPONSE, RetryOn.GATEWAY_ERROR), idempotent=True
)


class Trouble:
    """An HTTP/2 app, hyper-h2's, that does with each request what its path says, the first time that any has it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        end.initiate_connection()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for event in end.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        fields = {str(name): str(value) for name, value in event.headers or ()}
                        if not self._answers(end, event.stream_id or 0, fields):
                            writer.transport.abort()
                            return
                writer.write(end.data_to_send())
                await writer.drain()
        writer.close()

    def _answers(self, end: h2.connection.H2Connection, stream_id: int, fields: dict[str, str]) -> bool:
        path, first = fields[":path"], fields[":path"] not in self.asked
        self.asked.append(path)
        if path == "/busy" or (first and path == "/busy_once"):
            end.send_headers(stream_id, [(":status", "503")], end_stream=True)
        elif path == "/silent" or (first and path == "/silent_once"):
            return True
        elif first and path == "/reset":
            end.reset_stream(stream_id, 2)
        elif first and path == "/abort":
            return False
        else:
            end.send_headers(stream_id, [(":status", "200")], end_stream=True)
        return True


@contextlib.asynccontextmanager
async def calling(count: int, retries: Retries) -> AsyncIterator[tuple[Trouble, Fleet, H2Client]]:
    app = Trouble()
    route = Route(name="shop/api", retries=retries)
    async with serving(app.serve) as port, Fleet([port] * count, route=route, http=Protocol.HTTP2) as fleet:
        client = H2Client(*await asyncio.open_connection("127.0.0.1", fleet.http_listen))
        yield app, fleet, client
        client.writer.close()


async def status(client: H2Client, path: str, *, grpc: bool = False) -> str:
    stream_id = client.ask(path, grpc=grpc)
    await client.ended(stream_id)
    return client.heads[stream_id][":status"]


@pytest.mark.parametrize(
    "path, after", [("/busy_once", "gateway_error"), ("/reset", "reset_before_response"), ("/abort", "")]
)
async def test_a_request_that_may_be_repeated_is_answered_by_another_endpoint(path: str, after: str) -> None:
    async with calling(3, REPEATING) as (app, fleet, client):
        assert await status(client, path) == "200"
        assert app.asked == [path] * 2
        if after:
            assert fleet.counted("retries", "shop/api", after) == 1
        await until(lambda: all(member.outstanding == 0 for t in fleet.web.outbound.targets for member in t.balancer))


@pytest.mark.parametrize("path", ["/busy_once", "/reset", "/abort"])
@pytest.mark.parametrize("grpc, retries", [(True, REPEATING), (False, Retries())])
async def test_what_an_app_may_have_seen_is_never_sent_twice_unasked(path: str, grpc: bool, retries: Retries) -> None:
    async with calling(3, retries) as (app, _, client):
        stream_id = client.ask(path, grpc=grpc)
        await client.ended(stream_id)
        assert client.heads.get(stream_id, {}).get(":status") != "200" or grpc
        assert app.asked == [path]


async def test_attempts_and_budget_bound_what_is_repeated() -> None:
    async with calling(4, REPEATING) as (app, _, client):
        assert await status(client, "/busy") == "503"
        assert len(app.asked) == 3
    none = Retries(attempts=2, on=REPEATING.on, idempotent=True, budget_percent=0)
    async with calling(3, none) as (app, fleet, client):
        assert await status(client, "/busy") == "503"
        assert len(app.asked) == 1
        assert fleet.counted("retries_withheld", "shop/api") == 1


async def test_a_try_has_its_own_time_and_then_another_endpoint_is_asked() -> None:
    slow = Retries(attempts=2, on=REPEATING.on, idempotent=True, per_try_seconds=0.8)
    async with calling(3, slow) as (app, fleet, client):
        assert await status(client, "/silent_once") == "200"
        assert app.asked == ["/silent_once"] * 2
        assert fleet.counted("timeouts", "shop/api", "try") == 1
        assert await status(client, "/silent") == "504"
        assert app.asked.count("/silent") == 3


@pytest.mark.parametrize("count", [1, 3])
async def test_a_try_that_may_not_be_repeated_ends_the_call(count: int) -> None:
    async with calling(count, Retries(per_try_seconds=1.0)) as (app, fleet, client):
        assert await status(client, "/ok") == "200"  # so that a try's time is not a handshake's
        assert await status(client, "/silent") == "504"
        assert app.asked == ["/ok", "/silent"]
        stream_id = client.ask("/silent", grpc=True)
        await client.ended(stream_id)
        assert client.heads[stream_id]["grpc-status"] == "4"
        assert fleet.counted("timeouts", "shop/api", "try") == 2
