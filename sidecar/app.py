"""The sidecar's composition root: builds every part from the settings, ties them together, runs them, stops them.

Here identity and snapshots arrive and are handed to what serves by them: ``data_path``, or with ``--workers`` above 1
``workers``, each of which has a data path in a process of its own. Signals and administration look at both.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Final

import uvloop

from ringfence import __version__
from ringfence.kit.clock import Clock, SystemClock
from ringfence.kit.log import Logger
from ringfence.kit.log_sink import LogSink
from ringfence.snapshot import Port, Snapshot, Transport
from sidecar.admin import AdminServer
from sidecar.admin_pages import (
    CONNECTIONS_SHOWN,
    DrainPage,
    LogLevelPage,
    TapPage,
    WhyPage,
    certs_document,
    read_limit,
    status_document,
)
from sidecar.control import ControlStream, SnapshotRefused, open_control
from sidecar.exposition import exposition
from sidecar.flows.reporting import FlowReporting
from sidecar.flows.table import FlowTable
from sidecar.gauges import declare_flow_gauges, declare_gauges
from sidecar.identity import IdentityHolder, IdentityRefused, open_identity
from sidecar.last_words import leave
from sidecar.local_http import Asked, Page, Verbs, json_page
from sidecar.metrics import SidecarMetrics
from sidecar.policy_page import policy_shown
from sidecar.process_metrics import ProcessMetrics
from sidecar.readiness import Readiness
from sidecar.resolvers import RESOLV_CONF, resolvers_in
from sidecar.serving import CannotEnforceError, Serving
from sidecar.settings import AccessLog, SidecarSettings
from sidecar.signals import ListenError, SignalsServer

if TYPE_CHECKING:
    from sidecar.probes.pages import ProbePages
    from sidecar.workers import WholeLines

# Requests leave no cycles behind; the default threshold would look for some every few hundred of them.
_GC_THRESHOLD: Final = 50_000
_FAREWELL_SECONDS: Final = 0.5
_LAST_WORDS_SECONDS: Final = 2.0


def run(settings: SidecarSettings) -> int:
    """Run a sidecar until SIGTERM or SIGINT; the exit status: 0 stopped, 1 could not go on (one line says why)."""
    # A core file would hold private keys. Workers inherit this; whoever hunts a crash can raise it with prlimit.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    lines = None if settings.workers == 1 else _shared_lines()
    sink = LogSink(lines or sys.stderr)
    log = Logger("sidecar", level=settings.log.level, stream=sink)  # type: ignore[arg-type]
    try:
        return uvloop.run(_Sidecar(settings, SystemClock(), log, sink, lines).run())
    except Exception as error:
        leave(f"defect: {type(error).__name__}: {error}")
        raise
    finally:
        sink.close()


# What one process serves with is imported by it alone: a parent of workers carries no traffic, and a sidecar without
# workers has no parent.


def _shared_lines() -> WholeLines:
    from sidecar.workers import WholeLines

    return WholeLines.beginning(sys.stderr)


def _alone(
    settings: SidecarSettings,
    clock: Clock,
    log: Logger,
    metrics: SidecarMetrics,
    app_refused: Callable[[Port], None],
    flows: FlowTable,
) -> Serving:
    from sidecar.data_path import DataPath
    from sidecar.later import Later
    from sidecar.recording import Recorder

    own_id = settings.identity.spiffe_id
    every_request = settings.log.access_log is AccessLog.ALL
    tracer = None
    if settings.tracing is not None:
        from sidecar.tracing.opening import open_tracer

        tracer = open_tracer(settings.tracing, own_id=own_id, clock=clock, log=log, metrics=metrics)
    recorder = Recorder(
        log=log,
        metrics=metrics,
        clock=clock,
        every_request=every_request,
        sample=settings.log.access_log_sample,
        own_id=str(own_id),
        tracer=tracer,
        flows=flows,
        later=Later(),
    )
    return DataPath(
        own_id=own_id,
        clock=clock,
        log=log,
        metrics=metrics,
        recorder=recorder,
        app_refused=app_refused,
        pod=settings.pod,
    )


def _with_resolvers(settings: SidecarSettings) -> SidecarSettings:
    """With those of the pod, if it is one. They are read once, before an app runs: it may be able to write the file."""
    if not settings.pod.addresses:
        return settings
    with contextlib.suppress(OSError):
        found = resolvers_in(RESOLV_CONF.read_text(errors="replace"))
        return replace(settings, pod=replace(settings.pod, resolvers=found))
    return settings


def _by_workers(
    settings: SidecarSettings,
    clock: Clock,
    log: Logger,
    metrics: SidecarMetrics,
    app_refused: Callable[[Port], None],
    flows: FlowTable,
    lines: WholeLines,
) -> Serving:
    from sidecar.workers import open_workers

    return open_workers(
        settings,
        lines=lines,
        metrics=metrics,
        clock=clock,
        random=random.random,
        log=log,
        app_refused=app_refused,
        flows=flows,
    )


class _Sidecar:
    """The parts of one sidecar and what flows between them."""

    def __init__(
        self, settings: SidecarSettings, clock: Clock, log: Logger, sink: LogSink, lines: WholeLines | None
    ) -> None:
        self._settings = settings = _with_resolvers(settings)
        self._clock = clock
        self._log = log.bind(workload=str(settings.identity.spiffe_id))
        self._metrics = SidecarMetrics()
        self._process = ProcessMetrics()
        self._readiness = Readiness(changed=lambda: self._control.readiness_changed(), random=random.random)
        app_refused = self._readiness.app_refused
        flows = FlowTable(clock.now)
        self._serving = (
            _alone(settings, clock, self._log, self._metrics, app_refused, flows)
            if lines is None
            else _by_workers(settings, clock, self._log, self._metrics, app_refused, flows, lines)
        )
        self._holder: IdentityHolder = open_identity(
            settings.identity, clock=clock, random=random.random, log=self._log.bind("identity")
        )
        self._control: ControlStream = open_control(
            settings.control,
            holder=self._holder,
            on_snapshot=self._apply,
            readiness=self._readiness.report,
            clock=clock,
            random=random.random,
            log=self._log.bind("control"),
            version=__version__,
        )
        self._flows = FlowReporting(
            flows,
            takes=lambda: self._control.takes_flows,
            send=self._control.send_flows,
            clock=clock,
            log=self._log.bind("flows"),
        )
        declare_flow_gauges(self._metrics, lambda: self._flows.dropped)
        declare_gauges(self._metrics, holder=self._holder, control=self._control, sink=sink, clock=clock)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        at_once = asyncio.Event()

        def told() -> None:
            (at_once if stop.is_set() else stop).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told)
        probes = self._probe_pages()
        signals = SignalsServer(
            self._metrics_text,
            self.waiting_for,
            log=self._log.bind("signals"),
            more=probes.routes() if probes is not None else {},
        )
        admin = AdminServer(self._admin_pages(stop), log=self._log.bind("admin"))
        listen = self._settings.signals
        try:
            if listen.listen is not None:
                await signals.start(listen.listen.host, listen.listen.port)
            if listen.admin_socket is not None:
                await admin.start(listen.admin_socket)
        except ListenError as error:
            self._log.error("cannot listen", detail=str(error))
            leave(f"cannot listen: {error}")
            return 1
        self._holder.on_change(self._serving.renewed)
        self._log.info("sidecar started", version=__version__)
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        status = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                identity = tasks.create_task(self._holder.run(), name="identity")
                control = tasks.create_task(self._control.run(), name="control stream")
                keep = tasks.create_task(self._serving.keep(), name="keep")
                flows = tasks.create_task(self._flows.run(), name="flows")
                await stop.wait()
                waited = self.waiting_for()
                if waited:  # a startup probe that lost patience ends it so
                    leave(f"stopped before it was ready, waiting for: {'; '.join(waited)}")
                self._readiness.drain()
                await self._farewell()
                await self._serving.drain(self._settings.drain_seconds, at_once)
                flows.cancel()
                await self._last_flows()
                identity.cancel()
                control.cancel()
                keep.cancel()
        except* IdentityRefused as refused:
            for cause in refused.exceptions:
                self._log.error("no identity", detail=str(cause))
                leave(str(cause))
            status = 1
        finally:
            self._readiness.close()
            await admin.close()
            if probes is not None:
                probes.close()
            await signals.close()
        self._log.info("sidecar stopped")
        return status

    def _probe_pages(self) -> ProbePages | None:
        """What asks the app costs memory, so it is imported where a pod has probes."""
        pod = self._settings.pod
        if not pod.probes:
            return None
        from sidecar.probes.asking import Asker
        from sidecar.probes.pages import ProbePages

        return ProbePages(
            pod.probes, Asker(pod.addresses[0] if pod.addresses else "127.0.0.1"), self._log.bind("probes")
        )

    async def _farewell(self) -> None:
        """Give the word that it drains a moment to leave: callers are to choose others before they meet a closed
        port."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._control.flush()

    async def _last_flows(self) -> None:
        """What was judged since the last report, as far as a moment suffices."""
        if self._control.takes_flows:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_SECONDS):
                    await self._flows.flush()
                    await self._control.leave()

    def waiting_for(self) -> list[str]:
        """What keeps the sidecar from being ready; empty when it is."""
        found = [text for text in (self._holder.waiting_for, self._control.waiting_for) if text is not None]
        return found + self._serving.waiting_for()

    def _metrics_text(self) -> bytes:
        return exposition(self._serving.together(chain(self._metrics.collect(), self._process.collect())))

    def _admin_pages(self, stop: asyncio.Event) -> dict[str, Callable[[], object] | Verbs]:
        """What the admin socket serves; ``stop`` is set by a drain, as by one SIGTERM."""
        loop = asyncio.get_running_loop()

        def drain() -> bool:
            first = not stop.is_set()
            stop.set()
            return first

        level = LogLevelPage(self._log, self._serving.log_from)
        return {
            "/config": Verbs(get=self._config),
            "/certs": self._certs,
            "/status": self._status,
            "/connections": Verbs(get=self._connections),
            "/loglevel": Verbs(get=level.get, post=level.post),
            "/why": Verbs(get=WhyPage(self._serving, lambda: self._control.snapshot, self._clock.now).get),
            "/drain": Verbs(post=DrainPage(drain, self._log).post),
            "/tap": Verbs(get=TapPage(self._serving.taps, loop.call_soon).get),
        }

    def _status(self) -> dict[str, object]:
        snapshot, waiting = self._control.snapshot, self.waiting_for()
        return status_document(
            __version__, snapshot.revision if snapshot is not None else 0, waiting, self._holder, self._clock.now()
        )

    def _certs(self) -> dict[str, object]:
        holder = self._holder
        return certs_document(
            holder.svid, holder.left_seconds, self._serving.bundles or holder.bundles, self._clock.now()
        )

    async def _connections(self, asked: Asked) -> Page:
        return json_page(await self._serving.connections(read_limit(asked.query)))

    async def _config(self, asked: Asked) -> Page:
        """What is in force, and what the balancers made of it (each worker's, where there are several)."""
        balanced = await self._serving.connections(CONNECTIONS_SHOWN)
        shown = {kind: balanced[kind] for kind in ("endpoints", "endpoints_left_out")}
        return json_page({**self._configured(), **shown})

    def _configured(self) -> dict[str, object]:
        snapshot = self._control.snapshot
        return {
            "version": __version__,
            "settings": self._settings.redacted(),
            "workers": self._serving.listed(),
            "revision": snapshot.revision if snapshot is not None else 0,
            **policy_shown(snapshot),
            "upstreams": [
                {
                    "service": f"{upstream.namespace}/{upstream.service}",
                    "port": upstream.port,
                    "listen": f"{upstream.listen_host}:{upstream.listen_port}" if upstream.has_listener else None,
                    "endpoints": [
                        f"{end.mesh_host}:{end.mesh_port} {end.spiffe_id}"
                        + (" direct" if end.transport is Transport.DIRECT else "")
                        for end in upstream.endpoints
                    ],
                }
                for upstream in (snapshot.upstreams if snapshot is not None else ())
            ],
        }

    async def _apply(self, snapshot: Snapshot) -> None:
        try:
            await self._serving.apply(snapshot, self._control.received)
            self._readiness.keep(snapshot.workload.ports)
        except CannotEnforceError as error:
            raise SnapshotRefused(str(error)) from error
