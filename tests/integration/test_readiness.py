"""Endpoints that become ready, stop to be, or are taken away: what lives at them goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.data_path import echo_app, until
from tests.fleet import Fleet


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """Two endpoints before one app that echoes."""
    async with echo_app() as app, Fleet([1, 2], tcp_apps=[app, app]) as made:
        yield made


async def test_a_change_of_readiness_disturbs_nothing_that_lives(fleet: Fleet) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
    writer.write(b"one")
    assert await asyncio.wait_for(reader.readexactly(3), 10) == b"one"
    links = fleet.web.outbound.pool.links
    for ready in ((False, False), (True, False), (False, True), (True, True)):
        fleet.enforce(*ready)
        writer.write(b"two")
        assert await asyncio.wait_for(reader.readexactly(3), 10) == b"two"
    assert fleet.web.outbound.pool.links == links
    assert not any(link.machine.going_away for link in links)
    writer.close()


async def test_an_opaque_connection_lives_on_at_an_endpoint_that_is_taken_away_and_no_new_one_goes_there(
    fleet: Fleet,
) -> None:
    fleet.enforce(True, False)
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
    writer.write(b"one")
    assert await asyncio.wait_for(reader.readexactly(3), 10) == b"one"
    fleet.upstreams = tuple(replace(up, endpoints=up.endpoints[1:]) for up in fleet.upstreams)
    fleet.enforce()
    for _ in range(10):
        other_reader, other = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
        other.write(b"new")
        assert await asyncio.wait_for(other_reader.readexactly(3), 10) == b"new"
        other.close()
    writer.write(b"two")
    assert await asyncio.wait_for(reader.readexactly(3), 10) == b"two"
    assert len(fleet.replicas[0].side.inbound.relays) == 1
    writer.close()
    await until(lambda: not fleet.replicas[0].side.inbound.links)  # the link goes with its last stream
