"""The sidecar's composition root: builds every part from the settings, ties them together, runs them, stops them.

Read from here: ``_Sidecar.apply`` puts a snapshot in force, ``_Sidecar.renewed`` a new identity. A request then comes
in at ``outbound``, crosses ``tunnel``, arrives at ``inbound`` and is judged by ``ringfence.policy``.
"""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import sys
from collections.abc import Callable
from itertools import chain
from typing import Final

import uvloop

from ringfence import __version__
from ringfence.kit.clock import Clock, SystemClock
from ringfence.kit.log import Logger
from ringfence.kit.log_sink import LogSink
from ringfence.policy.compile import PolicyError, compile_policy
from ringfence.snapshot import Intercept, Snapshot
from ringfence.spiffe import ChainVerifier, TrustBundle, X509Svid
from sidecar.admin import AdminServer
from sidecar.admin_pages import (
    DrainPage,
    LogLevelPage,
    TapPage,
    certs_document,
    connections_document,
    read_limit,
)
from sidecar.control import ControlStream, SnapshotRefused, open_control
from sidecar.exposition import exposition
from sidecar.identity import IdentityHolder, IdentityRefused, open_identity
from sidecar.inbound import Inbound
from sidecar.local_http import Asked, Page, Verbs, json_page
from sidecar.metrics import SidecarMetrics
from sidecar.outbound import ListenFailedError, Outbound
from sidecar.process_metrics import ProcessMetrics
from sidecar.recording import Recorder
from sidecar.redirect.destination import original_destination
from sidecar.relay import Relay
from sidecar.settings import AccessLog, SidecarSettings
from sidecar.signals import ListenError, SignalsServer
from sidecar.tls import TlsIdentity
from sidecar.tunnel.link import Link
from sidecar.tunnel.link_context import LinkContext

# Requests leave no cycles behind; the default threshold would look for some every few hundred of them.
_GC_THRESHOLD: Final = 50_000
_SWEEP_SECONDS: Final = 5.0


def run(settings: SidecarSettings) -> int:
    """Run a sidecar until SIGTERM or SIGINT; the exit status: 0 stopped, 1 could not go on (one line says why)."""
    sink = LogSink(sys.stderr)
    log = Logger("sidecar", level=settings.log.level, stream=sink)  # type: ignore[arg-type]
    try:
        return uvloop.run(_Sidecar(settings, SystemClock(), log, sink).run())
    finally:
        sink.close()


