"""A worker: one data path in a process of its own, told by its parent what to be and what to enforce.

It knows neither the CA nor the control plane. When the parent is gone nobody renews its identity and nobody tells it
what is denied from now on, so it takes nothing new, lets what lives end in the time of a drain, and ends.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
import sys
from itertools import chain
from pathlib import Path
from typing import Final

import uvloop

from ringfence import __version__
from ringfence.kit.clock import Clock, SystemClock
from ringfence.kit.log import Logger
from ringfence.kit.log_sink import LogSink
from ringfence.snapshot import Port
from ringfence.spiffe import SpiffeId
from ringfence.wire.convert import WireError, snapshot_from_wire
from ringfence.wire.gen import control_pb2
from sidecar.data_path import DataPath
from sidecar.flows.reporting import REPORT_SECONDS
from sidecar.flows.reports import take_reports
from sidecar.later import Later
from sidecar.listening import listen_beside
from sidecar.metrics import SidecarMetrics
from sidecar.pod import PodSettings
from sidecar.process_metrics import ProcessMetrics
from sidecar.recording import Recorder
from sidecar.serving import CannotEnforceError
from sidecar.tap import Tap, TapFilter
from sidecar.tracing.settings import TracingSettings
from sidecar.workers import counting, identity
from sidecar.workers.channel import Channel
from sidecar.workers.lines import WholeLines
from sidecar.workers.messages import (
    Answer,
    AppRefused,
    Attached,
    Connections,
    Counted,
    Discard,
    Drain,
    Enforce,
    Flowed,
    Identity,
    LogLevel,
    Message,
    MessageError,
    Noted,
    NotedSince,
    Prepare,
    Start,
    TapClosed,
    TapOpened,
    Tapped,
)

_GC_THRESHOLD: Final = 50_000  # as in sidecar.app
_REPORT_SECONDS: Final = 1.0
_REFUSAL_SECONDS: Final = 1.0
_REPORT_SHARE: Final = 0.02  # of the loop's time, for telling what was counted


def run(descriptor: int) -> int:
    """Work for the parent at the other end of ``descriptor`` until told to end, or until it is gone."""
    with socket.socket(fileno=descriptor) as pair:
        return uvloop.run(_Process(SystemClock()).run(pair.dup()))


class _Process:
    """The process before and behind its work: the channel, what comes by it, the end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self._drain_seconds = 0.0
        self._channel: Channel | None = None
        self._worker: _Worker | None = None

    async def run(self, pair: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        # Ctrl-C reaches every process of a terminal; the parent is the one to decide.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        channel = self._channel = await Channel.over(pair, self)
        channel.send(Attached(version=__version__))
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        await self._stop.wait()
        if self._worker is not None:
            await self._worker.end(self._drain_seconds, self._at_once)
        channel.close()
        return 0

    # -- the channel's owner ------------------------------------------------------------------------------------------

    def message(self, message: Message) -> None:
        channel = self._channel
        assert channel is not None
        if isinstance(message, Start):
            self._drain_seconds = message.drain_seconds
            self._worker = _Worker(message, channel, self._clock)
        elif isinstance(message, Drain):
            self._drain_seconds = message.seconds
            if message.seconds <= 0.0:
                self._at_once.set()
            self._stop.set()
        elif self._worker is not None:
            try:
                self._worker.message(message)
            except MessageError as error:
                self._worker.log.error("the parent is not understood", reason=str(error))
                channel.abort()

    def channel_lost(self, reason: str) -> None:
        if self._worker is not None and not self._stop.is_set():
            self._worker.log.error("the parent is lost: draining", reason=reason)
        self._stop.set()


class _Worker:
    """The work: a data path, and what the parent asks about it."""

    def __init__(self, start: Start, channel: Channel, clock: Clock) -> None:
        self._channel = channel
        self._clock = clock
        self._number = start.worker
        self._sink = LogSink(WholeLines(sys.stderr, start.log_lock))
        log = Logger("sidecar", level=start.log_level, stream=self._sink)  # type: ignore[arg-type]
        self.log = log.bind(workload=start.spiffe_id, worker=start.worker)
        self._metrics = SidecarMetrics()
        self._process = ProcessMetrics()
        own_id = SpiffeId.parse(start.spiffe_id)
        tracer = None
        if start.spans_endpoint:
            from sidecar.tracing.opening import open_tracer

            tracing = TracingSettings(
                endpoint=start.spans_endpoint,
                sample=start.spans_sample,
                headers_file=Path(start.spans_headers_file) if start.spans_headers_file else None,
            )
            try:
                tracer = open_tracer(tracing, own_id=own_id, clock=clock, log=self.log, metrics=self._metrics)
            except ValueError as error:  # they were good when the sidecar began; the traffic must not pay for it
                self.log.error("no spans", reason=str(error))
        self._recorder = Recorder(
            log=self.log,
            metrics=self._metrics,
            clock=clock,
            every_request=start.every_request,
            sample=start.sample,
            own_id=start.spiffe_id,
            tracer=tracer,
            worker=start.worker,
            later=Later(),
        )
        self._path = DataPath(
            own_id=own_id,
            clock=clock,
            log=self.log,
            metrics=self._metrics,
            recorder=self._recorder,
            listen=listen_beside,
            app_refused=self._app_refused,
            limits=start.limits,
            pod=PodSettings(addresses=start.pod_addresses, resolvers=start.resolvers),
        )
        self._refusals_told: dict[int, float] = {}
        self._metrics.total("ringfence_log_lines_dropped", "Log lines nobody took", lambda: float(self._sink.dropped))
        self._taps: dict[int, Tap] = {}
        self._told: bytes = b""
        self._flows_told = clock.monotonic()
        loop = asyncio.get_running_loop()
        self._tasks = {
            loop.create_task(self._path.keep(), name="deadlines"),
            loop.create_task(self._report(), name="report"),
        }

    async def end(self, seconds: float, at_once: asyncio.Event) -> None:
        """Drain, tell what was counted last, and let go."""
        await self._path.drain(seconds, at_once)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._count()
        self._tell_flows()
        self.log.info("worker stopped")
        self._sink.close()

    def _app_refused(self, port: Port) -> None:
        """Told once in a while: the parent tries the app itself from then on."""
        now = self._clock.monotonic()
        if now - self._refusals_told.get(port.port, -_REFUSAL_SECONDS) >= _REFUSAL_SECONDS:
            self._refusals_told[port.port] = now
            self._channel.send(AppRefused(port=port.port))

    async def _report(self) -> None:
        """Tell what was counted, as often as is cheap: what is not told dies with a process that is killed."""
        while True:
            began = self._clock.monotonic()
            self._count()
            flows = self._recorder.flows
            if flows.crowded or began - self._flows_told >= REPORT_SECONDS:
                self._tell_flows()
            took = self._clock.monotonic() - began
            await asyncio.sleep(max(_REPORT_SECONDS, took / _REPORT_SHARE))

    def _count(self) -> None:
        blob = counting.to_bytes(chain(self._metrics.collect(), self._process.collect()))
        if blob != self._told and not self._channel.full:
            self._told = blob
            self._channel.send(Counted(blob=blob))

    def _tell_flows(self) -> None:
        """What was judged; while the parent takes nothing, the table counts on."""
        if self._channel.full:
            return
        self._flows_told = self._clock.monotonic()
        try:
            for report in take_reports(self._recorder.flows):
                self._channel.send(Flowed(blob=report.SerializeToString()))
        except Exception as error:  # no evidence is worth the counts that are told by the same task
            self.log.error("flows not reported", error=f"{type(error).__name__}: {error}")

    # -- what the parent says -----------------------------------------------------------------------------------------

    def message(self, message: Message) -> None:
        """Raises MessageError for what a parent does not say."""
        match message:
            case Identity():
                self._path.renewed(*identity.read(message))
            case Prepare():
                task = asyncio.get_running_loop().create_task(self._prepare(message), name="prepare")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case Enforce():
                self._path.enforce()
                self._channel.send(Answer(serial=message.serial, error=""))
            case Discard():
                self._path.discard()
                self._channel.send(Answer(serial=message.serial, error=""))
            case LogLevel():
                self.log.set_level(message.level)
            case Connections():
                self._channel.send(Answer(serial=message.serial, error="", blob=self._connections(message.limit)))
            case Noted():
                self._channel.send(Answer(serial=message.serial, error="", blob=self._noted(message.request_id)))
            case NotedSince():
                self._channel.send(Answer(serial=message.serial, error="", blob=self._noted_since(message)))
            case TapOpened():
                self._open_tap(message)
            case TapClosed():
                tap = self._taps.pop(message.tap, None)
                if tap is not None:
                    tap.gone()
            case _:
                raise MessageError(f"{type(message).__name__} is no parent's")

    async def _prepare(self, message: Prepare) -> None:
        error = ""
        try:
            snapshot = snapshot_from_wire(control_pb2.Snapshot.FromString(message.blob))
            await self._path.prepare(snapshot, message.received)
        except (CannotEnforceError, WireError) as refused:
            error = str(refused)
        except Exception as defect:  # the parent is told, and nothing is in force
            error = f"internal error: {type(defect).__name__}: {defect}"
        self._channel.send(Answer(serial=message.serial, error=error))

    def _connections(self, limit: int) -> bytes:
        return json.dumps(self._path.living(limit), default=str).encode("ascii")

    def _noted(self, request_id: str) -> bytes:
        call = self._recorder.calls.find(request_id)
        return json.dumps(call.document()).encode("ascii") if call is not None else b""

    def _noted_since(self, asked: NotedSince) -> bytes:
        calls = self._recorder.calls.since(asked.moment, asked.limit)
        return json.dumps([call.document() for call in calls]).encode("ascii")

    def _open_tap(self, message: TapOpened) -> None:
        wanted = TapFilter(
            denied=message.denied,
            would_deny=message.would_deny,
            shadow=message.shadow,
            caller=message.caller,
            service=message.service,
        )
        tap = self._taps[message.tap] = Tap(self._recorder.taps, wanted, asyncio.get_running_loop().call_soon)
        self._channel.on_room = self._room

        def write(lines: bytes) -> None:
            self._channel.send(Tapped(tap=message.tap, blob=lines))
            if self._channel.full:
                tap.full()

        tap.started(write)

    def _room(self) -> None:
        for tap in self._taps.values():
            tap.room()
