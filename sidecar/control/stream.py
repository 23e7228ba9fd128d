"""The sidecar's side of the control plane: a stream that is had again whenever it is lost, and what is in force.

At the start the control plane has a moment to answer; if it does not, the last good snapshot on disk is put in force,
and the stream is tried on. Losing the control plane later changes nothing of what is in force; only the staleness
grows. A snapshot goes: stream -> ``enforcement`` -> the app's ``on_snapshot``; then to disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol

from ringfence.kit.backoff import Backoff
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.snapshot import Snapshot
from ringfence.spiffe import SpiffeId, TrustBundle, X509Svid
from ringfence.wire.gen import control_pb2 as pb
from sidecar.channels import SNAPSHOT_LIMIT_BYTES, mutual_tls_channel
from sidecar.control.enforcement import Enforcement, OnSnapshot, Outcome
from sidecar.control.errors import StoredSnapshotUnfit, StreamEnded
from sidecar.control.session import Session
from sidecar.control.snapshot_file import SnapshotFile
from sidecar.settings import HostPort
from sidecar.state_folder import StateError

_IDENTITY_SLICE_SECONDS: Final = 15.0


class IdentitySource(Protocol):
    """What the stream needs of the identity holder."""

    @property
    def spiffe_id(self) -> SpiffeId: ...

    @property
    def svid(self) -> X509Svid | None: ...

    @property
    def bundles(self) -> tuple[TrustBundle, ...]: ...

    @property
    def left_seconds(self) -> float: ...

    def on_change(self, callback: Callable[[X509Svid, tuple[TrustBundle, ...]], None]) -> Callable[[], None]: ...

    async def ready(self) -> None: ...


class ControlStream:
    """Keeps a stream open and what it brings in force; one task runs ``run``, everything else only reads."""

    def __init__(
        self,
        *,
        address: HostPort,
        holder: IdentitySource,
        file: SnapshotFile,
        on_snapshot: OnSnapshot,
        clock: Clock,
        random: Callable[[], float],
        log: Logger,
        version: str,
        process: str,
        instance: str = "",
        readiness: Callable[[], pb.ReadinessReport] = lambda: pb.ReadinessReport(ready=True),
        backoff: Backoff | None = None,
        patience_seconds: float = 2.0,
        answer_seconds: float = 10.0,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``process`` names this run of the sidecar, ``instance`` the workload among those of its identity.
        ``patience_seconds``: how long the control plane may take before the stored snapshot is put in force;
        ``answer_seconds``: how long it may leave a hello or a report unanswered before the stream is given up."""
        self._address = address
        self._holder = holder
        self._file = file
        self._clock = clock
        self._random = random
        self._log = log
        self._version = version
        self._process = process
        self._instance = instance
        self._readiness = readiness
        self._backoff = backoff or Backoff()
        self._patience_seconds = patience_seconds
        self._answer_seconds = answer_seconds
        self._wait = wait
        self._enforcement = Enforcement(
            spiffe_id=holder.spiffe_id,
            instance=instance,
            on_snapshot=on_snapshot,
            log=log,
            monotonic=clock.monotonic,
        )
        self._session: Session | None = None
        self._taking: set[asyncio.Future[Outcome]] = set()
        self._saved: Snapshot | None = None
        """What is on disk, as far as this process put it there."""
        self._settled = asyncio.Event()
        """The control plane has answered or failed once."""
        self._contact_wall: float | None = None
        self._contact_monotonic = clock.monotonic()
        self._last_failure: str | None = None
        self._leaving = False
        self._heard = False
        """The control plane has spoken on the stream that is open, or was last."""
        self.connected = False
        """The control plane has spoken on the last stream, and that one ended only for the sake of a next one."""
        self.reconnects = 0
        """Streams that were opened after the first."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The one in force."""
        return self._enforcement.snapshot

    @property
    def refused(self) -> int:
        """Snapshots that were not put in force."""
        return self._enforcement.refused

    @property
    def received(self) -> float:
        """When the snapshot that is being put in force, or was last, arrived; monotonic seconds."""
        return self._enforcement.received

    @property
    def last_contact(self) -> float | None:
        """When the control plane was last known to be there, Unix seconds; None if it never was."""
        return self._clock.now() if self.connected else self._contact_wall

    def staleness_seconds(self) -> float:
        """For how long what is in force may have been out of date: 0 while connected, else since the last contact (or
        since this process began)."""
        return 0.0 if self.connected else self._clock.monotonic() - self._contact_monotonic

    @property
    def waiting_for(self) -> str | None:
        """What stands between this process and a policy to enforce; None if it has one, however old."""
        if self.snapshot is not None:
            return None
        reason = self._last_failure
        return "a snapshot from the control plane" + ("" if reason is None else f" ({reason})")

    async def run(self) -> None:
        """Keep a stream open, forever; waits for a first identity before anything else."""
        await self._holder.ready()
        end = self._holder.on_change(self._identity_changed)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fall_back(), name="last good snapshot")
                tasks.create_task(self._keep_open(), name="control stream sessions")
        finally:
            end()
            for taking in tuple(self._taking):
                taking.cancel()
            await asyncio.gather(*self._taking, return_exceptions=True)

    async def _keep_open(self) -> None:
        attempt = 0
        opened = 0
        while not self._leaving:
            if self._holder.left_seconds <= 0.0:
                # No use in showing an SVID that has ended; the holder is at work on the next.
                self._settled.set()
                await self._wait(min(_IDENTITY_SLICE_SECONDS, self._backoff.delay(attempt, self._random)))
                attempt += 1
                continue
            self.reconnects += 1 if opened else 0
            opened += 1
            try:
                await self._open()
            except Exception as error:  # a fault of ours is no reason to stop trying, either
                told = str(error) if isinstance(error, StreamEnded) else f"{type(error).__name__}: {error}"
                attempt = 0 if self._heard else attempt
                delay = self._backoff.delay(attempt, self._random)
                self._lost(told, delay)
                attempt += 1
                await self._wait(delay)
            else:
                attempt = 0

    async def _open(self) -> None:
        """One stream from its opening to its end; see ``Session.run``."""
        svid, bundles = self._holder.svid, self._holder.bundles
        self._heard = False
        if svid is None or not bundles:
            raise StreamEnded("no identity to open a stream with")
        self._session = Session(
            mutual_tls_channel(
                self._address,
                bundles[0],
                svid,
                clock=self._clock,
                limit_bytes=SNAPSHOT_LIMIT_BYTES,
                connect_seconds=self._answer_seconds,
            ),
            address=str(self._address),
            svid=svid,
            take=self._take,
            enforced_revision=lambda: self._enforcement.revision,
            readiness=self._readiness,
            clock=self._clock,
            answer_seconds=self._answer_seconds,
        )
        hello = pb.Hello(
            version=self._version,
            process=self._process,
            held_revision=self._enforcement.revision,
            instance=self._instance,
            reports_flows=True,
        )
        try:
            await self._session.run(hello)
        finally:
            self._session = None
            if self._heard:
                self._contact_wall = self._clock.now()
                self._contact_monotonic = self._clock.monotonic()

    async def _take(self, message: pb.Snapshot) -> Outcome:
        """A snapshot from the stream, taken to the end even if the stream ends meanwhile: half of one is none."""
        taking = asyncio.ensure_future(self._take_whole(message))
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)
        return await asyncio.shield(taking)

    async def _take_whole(self, message: pb.Snapshot) -> Outcome:
        """Into force, and to disk."""
        if not self.connected:
            self._log.info("control plane connected", address=str(self._address))
        self.connected = self._heard = True
        self._last_failure = None
        outcome = await self._enforcement.take(message)
        assert outcome is not None, "only_if_none was not asked for"
        if outcome.error is not None:
            self._last_failure = f"revision {outcome.revision} was refused: {outcome.error}"
        self._settled.set()
        if outcome.is_new and not self._as_saved(self.snapshot):
            await self._save(message)
        return outcome

    def _as_saved(self, snapshot: Snapshot | None) -> bool:
        """Whether what is on disk differs in nothing but which endpoints are ready: that is old by the next start, and
        comes too often to be worth a write each time."""
        saved = self._saved
        return saved is not None and snapshot is not None and replace(snapshot, revision=saved.revision) == saved

    async def _save(self, message: pb.Snapshot) -> None:
        """Off the loop, since a disk may take its time; a failure costs only the next start without a control plane."""
        snapshot = self.snapshot

        def write() -> None:
            self._file.write(message, spiffe_id=self._holder.spiffe_id, saved_at=self._clock.now())

        try:
            await asyncio.get_running_loop().run_in_executor(None, write)
            self._saved = snapshot
        except StateError as error:
            self._log.warning("snapshot not saved", revision=message.revision, reason=str(error))

    async def _fall_back(self) -> None:
        """Put the stored snapshot in force if the control plane gives none in time."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._settled.wait()
        except TimeoutError:
            pass
        if self.snapshot is not None:
            return
        try:
            stored = self._file.read(self._holder.spiffe_id)
        except StoredSnapshotUnfit as error:
            self._log.error("stored snapshot refused", reason=str(error))
            return
        if stored is None:
            return
        message, saved_at = stored
        outcome = await self._enforcement.take(message, only_if_none=True)
        if outcome is not None and outcome.error is None:
            self._log.warning(
                "serving by the last good snapshot",
                revision=outcome.revision,
                age_seconds=round(self._clock.now() - saved_at),
                reason=self._last_failure or "the control plane has not answered yet",
            )

    def _lost(self, reason: str, delay: float) -> None:
        was_connected, self.connected = self.connected, False
        self._last_failure = reason
        self._settled.set()
        self._log.warning(
            "control plane lost" if was_connected else "control plane not reached",
            reason=reason,
            retry_in_seconds=round(delay, 2),
            enforced_revision=self._enforcement.revision,
            stale_seconds=round(self.staleness_seconds(), 1),
        )

    def readiness_changed(self) -> None:
        """Tell the control plane; where there is no stream, the next one begins with it."""
        if self._session is not None:
            self._session.readiness_changed()

    @property
    def takes_flows(self) -> bool:
        """Whether there is a stream, to a control plane that understands flow reports."""
        return self._session is not None and self._session.takes_flows

    async def send_flows(self, report: pb.FlowReport) -> bool:
        """Whether the report is on its way. Called by one task alone."""
        return self._session is not None and await self._session.send_flows(report)

    async def leave(self) -> None:
        """End the stream in order, and open no other: returns when the control plane has read all that was said."""
        self._leaving = True
        if self._session is not None:
            await self._session.leave()

    async def flush(self) -> None:
        """Returns when all that was to be reported is on its way, or there is no stream to report on."""
        if self._session is not None:
            await self._session.flush()

    def _identity_changed(self, svid: X509Svid, bundles: tuple[TrustBundle, ...]) -> None:
        if self._session is not None:
            self._session.identity_changed(svid)
