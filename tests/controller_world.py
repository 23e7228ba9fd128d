"""A fake cluster with what the controller keeps of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from k8s.client.connection import Connection
from k8s.client.resources import Resource
from k8s.controller.offering import JudgedVersions, ReadingMaker
from k8s.controller.settling import Pace, Settler
from k8s.controller.watching import ClusterCopies
from k8s.translate.meshing import MeshSettings, Translator
from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.platform import Reading, WrittenDocument
from ringfence.spiffe import TrustDomain
from tests.fake_api_server import FakeApiServer, serving

LOG: Final = Logger("test", level="error")
RANDOM: Final = random.Random(1).random
FAST: Final = Pace(settle_seconds=0.0, patience_seconds=0.0, apart_seconds=0.0)


@asynccontextmanager
async def task(work: Awaitable[None]) -> AsyncIterator[None]:
    made = asyncio.ensure_future(work)
    try:
        yield
    finally:
        made.cancel()
        with suppress(asyncio.CancelledError):
            await made


class Trusting(JudgedVersions):
    """Takes every standing for one of what stands there, until it was told of a reading."""

    told = False

    def take(self, reading: Reading) -> None:
        self.told = True
        super().take(reading)

    def speaks_of(self, document: WrittenDocument) -> bool:
        return not self.told or super().speaks_of(document)


class World:
    """A fake cluster, its copies, and settlers that are stirred by them."""

    def __init__(self, fake: FakeApiServer, connection: Connection) -> None:
        self.fake = fake
        self.connection = connection
        self.reading = Settler(SystemClock(), FAST)
        self.statuses = Settler(SystemClock(), FAST)
        self.trust = Settler(SystemClock(), FAST)
        self.copies = ClusterCopies(connection, self.mesh_changed, self.documents_changed, log=LOG, random=RANDOM)
        settings = MeshSettings(trust_domain=TrustDomain("shop.example"))
        self.maker = ReadingMaker(self.copies, Translator(settings))
        self.judged = Trusting()

    def mesh_changed(self) -> None:
        self.maker.mesh_changed()
        self.reading.stir()
        self.trust.stir()

    def documents_changed(self) -> None:
        self.reading.stir()
        self.statuses.stir()


@asynccontextmanager
async def world_of(tmp_path: Path, *there: tuple[Resource, dict[str, Any]]) -> AsyncIterator[World]:
    """One in which these objects are there already."""
    async with serving(tmp_path) as (fake, connection):
        for resource, body in there:
            fake.put(resource, body)
        world = World(fake, connection)
        world.copies.start()
        await world.copies.wait_complete()
        try:
            yield world
        finally:
            await world.copies.close()
