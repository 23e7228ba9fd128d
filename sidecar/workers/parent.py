"""The workers of a sidecar, all of them: started, told, replaced, drained; to the composition root one data path.

A snapshot goes to every worker to be prepared and then to every worker to be enforced, so it is refused by all or in
force at all. A worker listens only from its first snapshot on, so one that is just starting serves nothing that is not
the policy. One that dies is replaced; what it served ends with it, and its new connections go to the others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from ringfence import __version__
from ringfence.kit.backoff import Backoff
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.snapshot import Port, Snapshot
from ringfence.spiffe import TrustBundle, X509Svid
from ringfence.wire.convert import snapshot_to_wire
from sidecar.exposition import Family
from sidecar.flows.reports import absorb
from sidecar.flows.table import FlowTable
from sidecar.gauges import declare_workers_gauges
from sidecar.limits.table import new_file
from sidecar.metrics import SidecarMetrics
from sidecar.serving import CannotEnforceError
from sidecar.settings import AccessLog, SidecarSettings
from sidecar.workers import counting
from sidecar.workers.holds import PortHolds, places_of
from sidecar.workers.identity import told
from sidecar.workers.lines import WholeLines
from sidecar.workers.messages import Flowed, Identity, LogLevel, Message, Start, Tapped
from sidecar.workers.process import WorkerLostError, WorkerProcess
from sidecar.workers.taps import WorkersTaps

START_SECONDS: Final = 20.0
_STEADY_SECONDS: Final = 60.0  # a worker that lived so long begins its row of deaths anew
_KILL_SECONDS: Final = 3.0


class Workers:
    """``count`` workers, each at its number."""

    def __init__(
        self,
        *,
        count: int,
        start: Callable[[int], Start],
        inherited: tuple[int, ...],
        metrics: SidecarMetrics,
        clock: Clock,
        random: Callable[[], float],
        log: Logger,
        app_refused: Callable[[Port], None] = lambda _: None,
        flows: FlowTable | None = None,
        pod_addresses: tuple[str, ...] = (),
        backoff: Backoff | None = None,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``start``: what the worker of a number is told first; ``inherited``: descriptors that it gets.
        ``app_refused`` is told of each port on which the app took no connection. ``flows``: where together is counted
        what they judged."""
        self._draining = asyncio.Event()
        self.bundles: tuple[TrustBundle, ...] = ()
        self._count = count
        self._start = start
        self._inherited = inherited
        self._pod_addresses = pod_addresses
        self._clock = clock
        self._random = random
        self._log = log
        self._app_refused = app_refused
        self._flows = flows if flows is not None else FlowTable(clock.now)
        self._backoff = backoff or Backoff()
        self._wait = wait
        self._taps = WorkersTaps(self._tell)
        self.taps = self._taps.taps
        self._identity: Identity | None = None
        self._snapshot: Snapshot | None = None
        self._message = b""
        """The snapshot as it goes over the wire."""
        self._holds = PortHolds()
        self._one_at_a_time = asyncio.Lock()
        self._living: dict[int, WorkerProcess] = {}
        """By number: every process that has not ended."""
        self._started: set[WorkerProcess] = set()
        """Of these, those that know who they are, and so are told of everything but snapshots."""
        self._ready: set[WorkerProcess] = set()
        """Of these, those that enforce the snapshot, if there is one; changed only under the lock, or by their end."""
        self._more_ready = asyncio.Event()
        self._complete = False
        """All of them have enforced a snapshot at one time."""
        self._restarts = 0
        self._retired = counting.Retired()
        declare_workers_gauges(metrics, lambda: len(self._enforcing), lambda: self._restarts)

    @property
    def _enforcing(self) -> list[WorkerProcess]:
        return [worker for worker in self._living.values() if worker.enforces]

    # -- administration -----------------------------------------------------------------------------------------------

    def waiting_for(self) -> list[str]:
        """Every worker at the start; later, when one is being replaced, the others are enough."""
        if self._draining.is_set():
            return ["draining"]
        if self._snapshot is None:
            return []  # others say so
        enforcing = len(self._enforcing)
        if enforcing == self._count or (self._complete and enforcing):
            return []
        return [f"{self._count - enforcing} of {self._count} workers"]

    def together(self, own: Iterable[Family]) -> Iterable[Family]:
        """The parent's own, what each worker last told, and what those had counted that are gone."""
        return counting.added([own, self._retired.families(), *(worker.report for worker in self._living.values())])

    def listed(self) -> list[dict[str, object]]:
        """The workers, to be shown."""
        return [
            {"worker": number, "pid": worker.pid, "enforces": worker.enforces}
            for number, worker in sorted(self._living.items())
        ]

    async def connections(self, limit: int) -> dict[str, object]:
        """What lives in all of them; each connection, link and endpoint tells its worker."""

        async def one(worker: WorkerProcess) -> tuple[int, dict[str, Any]]:
            return worker.number, json.loads(await worker.connections(limit))

        answers = await asyncio.gather(*(one(worker) for worker in self._enforcing), return_exceptions=True)
        pages = [answer for answer in answers if not isinstance(answer, BaseException)]
        document: dict[str, object] = {}
        for kind in ("connections", "links", "endpoints"):
            found = [{"worker": number, **item} for number, page in pages for item in page[kind]]
            left_out = sum(page[f"{kind}_left_out"] for _, page in pages)
            document[kind] = found[:limit]
            document[f"{kind}_left_out"] = left_out + max(0, len(found) - limit)
        return document

    async def noted(self, request_id: str) -> dict[str, Any] | None:
        """What one of them noted of a call; of a workload that calls itself, the one that was called."""
        answers = await asyncio.gather(
            *(worker.noted(request_id) for worker in self._enforcing), return_exceptions=True
        )
        found = [json.loads(answer) for answer in answers if isinstance(answer, bytes) and answer]
        return min(found, key=lambda call: call["direction"] != "inbound", default=None)

    async def noted_since(self, moment: float, limit: int) -> list[dict[str, Any]]:
        """What all of them noted of the latest calls."""
        answers = await asyncio.gather(
            *(worker.noted_since(moment, limit) for worker in self._enforcing), return_exceptions=True
        )
        found = [call for answer in answers if isinstance(answer, bytes) and answer for call in json.loads(answer)]
        return sorted(found, key=lambda call: float(call["time"]), reverse=True)[:limit]

    def log_from(self, level: str) -> None:
        """The level has changed here: there, too."""
        self._tell(LogLevel(level=level))

    def _tell(self, message: Message) -> None:
        for worker in self._started:
            worker.send(message)

    def _refused(self, number: int) -> None:
        for port in self._snapshot.workload.ports if self._snapshot is not None else ():
            if port.port == number:
                self._app_refused(port)

    def _tapped(self, worker: WorkerProcess, message: Tapped) -> None:
        try:
            self._taps.tapped(message)
        except (ValueError, TypeError, AttributeError):
            worker.kill("its tap is no JSON")

    def _flowed(self, worker: WorkerProcess, message: Flowed) -> None:
        try:
            absorb(self._flows, message.blob)
        except ValueError as error:
            worker.kill(f"its flows are none: {error}")

    # -- identity and policy ------------------------------------------------------------------------------------------

    def renewed(self, svid: X509Svid, bundles: tuple[TrustBundle, ...]) -> None:
        """To every worker; one that comes later gets it at its start."""
        self._identity = told(svid, bundles)
        self._tell(self._identity)

    async def apply(self, snapshot: Snapshot, received: float) -> None:
        """In force at every worker, or at none; CannotEnforceError says why not."""
        if self._identity is None:
            raise CannotEnforceError("no identity yet")
        await self._gathered()
        async with self._one_at_a_time:
            message = snapshot_to_wire(snapshot).SerializeToString()
            places = places_of(snapshot, self._pod_addresses)
            self._holds.take(places)
            workers = list(self._ready)
            refusals = await asyncio.gather(*(self._prepare(worker, message, received) for worker in workers))
            refused = next((text for text in refusals if text), None)
            if refused is None and all(text is None for text in refusals):
                refused = "every worker was lost while it read the snapshot"  # so nobody has found it good
            if refused is not None:
                await asyncio.gather(*(worker.discard() for worker in workers), return_exceptions=True)
                held = self._snapshot
                self._holds.keep(places_of(held, self._pod_addresses) if held is not None else {})
                raise CannotEnforceError(refused)
            # From here on it is in force: a worker that is lost now is replaced by one that begins with it.
            self._snapshot, self._message, self.bundles = snapshot, message, snapshot.bundles
            await asyncio.gather(*(worker.enforce(snapshot.revision) for worker in workers), return_exceptions=True)
            self._holds.keep(places)
            self._note_complete()

    async def _gathered(self) -> None:
        """Wait for all workers before the first snapshot, for one later; CannotEnforceError if none comes in time."""
        wanted = self._count if self._snapshot is None else 1
        try:
            async with asyncio.timeout(START_SECONDS):
                while len(self._ready) < wanted:
                    self._more_ready.clear()
                    await self._more_ready.wait()
        except TimeoutError as error:
            if not self._ready:
                raise CannotEnforceError(f"none of {self._count} workers runs") from error

    async def _prepare(self, worker: WorkerProcess, message: bytes, received: float) -> str | None:
        """Why this worker refuses; empty if it does not; None if it is lost, and then enforces nothing else either."""
        try:
            error = await worker.prepare(message, received)
        except WorkerLostError:
            return None
        return f"worker {worker.number}: {error}" if error else ""

    def _note_complete(self) -> None:
        self._complete = self._complete or len(self._enforcing) == self._count

    # -- life ---------------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Start the workers, and put another in the place of each that ends, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(1, self._count + 1):
                tasks.create_task(self._keep_one(number), name=f"worker {number}")

    async def _keep_one(self, number: int) -> None:
        attempt = 0
        while not self._draining.is_set():
            began = self._clock.monotonic()
            worker = WorkerProcess(number, self._tapped, self._refused, self._flowed)
            try:
                ended = _words(await self._live(worker), worker.reason)
            except OSError as error:
                ended = f"cannot be started: {(error.strerror or str(error)).lower()}"
            if self._draining.is_set():
                return
            if self._clock.monotonic() - began >= _STEADY_SECONDS:
                attempt = 0
            delay = self._backoff.delay(attempt, self._random)
            attempt += 1
            self._log.error(
                "worker ended",
                worker=number,
                pid=worker.pid,
                ended=ended,
                restart_in_seconds=round(delay, 2),
                others=len(self._enforcing),
            )
            await self._wait(delay)
            self._restarts += 1

    async def _live(self, worker: WorkerProcess) -> int:
        """One worker from its start to its end; its exit status."""
        self._living[worker.number] = worker
        bringing_up: asyncio.Task[None] | None = None
        try:
            await worker.start(self._inherited)
            bringing_up = asyncio.get_running_loop().create_task(self._bring_up(worker), name="worker's start")
            return await asyncio.shield(worker.gone)
        finally:
            worker.kill("the sidecar stops")
            if bringing_up is not None:
                bringing_up.cancel()
            self._started.discard(worker)
            self._ready.discard(worker)
            del self._living[worker.number]
            self._retired.add(worker.report)

    async def _bring_up(self, worker: WorkerProcess) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await worker.attached.wait()
        except TimeoutError:
            worker.kill(f"it did not start in {START_SECONDS:.0f} s")
            return
        if worker.version != __version__:
            worker.kill(f"it is of version {worker.version}, and this sidecar of {__version__}")
            return
        worker.send(self._start(worker.number))
        self._started.add(worker)
        for message in (*((self._identity,) if self._identity is not None else ()), *self._taps.opened()):
            worker.send(message)
        async with self._one_at_a_time:
            if self._snapshot is not None and not await self._catch_up(worker, self._snapshot.revision):
                return
            self._ready.add(worker)
            self._more_ready.set()
            self._note_complete()
        self._log.info("worker ready", worker=worker.number, pid=worker.pid)

    async def _catch_up(self, worker: WorkerProcess, revision: int) -> bool:
        """Have a worker enforce what the others do."""
        try:
            error = await worker.prepare(self._message, self._clock.monotonic())
            if error:
                worker.kill(f"it refuses revision {revision}: {error}")
                return False
            await worker.enforce(revision)
        except WorkerLostError:
            return False
        return True

    async def drain(self, seconds: float, at_once: asyncio.Event) -> None:
        """Have all end within ``seconds``, or at once when ``at_once`` is set; whoever does not is killed."""
        self._draining.set()
        workers = list(self._living.values())
        self._log.info("draining", seconds=seconds, workers=len(workers))
        all_gone = asyncio.gather(*(asyncio.shield(worker.gone) for worker in workers))
        hurry = asyncio.ensure_future(at_once.wait())
        for worker in workers:
            worker.drain(seconds)
        await asyncio.wait((all_gone, hurry), timeout=seconds + _KILL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not all_gone.done():
            for worker in workers:
                worker.drain(0.0)
            await asyncio.wait((all_gone,), timeout=_KILL_SECONDS)
        for worker in workers:
            worker.kill("it did not end in time")
        await all_gone
        hurry.cancel()


def _words(status: int, reason: str) -> str:
    if reason:
        return f"killed: {reason}"
    return f"by signal {-status}" if status < 0 else f"with exit status {status}"


def open_workers(
    settings: SidecarSettings,
    *,
    lines: WholeLines,
    metrics: SidecarMetrics,
    clock: Clock,
    random: Callable[[], float],
    log: Logger,
    app_refused: Callable[[Port], None],
    flows: FlowTable,
) -> Workers:
    """The workers that the settings ask for; none is started before ``keep``."""

    spans = settings.tracing
    limits = new_file()

    def start(number: int) -> Start:
        return Start(
            worker=number,
            spiffe_id=str(settings.identity.spiffe_id),
            every_request=settings.log.access_log is AccessLog.ALL,
            sample=settings.log.access_log_sample,
            spans_endpoint=spans.endpoint if spans is not None else "",
            spans_sample=spans.sample if spans is not None else 0.0,
            spans_headers_file=str(spans.headers_file or "") if spans is not None else "",
            log_level=log.level,
            log_lock=lines.lock,
            limits=limits,
            drain_seconds=settings.drain_seconds,
            pod_addresses=settings.pod.addresses,
            resolvers=settings.pod.resolvers,
        )

    return Workers(
        count=settings.workers,
        start=start,
        inherited=(lines.lock, limits),
        metrics=metrics,
        clock=clock,
        random=random,
        log=log,
        app_refused=app_refused,
        flows=flows,
        pod_addresses=settings.pod.addresses,
    )
