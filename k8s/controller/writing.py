"""Writes the standing of each document into its status: only where it differs, and never in a storm. Adapter.

The spec is never written. A status that was changed meanwhile, or whose object is gone, is looked at again when the
watch brings what it is now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from k8s.client.connection import Connection
from k8s.client.errors import ConflictError, KubernetesError, NotFoundError
from k8s.controller.documents import HeldDocument
from k8s.controller.offering import JudgedVersions
from k8s.controller.settling import Settler
from k8s.controller.statuses import Status, status_of
from k8s.controller.watching import ClusterCopies
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.platform import DocumentStanding

_AGAIN_SECONDS: Final = 5.0
_ROUND_SECONDS: Final = 2.0
"""What is said of a document is found out at the beginning of a round, so none lasts much longer."""


class Standings(Protocol):
    """As much of a host as this needs."""

    def standings(self) -> Mapping[str, DocumentStanding]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePace:
    """At most so many writes a second; one document not again within so many seconds."""

    writes_per_second: float = 20.0
    apart_seconds: float = 2.0


class StatusWriter:
    """``leading``: whether this replica is to write."""

    def __init__(
        self,
        connection: Connection,
        copies: ClusterCopies,
        host: Standings,
        leading: Callable[[], bool],
        *,
        judged: JudgedVersions,
        clock: Clock,
        log: Logger,
        pace: WritePace | None = None,
    ) -> None:
        self._connection = connection
        self._copies = copies
        self._host = host
        self._leading = leading
        self._judged = judged
        self._clock = clock
        self._log = log
        self._pace = pace or WritePace()
        self._written: dict[str, float] = {}

    async def run(self, settler: Settler) -> None:
        """Look at all statuses whenever something stirs, until cancelled."""
        while True:
            await settler.settled()
            if not self._leading():
                continue
            wait = await self._round()
            if wait is not None:
                asyncio.get_running_loop().call_later(wait, settler.stir)

    async def _round(self) -> float | None:
        """Write what differs, what was not written for longest first; seconds until it should be looked at again, None
        where all is said."""
        again: float | None = None
        standings = self._host.standings()
        began = self._clock.monotonic()
        never = float("-inf")
        for held in sorted(self._copies.documents(), key=lambda one: self._written.get(one.written.name, never)):
            if not self._leading():
                return None  # another says it now
            if self._clock.monotonic() - began > _ROUND_SECONDS:
                return 0.0
            standing = standings.get(held.written.name)
            if standing is None or not self._judged.speaks_of(held.written):
                continue
            status = status_of(standing, held.generation, held.status, self._clock.now())
            if status is None:
                continue
            rest = self._written.get(held.written.name, never) + self._pace.apart_seconds
            rest -= self._clock.monotonic()
            if rest > 0:
                again = rest if again is None else min(again, rest)
            elif not await self._write(held, status):
                again = _AGAIN_SECONDS if again is None else again
        names = {held.written.name for held in self._copies.documents()}
        self._written = {name: at for name, at in self._written.items() if name in names}
        return again

    async def _write(self, held: HeldDocument, status: Status) -> bool:
        current = self._copies.document(held.resource.kind, held.namespace, held.name)
        if current is None or current.written.version != held.written.version:
            return True  # it stirs by itself
        self._written[held.written.name] = self._clock.monotonic()
        # A merge leaves alone what it does not name.
        gone = {key: None for key in held.status if key not in status}
        try:
            await self._connection.patch(
                held.resource, held.name, {"status": {**gone, **status}}, held.namespace, subresource="status"
            )
        except (NotFoundError, ConflictError):
            return True
        except KubernetesError as error:
            self._log.warning("status not written", document=held.written.name, error=str(error))
            return False
        finally:
            await asyncio.sleep(1.0 / self._pace.writes_per_second)
        return True
