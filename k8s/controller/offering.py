"""Makes readings of the cluster and offers them to the control plane; the latest wins. Adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from k8s.controller.settling import Settler
from k8s.controller.watching import ClusterCopies
from k8s.translate.meshing import Translator
from ringfence.kit.log import Logger
from ringfence.mesh import Mesh
from ringfence.platform import Reading, WrittenDocument

_AGAIN_SECONDS: Final = 1.0


class Offered(Protocol):
    """As much of a host as this needs."""

    async def offer(self, reading: Reading) -> bool: ...


class ReadingMaker:
    """Reads the cluster as its copies have it now."""

    def __init__(self, copies: ClusterCopies, translator: Translator) -> None:
        self._copies = copies
        self._translator = translator
        self._mesh: Mesh | None = None

    def mesh_changed(self) -> None:
        """The mesh is to be read anew."""
        self._mesh = None

    def reading(self) -> Reading:
        documents = sorted((one.written for one in self._copies.documents()), key=lambda one: one.name)
        if self._mesh is None:
            self._mesh = self._translator.mesh(self._copies.cluster())
        return Reading(mesh=self._mesh, documents=tuple(documents))


class JudgedVersions:
    """Of which version of each document the control plane speaks: a standing says nothing of a later one."""

    def __init__(self) -> None:
        self._versions: dict[str, str] = {}

    def take(self, reading: Reading) -> None:
        """It was judged."""
        self._versions = {one.name: one.version for one in reading.documents}

    def version_of(self, name: str) -> str:
        """Of a document that was judged; empty for one that was not."""
        return self._versions.get(name, "")

    def speaks_of(self, document: WrittenDocument) -> bool:
        """Whether a standing of that name is one of this version."""
        return self._versions.get(document.name) == document.version


async def keep_offering(
    maker: ReadingMaker, settler: Settler, host: Offered, judged: Callable[[Reading], None], *, log: Logger
) -> None:
    """Offer each reading that differs from the one before, until cancelled; ``judged`` is told of those taken."""
    offered: Reading | None = None
    while True:
        await settler.settled()
        reading = maker.reading()
        if reading == offered:
            continue
        if await host.offer(reading):
            offered = reading
            judged(reading)
            log.debug("reading offered", services=len(reading.mesh.services), documents=len(reading.documents))
        else:
            # The control plane's disk is at fault, and it says so itself.
            await asyncio.sleep(_AGAIN_SECONDS)
            settler.stir()
