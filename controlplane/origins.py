"""Where a control plane's configuration comes from: files, or a platform. What both are to the process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

import ca
from controlplane.flows.keeping import FlowKeeper
from controlplane.intake.configuration import Configuration, RefusedChange
from controlplane.mesh.document import MeshDocument
from controlplane.metrics import ControlPlaneMetrics
from controlplane.push.distributor import Distributor
from controlplane.push.ledger_file import LedgerFile
from controlplane.push.readiness import ReadinessBoard
from controlplane.push.revisions import Ledger
from controlplane.settings import ControlPlaneSettings
from controlplane.tokens.keeper import KeyKeeper
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.mesh import ControlPlaneAddresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the process that an origin works with."""

    settings: ControlPlaneSettings
    authority: ca.Authority
    distributor: Distributor
    readiness: ReadinessBoard
    keys: KeyKeeper
    flows: FlowKeeper | None
    ledger: Ledger
    ledger_file: LedgerFile
    metrics: ControlPlaneMetrics
    log: Logger
    clock: Clock


Task = tuple[str, Callable[[], Awaitable[None]]]
"""A name, and what runs for ever."""


class Origin(Protocol):
    """A configuration in force and whatever changes it, in a process that runs."""

    @property
    def held(self) -> Configuration | None:
        """The configuration in force; None before the first."""

    @property
    def held_since(self) -> float:
        """When it was put in force by this process, in Unix seconds."""

    @property
    def refused(self) -> RefusedChange | None:
        """Why what there is now is not in force; None when it is."""

    @property
    def evidence(self) -> ca.EvidenceSources:
        """By what workloads may prove themselves beside join tokens."""

    async def start(self) -> None:
        """Put the first configuration in force. Raises StartRefusedError."""

    def tasks(self) -> Sequence[Task]:
        """What keeps it up to date."""

    def routes(self) -> Sequence[web.RouteDef]:
        """What operators may ask, and change."""

    def stir(self) -> None:
        """A sidecar came, left, or said what it enforces."""

    async def again(self) -> bool:
        """Put what is in force in force anew, with the keys that token issuers have now."""

    async def show_readiness(self) -> bool:
        """Tell callers which workloads can serve now."""

    async def close(self) -> None:
        """After its tasks were cancelled, before servers end."""

    async def settle(self) -> None:
        """After servers ended."""


class Opened(Protocol):
    """An origin of which enough is known to open the authority."""

    @property
    def document(self) -> MeshDocument:
        """The mesh's trust domain, lifetimes and addresses; perhaps not yet its services."""

    @property
    def addresses(self) -> ControlPlaneAddresses:
        """Where to listen."""

    def assemble(self, parts: Parts) -> Origin:
        """The origin, once the process has its parts. Raises StartRefusedError."""