class _Sidecar:
    """The parts of one sidecar and what flows between them."""

    def __init__(self, settings: SidecarSettings, clock: Clock, log: Logger, sink: LogSink) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log.bind(workload=str(settings.identity.spiffe_id))
        self._metrics = SidecarMetrics()
        self._process = ProcessMetrics()
        self._recorder = Recorder(
            log=self._log,
            metrics=self._metrics,
            clock=clock,
            every_request=settings.log.access_log is AccessLog.ALL,
            own_id=str(settings.identity.spiffe_id),
        )
        self._draining = False
        self._tls: TlsIdentity | None = None
        self._bundles: tuple[TrustBundle, ...] = ()
        self._inbound: Inbound | None = None
        self._outbound: Outbound | None = None
        self._context: LinkContext | None = None
        self._mesh_listen: tuple[str, int] | None = None
        self._intercept: Intercept | None = None
        self._holder: IdentityHolder = open_identity(
            settings.identity, clock=clock, random=random.random, log=self._log.bind("identity")
        )
        self._control: ControlStream = open_control(
            settings.control,
            holder=self._holder,
            on_snapshot=self.apply,
            clock=clock,
            random=random.random,
            log=self._log.bind("control"),
            version=__version__,
        )
        self._declare_gauges(sink)

    def _declare_gauges(self, sink: LogSink) -> None:
        metrics, holder, control = self._metrics, self._holder, self._control
        metrics.gauge(
            "ringfence_svid_expiry_timestamp_seconds",
            "When the SVID in use ends (Unix seconds); 0 without one",
            lambda: holder.svid.not_after if holder.svid is not None else 0.0,
        )
        metrics.gauge(
            "ringfence_snapshot_revision",
            "Revision enforced; 0 without one",
            lambda: float(control.snapshot.revision) if control.snapshot is not None else 0.0,
        )
        metrics.gauge(
            "ringfence_control_plane_staleness_seconds",
            "Since the control plane was last heard; 0 while connected",
            control.staleness_seconds,
        )
        metrics.gauge(
            "ringfence_connections_open_inbound",
            "Streams from the mesh joined to the app",
            lambda: float(len(self._inbound.relays)) if self._inbound is not None else 0.0,
        )
        metrics.gauge(
            "ringfence_connections_open_outbound",
            "App connections to upstreams",
            lambda: float(len(self._outbound.relays)) if self._outbound is not None else 0.0,
        )
        metrics.gauge(
            "ringfence_tunnels_open",
            "Mesh connections open, both directions",
            lambda: (
                float(len(self._inbound.links) + len(self._outbound.pool.links))
                if self._inbound is not None and self._outbound is not None
                else 0.0
            ),
        )
        metrics.total("ringfence_svid_renewals", "SVIDs received", lambda: float(holder.renewals))
        metrics.total("ringfence_svid_failures", "Attempts to get an SVID that failed", lambda: float(holder.failures))
        metrics.total("ringfence_snapshots_refused", "Snapshots refused", lambda: float(control.refused))
        metrics.total("ringfence_log_lines_dropped", "Log lines nobody took", lambda: float(sink.dropped))

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        at_once = asyncio.Event()

        def told() -> None:
            (at_once if stop.is_set() else stop).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told)
        signals = SignalsServer(self._metrics_text, self.waiting_for, log=self._log.bind("signals"))
        admin = AdminServer(self._admin_pages(stop), log=self._log.bind("admin"))
        listen = self._settings.signals
        try:
            if listen.listen is not None:
                await signals.start(listen.listen.host, listen.listen.port)
            if listen.admin_socket is not None:
                await admin.start(listen.admin_socket)
        except ListenError as error:
            self._log.error("cannot listen", detail=str(error))
            return 1
        self._holder.on_change(self.renewed)
        self._log.info("sidecar started", version=__version__)
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        status = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                identity = tasks.create_task(self._holder.run(), name="identity")
                control = tasks.create_task(self._control.run(), name="control stream")
                sweep = tasks.create_task(self._sweep(), name="sweep")
                await stop.wait()
                await self._drain(at_once)
                identity.cancel()
                control.cancel()
                sweep.cancel()
        except* IdentityRefused as refused:
            for cause in refused.exceptions:
                self._log.error("no identity", detail=str(cause))
            status = 1
        finally:
            await admin.close()
            await signals.close()
        self._log.info("sidecar stopped")
        return status

    async def _sweep(self) -> None:
        """Deadlines that are not worth a timer each."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = self._clock.monotonic()
            for side in (self._inbound, self._outbound):
                if side is not None:
                    side.relays.sweep(now)

    async def _drain(self, at_once: asyncio.Event) -> None:
        self._draining = True
        if self._inbound is None or self._outbound is None:
            return
        seconds = self._settings.drain_seconds
        self._log.info("draining", seconds=seconds, connections=len(self._inbound.relays) + len(self._outbound.relays))
        ends = [
            asyncio.ensure_future(self._outbound.close(seconds)),
            asyncio.ensure_future(self._inbound.close(seconds)),
        ]
        hurry = asyncio.ensure_future(at_once.wait())
        all_ended = asyncio.gather(*ends)
        await asyncio.wait((all_ended, hurry), return_when=asyncio.FIRST_COMPLETED)
        if not all_ended.done():
            all_ended.cancel()
            await self._outbound.close(0.0)
            await self._inbound.close(0.0)
        hurry.cancel()

    def waiting_for(self) -> list[str]:
        """What keeps the sidecar from being ready; empty when it is."""
        found = [text for text in (self._holder.waiting_for, self._control.waiting_for) if text is not None]
        if self._draining:
            found.append("draining")
        return found

    def _metrics_text(self) -> bytes:
        return exposition(chain(self._metrics.collect(), self._process.collect()))

    def _admin_pages(self, stop: asyncio.Event) -> dict[str, Callable[[], object] | Verbs]:
        """What the admin socket serves; ``stop`` is set by a drain, as by one SIGTERM."""
        loop = asyncio.get_running_loop()

        def drain() -> bool:
            first = not stop.is_set()
            stop.set()
            return first

        level = LogLevelPage(self._log)
        return {
            "/config": self._config,
            "/certs": self._certs,
            "/connections": Verbs(get=self._connections),
            "/loglevel": Verbs(get=level.get, post=level.post),
            "/drain": Verbs(post=DrainPage(drain, self._log).post),
            "/tap": Verbs(get=TapPage(self._recorder.taps, loop.call_soon).get),
        }

    def _certs(self) -> dict[str, object]:
        holder = self._holder
        return certs_document(holder.svid, holder.left_seconds, self._bundles or holder.bundles, self._clock.now())

    def _connections(self, asked: Asked) -> Page:
        limit = read_limit(asked.query)
        relays: list[Relay] = []
        links: list[tuple[str, Link]] = []
        if self._inbound is not None and self._outbound is not None:
            relays = [relay for side in (self._inbound, self._outbound) for relay, _ in side.relays]
            links = [("inbound", link) for link in self._inbound.links]
            links += [("outbound", link) for link in self._outbound.pool.links]
        return json_page(connections_document(relays, links, monotonic=self._clock.monotonic(), limit=limit))

    def _config(self) -> dict[str, object]:
        snapshot = self._control.snapshot
        return {
            "version": __version__,
            "settings": self._settings.redacted(),
            "revision": snapshot.revision if snapshot is not None else 0,
            "allowlists": [allowlist.full_name for allowlist in snapshot.allowlists] if snapshot is not None else [],
            "upstreams": [
                {
                    "service": f"{upstream.namespace}/{upstream.service}",
                    "port": upstream.port,
                    "listen": f"{upstream.listen_host}:{upstream.listen_port}" if upstream.has_listener else None,
                    "endpoints": [f"{end.mesh_host}:{end.mesh_port} {end.spiffe_id}" for end in upstream.endpoints],
                }
                for upstream in (snapshot.upstreams if snapshot is not None else ())
            ],
        }

    # -- identity and policy ------------------------------------------------------------------------------------------

    def renewed(self, svid: X509Svid, bundles: tuple[TrustBundle, ...]) -> None:
        """A new SVID: new handshakes use it, living links prove it."""
        if self._context is None or self._inbound is None or self._outbound is None:
            return
        self._tls = TlsIdentity(svid, self._bundles or bundles, self._clock)
        self._context.svid = svid
        self._outbound.pool.renew()
        for link in self._inbound.links:
            link.renew()

    def _identity(self) -> TlsIdentity:
        assert self._tls is not None
        return self._tls

    async def apply(self, snapshot: Snapshot) -> None:
        """Put a snapshot in force, whole or not at all; SnapshotRefused says why not."""
        svid = self._holder.svid
        if svid is None:
            raise SnapshotRefused("no identity yet")
        workload = snapshot.workload
        mesh_listen = (workload.mesh_host, workload.mesh_port)
        if self._mesh_listen is not None and self._mesh_listen != mesh_listen:
            raise SnapshotRefused(f"the mesh port moved to {mesh_listen[0]}:{mesh_listen[1]}: restart the sidecar")
        try:
            table = compile_policy(
                snapshot.allowlists,
                trust_domain=workload.spiffe_id.trust_domain,
                http_ports=[port.port for port in workload.ports if port.protocol.is_http],
            )
        except PolicyError as error:
            raise SnapshotRefused(str(error)) from error
        bundles = snapshot.bundles or self._holder.bundles
        if self._context is None:
            self._tls = TlsIdentity(svid, bundles, self._clock)
            self._context = LinkContext(
                clock=self._clock,
                log=self._log,
                svid=svid,
                verifier=ChainVerifier(bundles),
                count_failure=self._count_failure,
                count_broken=self._count_broken,
                count_proof=self._count_proof,
            )
            self._bundles = bundles
            own_id = workload.spiffe_id
            self._inbound = Inbound(
                context=self._context, identity=self._identity, recorder=self._recorder, own_id=own_id
            )
            self._outbound = Outbound(
                context=self._context, identity=self._identity, recorder=self._recorder, own_id=own_id
            )
        assert self._inbound is not None
        assert self._outbound is not None
        try:
            await self._outbound.prepare(snapshot.upstreams)
        except ListenFailedError as error:
            raise SnapshotRefused(str(error)) from error
        if self._mesh_listen is None:
            try:
                await self._inbound.listen(*mesh_listen)
            except OSError as error:
                raise SnapshotRefused(
                    f"service {workload.namespace}/{workload.service}, mesh port {mesh_listen[0]}:{mesh_listen[1]}: "
                    f"{error.strerror}"
                ) from error
            self._mesh_listen = mesh_listen
        if workload.intercept != self._intercept:
            if self._intercept is not None or workload.intercept is None:
                raise SnapshotRefused("the interception ports changed: restart the sidecar")
            try:
                await self._inbound.direct.intercept(workload.intercept.inbound_port, original_destination)
                await self._outbound.intercept(workload.intercept.outbound_port, original_destination)
            except (OSError, ListenFailedError) as error:
                self._inbound.direct.stop()  # a later snapshot begins anew
                raise SnapshotRefused(f"intercept of {workload.namespace}/{workload.service}: {error}") from error
            self._intercept = workload.intercept
        # From here on nothing can fail: the new state is in force between two turns of the loop.
        self._inbound.enforce(workload, table)
        self._outbound.enforce(snapshot.upstreams, snapshot.egress)
        if bundles != self._bundles:
            self._bundles = bundles
            svid = self._holder.svid or svid
            self._tls = TlsIdentity(svid, bundles, self._clock)
            self._context.verifier = ChainVerifier(bundles)
            self._inbound.reverify()
            self._outbound.pool.reverify()

    def _count_failure(self, direction: str, reason: str) -> None:
        self._metrics.handshake_failures.at(direction, reason).value += 1

    def _count_broken(self, direction: str, reason: str) -> None:
        self._metrics.tunnel_errors.at(direction, reason).value += 1

    def _count_proof(self, outcome: str) -> None:
        self._metrics.reproofs.at(outcome).value += 1
