"""What is in force: takes snapshots one at a time to ``on_snapshot``, remembers the last one and answers for it.

A snapshot is taken whole or refused whole; a refused one leaves the older in force. No network and no files here.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ringfence.kit.log import Logger
from ringfence.snapshot import Snapshot
from ringfence.spiffe import SpiffeId
from ringfence.wire.convert import WireError, snapshot_from_wire
from ringfence.wire.gen import control_pb2
from sidecar.control.errors import SnapshotRefused

OnSnapshot = Callable[[Snapshot], Awaitable[None] | None]
"""Puts a snapshot in force or raises SnapshotRefused; never called while an earlier call still runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer to one snapshot."""

    revision: int
    error: str | None
    """None: it is in force."""
    is_new: bool
    """It was put in force just now, and was not in force already."""


class Enforcement:
    """The snapshot in force and how it got there."""

    def __init__(
        self,
        *,
        spiffe_id: SpiffeId,
        instance: str = "",
        on_snapshot: OnSnapshot,
        log: Logger,
        monotonic: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._spiffe_id = spiffe_id
        self._monotonic = monotonic
        self._instance = instance
        self._on_snapshot = on_snapshot
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._digest = b""
        self.snapshot: Snapshot | None = None
        self.refused = 0
        """Snapshots that were not put in force."""
        self.received = 0.0
        """When the snapshot that was taken last arrived, monotonic seconds: before it was read, or waited its turn."""

    @property
    def revision(self) -> int:
        """The revision in force, 0 for none."""
        return 0 if self.snapshot is None else self.snapshot.revision

    async def take(self, message: control_pb2.Snapshot, *, only_if_none: bool = False) -> Outcome | None:
        """Put a snapshot in force if it can be; one with the content that is in force already is not put there twice.

        With ``only_if_none`` nothing happens, and None is returned, when there is one in force already.
        """
        received = self._monotonic()
        async with self._one_at_a_time:
            self.received = received
            if only_if_none and self.snapshot is not None:
                return None
            digest = hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
            if self.snapshot is not None and digest == self._digest:
                return Outcome(revision=message.revision, error=None, is_new=False)
            try:
                snapshot = snapshot_from_wire(message)
                await self._enforce(snapshot)
            except (WireError, SnapshotRefused) as error:
                return self._refuse(message.revision, str(error))
            except Exception as error:  # a fault of ours is no reason to lose the stream, nor to claim success
                return self._refuse(message.revision, f"internal error: {type(error).__name__}: {error}")
            self.snapshot, self._digest = snapshot, digest
            self._log.info("snapshot in force", revision=snapshot.revision)
            return Outcome(revision=snapshot.revision, error=None, is_new=True)

    async def _enforce(self, snapshot: Snapshot) -> None:
        if snapshot.workload.spiffe_id != self._spiffe_id:
            raise SnapshotRefused(f"it is the snapshot of {snapshot.workload.spiffe_id}, not of {self._spiffe_id}")
        if snapshot.workload.instance != self._instance:
            told, own = _named(snapshot.workload.instance), _named(self._instance)
            raise SnapshotRefused(f"it is the snapshot of {told} of {self._spiffe_id}, not of {own}")
        result = self._on_snapshot(snapshot)
        if inspect.isawaitable(result):
            await result

    def _refuse(self, revision: int, reason: str) -> Outcome:
        self.refused += 1
        self._log.error("snapshot refused", revision=revision, reason=reason, enforced_revision=self.revision)
        return Outcome(revision=revision, error=reason, is_new=False)


def _named(instance: str) -> str:
    return f"instance {instance}" if instance else "the unnamed instance"
