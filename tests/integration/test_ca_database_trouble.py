"""When the database is away, slow or full, the authority says so and issues nothing; when it is back, all goes on."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import event

from ca.settings import IssuingLimits
from ringfence.wire.gen import issuing_pb2 as pb
from tests.authorities import HostKeyPair, OpenAuthority, Served, refusal_of, serve
from tests.data_path import until
from tests.issuing_backends import TurnedClock
from tests.postgres import Cluster, server_programs

LIMITS = IssuingLimits(database_wait_seconds=5.0)
IMPATIENT = IssuingLimits(database_wait_seconds=0.5)


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A PostgreSQL that the test may stop."""
    cluster = Cluster(server_programs())
    try:
        cluster.make()
        yield cluster
    finally:
        cluster.remove()


def writes_of_the_line(world: OpenAuthority) -> asyncio.Event:
    """Set when the issuing line is about to record next: its batch is closed by then, which looking does not close."""
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def look(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if threading.current_thread().name == "ca-issuing" and statement == "BEGIN IMMEDIATE":
            loop.call_soon_threadsafe(begun.set)

    event.listen(world.database.engine, "before_cursor_execute", look)
    return begun


def waiting(world: OpenAuthority) -> list[Any]:
    """The petitions that the issuing line has not taken up."""
    return list(world.authority._line._waiting.queue)


async def unavailable(served: Served, request: pb.JoinRequest) -> None:
    error = await refusal_of(served.joining.Join(request))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == (
        "the authority cannot record what it would issue, so it issues nothing (try again later)"
    )


async def test_a_database_that_somebody_holds_stops_issuing_until_it_is_let_go(tmp_path: Path) -> None:
    with OpenAuthority(tmp_path, TurnedClock(), limits=IMPATIENT) as world:
        token, pair = world.token(), HostKeyPair()
        async with serve(world) as served:
            with world.database.write():
                await unavailable(served, pair.join(token))
            assert (await served.joining.Join(pair.join(token))).chain  # the token was not spent
        assert "locked" in next(line for line in world.log_lines() if line["msg"] == "request failed")["error"]


async def test_a_database_server_that_goes_away_and_comes_back(tmp_path: Path, own_cluster: Cluster) -> None:
    url = own_cluster.create("ringfence")
    with OpenAuthority(tmp_path, TurnedClock(), limits=LIMITS, database_url=url) as world:
        token, pair = world.token(), HostKeyPair()
        async with serve(world) as served:
            await asyncio.to_thread(own_cluster.stop)
            await unavailable(served, pair.join(token))
            await unavailable(served, pair.join(token))
            await asyncio.to_thread(own_cluster.start)
            assert (await served.joining.Join(pair.join(token))).chain
            assert len(await asyncio.to_thread(world.authority.issued)) == 2


async def test_a_server_that_restarts_between_two_requests_is_not_even_noticed(
    tmp_path: Path, own_cluster: Cluster
) -> None:
    url = own_cluster.create("ringfence")
    with OpenAuthority(tmp_path, TurnedClock(), limits=LIMITS, database_url=url) as world:
        tokens = [world.token(), world.token()]
        async with serve(world) as served:
            assert (await served.joining.Join(HostKeyPair().join(tokens[0]))).chain
            await asyncio.to_thread(own_cluster.stop)
            await asyncio.to_thread(own_cluster.start)
            assert (await served.joining.Join(HostKeyPair().join(tokens[1]))).chain


async def test_a_caller_who_does_not_wait_for_the_line_spends_nothing(tmp_path: Path) -> None:
    limits = IssuingLimits(database_wait_seconds=20.0)
    with OpenAuthority(tmp_path, TurnedClock(), limits=limits) as world:
        busy, token, pair = world.token(), world.token(), HostKeyPair()
        async with serve(world) as served:
            with world.database.write():
                line_waits = writes_of_the_line(world)
                first = asyncio.ensure_future(served.joining.Join(HostKeyPair().join(busy)))
                await asyncio.wait_for(line_waits.wait(), 20)
                error = await refusal_of(served.joining.Join(pair.join(token), timeout=2))
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                # The caller knows that its time is over before the server does.
                await until(lambda: [one.future.cancelled() for one in waiting(world)] == [True])
            await first
            assert (await served.joining.Join(pb.JoinRequest(token=token, csr=pair.join(token).csr))).chain


def test_a_folder_that_cannot_be_written_is_told_when_it_is_opened(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "ca.db").mkdir()  # root may write anywhere, but not a file over a folder
    else:
        tmp_path.chmod(0o500)
    with pytest.raises(Exception, match=r"cannot open database .*ca\.db"):
        OpenAuthority(tmp_path, TurnedClock())
