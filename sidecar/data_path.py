"""The data path of one event loop, whole: what a sidecar runs once, and each of its workers for itself.

``prepare`` does all of a snapshot that can fail, ``enforce`` the rest between two turns of the loop, ``renewed`` brings
a new identity. A request then comes in at ``outbound``, crosses ``tunnel``, arrives at ``inbound`` and is judged by
``ringfence.policy``. Knows nothing of attestation, of the control plane or of administration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.policy.compile import PolicyError, compile_policy
from ringfence.policy.decide import DecisionTable
from ringfence.policy.model import PolicySet, TokenIssuer
from ringfence.snapshot import Intercept, Port, Protocol, Snapshot
from ringfence.spiffe import ChainVerifier, SpiffeId, TrustBundle, X509Svid
from sidecar.admin_pages import connections_document
from sidecar.exposition import Family
from sidecar.gauges import declare_redirect_gauge, declare_traffic_gauges
from sidecar.inbound import Inbound
from sidecar.limits.limiter import Limiter
from sidecar.listening import Listen, ListenFailedError, listen
from sidecar.metrics import SidecarMetrics
from sidecar.moment import Moment
from sidecar.outbound import Outbound
from sidecar.pod import PodSettings
from sidecar.prepared import Prepared, judges_alike
from sidecar.recording import Recorder
from sidecar.redirect.destination import original_destination
from sidecar.redirect_check import RedirectCheck
from sidecar.relay import Relay
from sidecar.serving import CannotEnforceError, mesh_port_words, proxy_of, proxy_words
from sidecar.tls import TlsIdentity
from sidecar.tokens.opening import IssuerRefusedError, TokenReaders
from sidecar.tokens.reader import NO_TOKENS, TokenReader
from sidecar.tunnel.link import Link
from sidecar.tunnel.link_context import LinkContext

_SWEEP_SECONDS: Final = 5.0


class DataPath:
    """Inbound and outbound of one workload, and what they share."""

    def __init__(
        self,
        *,
        own_id: SpiffeId,
        clock: Clock,
        log: Logger,
        metrics: SidecarMetrics,
        recorder: Recorder,
        listen: Listen = listen,
        app_refused: Callable[[Port], None] = lambda _: None,
        limits: int | None = None,
        pod: PodSettings | None = None,
    ) -> None:
        """``app_refused`` is told of each port on which the app took no connection. ``limits``: descriptor of the table
        of limits that is shared with other processes, if there are any."""
        self._own_addresses = pod.addresses if pod is not None else ()
        self._resolvers = pod.resolvers if pod is not None else ()
        self._redirect: RedirectCheck | None = None
        if pod is not None and pod.expect_redirect:
            check = self._redirect = RedirectCheck(log.bind("redirect"))
            declare_redirect_gauge(metrics, lambda: check.waiting_for is not None)
        self.draining = False
        self.bundles: tuple[TrustBundle, ...] = ()
        """In force; empty before the first snapshot."""
        self._own_id = own_id
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._recorder = recorder
        self.taps = recorder.taps
        self._listen = listen
        self._app_refused = app_refused
        self._limiter = Limiter(metrics, clock=clock, descriptor=limits)
        self._token_readers = TokenReaders(metrics, log.bind("tokens"), clock)
        self._svid: X509Svid | None = None
        self._issued_bundles: tuple[TrustBundle, ...] = ()
        self._tls: TlsIdentity | None = None
        self._inbound: Inbound | None = None
        self._outbound: Outbound | None = None
        self._context: LinkContext | None = None
        self._mesh_listen: tuple[str, int] | None = None
        self._intercept: Intercept | None = None
        self._prepared: Prepared | None = None
        self._enforced: Prepared | None = None
        self._moment = Moment(clock.now, self._time_passed)
        declare_traffic_gauges(metrics, self._sides)

    def _sides(self) -> tuple[Inbound, Outbound] | None:
        if self._inbound is None or self._outbound is None:
            return None
        return self._inbound, self._outbound

    @property
    def relays(self) -> list[Relay]:
        """Those that live."""
        sides = (self._inbound, self._outbound)
        return [relay for side in sides if side is not None for relay, _ in side.relays]

    @property
    def links(self) -> list[tuple[str, Link]]:
        """Those that live, each with its direction."""
        if self._inbound is None or self._outbound is None:
            return []
        inbound = [("inbound", link) for link in self._inbound.links]
        return inbound + [("outbound", link) for link in self._outbound.pool.links]

    async def connections(self, limit: int) -> dict[str, object]:
        """``living``, for whoever may have to wait for it."""
        return self.living(limit)

    def living(self, limit: int) -> dict[str, object]:
        """The connections and links that live and the endpoints known, at most ``limit`` of each, to be shown."""
        targets = self._outbound.targets if self._outbound is not None else ()
        return connections_document(self.relays, self.links, targets, monotonic=self._clock.monotonic(), limit=limit)

    async def noted(self, request_id: str) -> dict[str, Any] | None:
        """What is noted of one call."""
        call = self._recorder.calls.find(request_id)
        return call.document() if call is not None else None

    async def noted_since(self, moment: float, limit: int) -> list[dict[str, Any]]:
        """What is noted of the latest calls."""
        return [call.document() for call in self._recorder.calls.since(moment, limit)]

    def waiting_for(self) -> list[str]:
        """A drain keeps it from being ready, and a redirect that is expected and not there."""
        if self.draining:
            return ["draining"]
        waiting = self._redirect.waiting_for if self._redirect is not None else None
        return [waiting] if waiting is not None else []

    def listed(self) -> list[dict[str, object]]:
        """Nothing: there are no workers."""
        return []

    def together(self, own: Iterable[Family]) -> Iterable[Family]:
        """What this process counted: no other serves."""
        return own

    def log_from(self, level: str) -> None:
        """Nothing: the log is this process's."""

    # -- life ---------------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """See to deadlines that are not worth a timer each, and to the redirect, for ever; in the end nothing is left
        untold."""
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._redirect is not None:
                    tasks.create_task(self._redirect.keep(), name="redirect check")
                while True:
                    await asyncio.sleep(_SWEEP_SECONDS)
                    await self.sweep()
        finally:
            self._recorder.catch_up()

    async def sweep(self) -> None:
        """Once."""
        now = self._clock.monotonic()
        for side in (self._inbound, self._outbound):
            if side is not None:
                side.relays.sweep(now)
        self._moment.look()  # the clock may have been set meanwhile
        if self._inbound is not None:
            await self._inbound.look_at_time()

    def _time_passed(self) -> None:
        """What passes for a time only has come to its end."""
        if self._inbound is not None and self._outbound is not None:
            self._inbound.time_passed()
            self._outbound.time_passed()
            self._moment.watch(self._inbound.changes_at())

    async def drain(self, seconds: float, at_once: asyncio.Event) -> None:
        """Take nothing new; what lives may end within ``seconds``, or until ``at_once`` is set."""
        self.draining = True
        if self._redirect is not None:
            self._redirect.stop()
        self._moment.watch(None)
        if self._inbound is None or self._outbound is None:
            return
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
            await asyncio.gather(all_ended, return_exceptions=True)
            await self._outbound.close(0.0)
            await self._inbound.close(0.0)
        hurry.cancel()
        self._token_readers.close()

    # -- identity -----------------------------------------------------------------------------------------------------

    def renewed(self, svid: X509Svid, bundles: tuple[TrustBundle, ...]) -> None:
        """A new SVID: new handshakes use it, living links prove it. ``bundles``: as the CA gave them with it."""
        self._svid, self._issued_bundles = svid, bundles
        if self._context is None or self._inbound is None or self._outbound is None:
            return
        self._tls = TlsIdentity(svid, self.bundles or bundles, self._clock)
        self._context.svid = svid
        self._outbound.pool.renew()
        for link in self._inbound.links:
            link.renew()

    def _identity(self) -> TlsIdentity:
        assert self._tls is not None
        return self._tls

    # -- policy -------------------------------------------------------------------------------------------------------

    async def apply(self, snapshot: Snapshot, received: float | None = None) -> None:
        """Put a snapshot in force, whole or not at all; CannotEnforceError says why not."""
        await self.prepare(snapshot, received)
        self.enforce()

    async def prepare(self, snapshot: Snapshot, received: float | None = None) -> None:
        """Do all of ``apply`` that can fail; the older snapshot stays in force until ``enforce``.

        ``received``: when it arrived, monotonic seconds, if that is not now.
        """
        received = self._clock.monotonic() if received is None else received
        svid = self._svid
        if svid is None:
            raise CannotEnforceError("no identity yet")
        workload = snapshot.workload
        if self._mesh_listen is not None and self._mesh_listen != (workload.mesh_host, workload.mesh_port):
            moved = f"{workload.mesh_host}:{workload.mesh_port}"
            raise CannotEnforceError(f"the mesh port moved to {moved}: restart the sidecar")
        table, shadow = self._tables(snapshot)
        tokens = await self._reader(snapshot.token_issuers)
        bundles = snapshot.bundles or self._issued_bundles
        if self._context is None:
            self._begin(svid, bundles)
        await self._open_ports(snapshot)
        self._prepared = Prepared(
            snapshot=snapshot, table=table, shadow=shadow, tokens=tokens, bundles=bundles, received=received
        )

    async def _reader(self, issuers: tuple[TokenIssuer, ...]) -> TokenReader:
        """Of their tokens; off the loop, as keys are checked and what verifies is imported with the first of them."""
        if not issuers:
            return NO_TOKENS
        try:
            return await asyncio.to_thread(self._token_readers.made, issuers)
        except IssuerRefusedError as error:
            raise CannotEnforceError(str(error)) from error

    def _tables(self, snapshot: Snapshot) -> tuple[DecisionTable, DecisionTable | None]:
        """Of the policy in force and of its shadow. Those of the last snapshot if they say the same: most snapshots
        tell only where upstreams are, and which of their endpoints are ready."""
        held = self._enforced
        if held is None or not judges_alike(held.snapshot, snapshot):
            table = self._compiled(snapshot, snapshot.policy)
            return table, self._compiled(snapshot, snapshot.shadow) if snapshot.shadow is not None else None
        if held.snapshot.shadow == snapshot.shadow:
            return held.table, held.shadow
        return held.table, self._compiled(snapshot, snapshot.shadow) if snapshot.shadow is not None else None

    def _compiled(self, snapshot: Snapshot, policy: PolicySet) -> DecisionTable:
        workload = snapshot.workload
        try:
            return compile_policy(
                policy,
                trust_domain=workload.spiffe_id.trust_domain,
                http_ports=[port.port for port in workload.ports if port.protocol.is_http],
                maybe_http_ports=[port.port for port in workload.ports if port.protocol is Protocol.AUTO],
                service=f"{workload.namespace}/{workload.service}",
                labels=workload.labels,
                issuers=snapshot.token_issuers,
                condition_failed=self._recorder.remarks.condition_failed,
            )
        except PolicyError as error:
            raise CannotEnforceError(str(error)) from error

    def _begin(self, svid: X509Svid, bundles: tuple[TrustBundle, ...]) -> None:
        self._tls = TlsIdentity(svid, bundles, self._clock)
        self._context = LinkContext(
            clock=self._clock,
            log=self._log,
            svid=svid,
            verifier=ChainVerifier(bundles),
            count_failure=self._count_failure,
            count_broken=self._count_broken,
            count_proof=self._count_proof,
            time_handshake=self._time_handshake,
        )
        self.bundles = bundles
        self._inbound = Inbound(
            context=self._context,
            identity=self._identity,
            recorder=self._recorder,
            own_id=self._own_id,
            listen=self._listen,
            app_refused=self._app_refused,
            limiter=self._limiter,
            own_addresses=self._own_addresses,
        )
        self._outbound = Outbound(
            context=self._context,
            identity=self._identity,
            recorder=self._recorder,
            own_id=self._own_id,
            listen=self._listen,
            resolvers=self._resolvers,
        )
        self._outbound.redirect_check = self._redirect

    async def _open_ports(self, snapshot: Snapshot) -> None:
        """The local listeners, the mesh port, the interception ports, as far as they are not open."""
        assert self._inbound is not None
        assert self._outbound is not None
        workload = snapshot.workload
        try:
            await self._outbound.prepare(snapshot.upstreams)
        except ListenFailedError as error:
            raise CannotEnforceError(str(error)) from error
        if self._mesh_listen is None:
            try:
                await self._inbound.listen(workload.mesh_host, workload.mesh_port)
            except OSError as error:
                raise CannotEnforceError(f"{mesh_port_words(workload)}: {error.strerror}") from error
            self._mesh_listen = (workload.mesh_host, workload.mesh_port)
        try:
            await self._outbound.proxy.prepare(proxy_of(workload))
        except OSError as error:
            raise CannotEnforceError(f"{proxy_words(workload)}: {error.strerror}") from error
        if workload.intercept != self._intercept:
            if self._intercept is not None or workload.intercept is None:
                raise CannotEnforceError("the interception ports changed: restart the sidecar")
            try:
                await self._inbound.direct.intercept(workload.intercept.inbound_port, original_destination)
                await self._outbound.intercept(workload.intercept.outbound_port, original_destination)
            except (OSError, ListenFailedError) as error:
                self._inbound.direct.stop()  # a later snapshot begins anew
                raise CannotEnforceError(f"intercept of {workload.namespace}/{workload.service}: {error}") from error
            self._intercept = workload.intercept
            if self._redirect is not None:
                self._redirect.listening()

    def enforce(self) -> None:
        """Put what was prepared in force: nothing can fail, and it is done between two turns of the loop."""
        prepared, self._prepared = self._prepared, None
        assert prepared is not None
        assert self._inbound is not None
        assert self._outbound is not None
        assert self._context is not None
        assert self._svid is not None
        snapshot, endings = prepared.snapshot, self._recorder.endings
        before = self._enforced
        if before is None or prepared.table is not before.table or prepared.shadow is not before.shadow:
            self._inbound.enforce(snapshot.workload, prepared.table, shadow=prepared.shadow, tokens=prepared.tokens)
            self._moment.watch(self._inbound.changes_at())
        self._enforced = prepared
        self._outbound.enforce(snapshot.upstreams, snapshot.egress, snapshot.observe_until)
        self._outbound.proxy.enforce(proxy_of(snapshot.workload))
        if prepared.bundles != self.bundles:
            self.bundles = prepared.bundles
            self._tls = TlsIdentity(self._svid, prepared.bundles, self._clock)
            self._context.verifier = ChainVerifier(prepared.bundles)
            self._inbound.reverify()
            self._outbound.reverify()
        # What was newly denied is closed by now, but for the last frames that the links send in this turn of the loop.
        ended = self._recorder.endings > endings
        asyncio.get_running_loop().call_soon(self._time_revision, prepared.received, ended)

    def _time_revision(self, received: float, ended: bool) -> None:
        self._metrics.revisions.at("yes" if ended else "no").observe(self._clock.monotonic() - received)

    def discard(self) -> None:
        """Forget what was prepared, and close the listeners that were opened for it alone."""
        self._prepared = None
        if self._outbound is not None:
            self._outbound.discard()
            self._outbound.proxy.discard()

    def _time_handshake(self, direction: str, seconds: float) -> None:
        self._metrics.handshakes.at(direction).observe(seconds)

    def _count_failure(self, direction: str, reason: str) -> None:
        self._metrics.handshake_failures.at(direction, reason).value += 1

    def _count_broken(self, direction: str, reason: str) -> None:
        self._metrics.tunnel_errors.at(direction, reason).value += 1

    def _count_proof(self, outcome: str) -> None:
        self._metrics.reproofs.at(outcome).value += 1
