"""The origin that is a mesh file and its folder of policies: watched, judged whole, written by rollouts. Adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

import ca
from controlplane.intake.applying import Applier
from controlplane.intake.configuration import Configuration, RefusedChange
from controlplane.intake.sources import POLICY_SUFFIXES, SourceFiles, only_change
from controlplane.mesh.document import MeshDocument
from controlplane.operate.sources_api import SourcesApi
from controlplane.origins import Parts, Task
from controlplane.rollout.api import RolloutApi
from controlplane.rollout.folder import PolicyFolderWriter
from controlplane.rollout.history import HistoryError
from controlplane.rollout.making import make_rollouts, open_history, open_writer, whole
from controlplane.settings import ControlPlaneSettings
from controlplane.start import Readings, StartRefusedError, read_first
from ringfence.kit.clock import Clock
from ringfence.kit.hints import FolderHints
from ringfence.kit.watch import Watch
from ringfence.mesh import ControlPlaneAddresses


class OpenedFiles:
    """The files as they were read and judged good at first."""

    def __init__(self, readings: Readings, writer: PolicyFolderWriter) -> None:
        self._readings = readings
        self._writer = writer

    @property
    def document(self) -> MeshDocument:
        """The mesh file."""
        return self._readings.configuration.document

    @property
    def addresses(self) -> ControlPlaneAddresses:
        """The flags' over the mesh file's."""
        return self._readings.addresses

    def assemble(self, parts: Parts) -> FileOrigin:
        """Raises StartRefusedError."""
        return FileOrigin(self._readings, self._writer, parts)


async def open_files(settings: ControlPlaneSettings, clock: Clock) -> OpenedFiles:
    """Read and judge the files. Raises StartRefusedError, FolderError."""
    writer = await asyncio.to_thread(open_writer, settings.state)
    return OpenedFiles(await asyncio.to_thread(read_first, settings, clock), writer)


class FileOrigin:
    """``controlplane.origins.Origin``."""

    def __init__(self, readings: Readings, writer: PolicyFolderWriter, parts: Parts) -> None:
        self._readings = readings
        self._writer = writer
        self._parts = parts
        authority, flows = parts.authority, parts.flows
        self._applier = Applier(
            judge=readings.judge,
            ledger=parts.ledger,
            ledger_file=parts.ledger_file,
            distributor=parts.distributor,
            readiness=parts.readiness,
            bundles=lambda: [authority.bundle()],
            metrics=parts.metrics,
            log=parts.log.bind("configuration"),
            clock=parts.clock,
            accepted=lambda files, revision: self._rollouts.accepted(files, revision),
            keys=parts.keys,
        )
        try:
            history = open_history(parts.settings.state, parts.log)
        except HistoryError as error:
            raise StartRefusedError([f"--state: {error}"]) from error
        self._rollouts = make_rollouts(
            sources=readings.sources,
            applier=self._applier,
            writer=writer,
            history=history,
            flows=lambda since: flows.shadowed(since) if flows is not None else (),
            revision=lambda: parts.distributor.catalog.revision,
            log=parts.log.bind("rollout"),
            clock=parts.clock,
        )

    @property
    def held(self) -> Configuration | None:
        """The configuration in force."""
        return self._applier.held

    @property
    def held_since(self) -> float:
        """When it was put in force."""
        return self._applier.held_since

    @property
    def refused(self) -> RefusedChange | None:
        """Why the files as they are now are not in force."""
        return self._applier.refused

    @property
    def evidence(self) -> ca.EvidenceSources:
        """None: workloads of plain hosts join by token."""
        return ca.EvidenceSources()

    async def start(self) -> None:
        """Put what was read first in force. Raises StartRefusedError."""
        done = await self._applier.put_in_force(self._readings.configuration, self._readings.files)
        refused = self._applier.refused
        if not done or refused is not None:
            raise StartRefusedError([str(problem) for problem in refused.problems] if refused else [])

    def tasks(self) -> Sequence[Task]:
        """The watch of the files."""
        return [("watch", self._watch().run)]

    def _watch(self) -> Watch[SourceFiles]:
        files, settings = self._readings.files, self._parts.settings
        policies = (files.policies.path,) if files.policies is not None else ()
        return Watch(
            whole(self._readings.sources.read, self._writer),
            self._applier.apply,
            last=self._readings.files,
            interval_seconds=settings.poll_seconds,
            settle_seconds=settings.settle_seconds,
            hints=FolderHints(policies, POLICY_SUFFIXES),
            only_change=only_change,
        )

    def routes(self) -> Sequence[web.RouteDef]:
        """Rollouts, and the files in force."""
        sources = SourcesApi(
            held=lambda: self._applier.files,
            tried=lambda: self._rollouts.tried,
            revision=lambda: self._parts.distributor.catalog.revision,
        )
        return [*RolloutApi(self._rollouts).routes(), *sources.routes()]

    def stir(self) -> None:
        """Who waits for sidecars asks by itself."""

    async def again(self) -> bool:
        """Put what is in force in force anew."""
        return await self._applier.again()

    async def show_readiness(self) -> bool:
        """Tell callers which workloads can serve now."""
        return await self._applier.show_readiness()

    async def close(self) -> None:
        """End what is tried in shadow."""
        await self._rollouts.close()

    async def settle(self) -> None:
        """Record the revisions used."""
        await self._applier.settle()
