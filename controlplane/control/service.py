"""The Control service: one stream a sidecar, snapshots out, reports in.

Theory of a stream: prove the caller, hear its hello, subscribe, then read and write side by side until something ends
it: the sidecar leaves, the distributor ends the subscription, a report breaks a rule, a write is not taken in time, or
the certificate that opened the stream expires. The last is why every stream is short-lived: a sidecar comes back with
its next SVID, and one that cannot renew is no longer told anything. Status codes tell the sidecar whether to come back
(UNAVAILABLE, UNAUTHENTICATED, ABORTED) or that somebody must mend something first (PERMISSION_DENIED, the rest).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import grpc

from controlplane.control.caller import CallerCheck
from controlplane.control.reports import (
    AcknowledgementReport,
    FlowsReport,
    HelloReport,
    IdentityReport,
    ReadinessReport,
    Report,
    ReportBudget,
    ReportError,
    read_report,
)
from controlplane.flows.keeping import FlowKeeper
from controlplane.metrics import ControlPlaneMetrics
from controlplane.push.distributor import (
    Distributor,
    Ending,
    RefusedSubscription,
    Subscription,
    SubscriptionRefusedError,
)
from controlplane.push.readiness import ReadinessBoard
from controlplane.push.sessions import Session
from controlplane.push.workload_key import WorkloadKey
from controlplane.push.writing import SnapshotWriter
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.snapshot import Snapshot
from ringfence.spiffe import VerificationError, VerifiedPeer
from ringfence.wire.gen import control_pb2, control_pb2_grpc

_Context = grpc.aio.ServicerContext[control_pb2.SidecarReport, control_pb2.Snapshot]

_ENDINGS: Final = {
    Ending.REMOVED: (grpc.StatusCode.PERMISSION_DENIED, "this identity is no longer a workload of the mesh"),
    Ending.SUPERSEDED: (grpc.StatusCode.ABORTED, "a newer stream of this process took over"),
    Ending.DRAINING: (grpc.StatusCode.UNAVAILABLE, "the control plane is stopping"),
}
_TOLD_INSTANCES: Final = 20
_REFUSALS: Final = {
    RefusedSubscription.UNKNOWN_WORKLOAD: (
        grpc.StatusCode.PERMISSION_DENIED,
        "this identity is no workload of the mesh: add it to mesh.yaml",
    ),
    RefusedSubscription.UNKNOWN_INSTANCE: (
        grpc.StatusCode.PERMISSION_DENIED,
        "this identity has no such instance: name one by --instance, or add it to mesh.yaml",
    ),
    RefusedSubscription.TOO_MANY: (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many sidecars are subscribed"),
    RefusedSubscription.DRAINING: (grpc.StatusCode.UNAVAILABLE, "the control plane is stopping"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """Deadlines and bounds of one stream, in seconds where not said otherwise."""

    hello_seconds: float = 10.0
    """From the call to the hello."""
    write_seconds: float = 15.0
    """Until a snapshot is taken by the sidecar's flow control window."""
    clock_check_seconds: float = 10.0
    """How often the wall clock is compared with the certificate's end, since a machine may have slept."""
    report_burst: int = 60
    """Reports at once; a push needs one, a renewal one."""
    report_rate: float = 10.0
    """Reports a second in the long run; more than a configuration that changes at every poll would draw."""


class _StreamOver(Exception):
    """Ends a stream with this status."""

    def __init__(self, code: grpc.StatusCode, details: str, label: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.label = label


class ControlService(control_pb2_grpc.ControlServicer):
    """Serves Subscribe; everything it keeps is the distributor's."""

    def __init__(
        self,
        *,
        callers: CallerCheck,
        distributor: Distributor,
        readiness: ReadinessBoard,
        metrics: ControlPlaneMetrics,
        log: Logger,
        clock: Clock,
        limits: StreamLimits,
        flows: FlowKeeper | None = None,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        """``flows`` takes what sidecars judged; None: they are not asked for it. ``heard``: called when a sidecar came,
        left, or said what it enforces."""
        self._heard = heard
        self._writer = SnapshotWriter()
        self._flows = flows
        self._callers = callers
        self._distributor = distributor
        self._readiness = readiness
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._limits = limits

    async def Subscribe(  # type: ignore[override]  # noqa: N802 the proto's name; the coroutine form, whose writes can time out
        self, request_iterator: AsyncIterator[control_pb2.SidecarReport], context: _Context
    ) -> None:
        """One stream from hello to end."""
        del request_iterator  # read through ``context``, where a read can be given a deadline
        try:
            peer = self._prove(context)
            await self._stream(context, peer)
        except _StreamOver as over:
            self._metrics.streams_ended.labels(over.label).inc()
            if over.code is not grpc.StatusCode.OK:
                await context.abort(over.code, over.details)
        except Exception as error:  # the stream's border; gRPC's own would tell the sidecar what it was
            self._metrics.task_failures.labels("stream").inc()
            self._log.error("stream failed", peer=context.peer(), error=repr(error))
            await context.abort(grpc.StatusCode.INTERNAL, "the control plane failed (its log has the reason)")

    def _prove(self, context: _Context) -> VerifiedPeer:
        try:
            return self._callers.verify(context.auth_context())
        except VerificationError as error:
            self._log.warning("caller refused", peer=context.peer(), reason=error.reason.value, detail=error.detail)
            # Which rule it broke is for this side's log.
            raise _StreamOver(
                grpc.StatusCode.UNAUTHENTICATED, "the certificate is not accepted", error.reason.value
            ) from error

    async def _stream(self, context: _Context, peer: VerifiedPeer) -> None:
        log = self._log.bind(spiffe_id=str(peer.spiffe_id), peer=context.peer())
        hello = await self._hello(context)
        session = Session(
            workload=WorkloadKey(peer.spiffe_id, hello.instance),
            process=hello.process,
            version=hello.version,
            peer=context.peer(),
            svid_not_after=peer.not_after,
            svid_serial=peer.serial,
            since=self._clock.now(),
            enforced_revision=hello.held_revision,
            reports_flows=hello.reports_flows,
        )
        try:
            subscription = self._distributor.subscribe(session)
        except SubscriptionRefusedError as refused:
            log.warning("subscription refused", reason=refused.reason.value, instance=hello.instance)
            code, details = _REFUSALS[refused.reason]
            if refused.reason is RefusedSubscription.UNKNOWN_INSTANCE:
                details = _unknown_instance(hello.instance, refused.instances)
            raise _StreamOver(code, details, refused.reason.value) from refused
        log = log.bind(instance=hello.instance, process=hello.process)
        self._heard()
        log.info("sidecar subscribed", version=hello.version, held_revision=hello.held_revision)
        if hello.held_revision > self._distributor.catalog.revision:
            log.warning("sidecar holds a revision that this control plane never made", revision=hello.held_revision)
        self._readiness.opened(session.workload, session.process, self._clock.monotonic())
        try:
            await self._serve(context, peer, subscription, log)
        finally:
            if self._distributor.leave(subscription):
                self._readiness.closed(session.workload, session.process, self._clock.monotonic())
            self._heard()
            log.info("sidecar left", enforced_revision=session.enforced_revision)

    async def _hello(self, context: _Context) -> HelloReport:
        try:
            async with asyncio.timeout(self._limits.hello_seconds):
                message = await _received(context)
        except TimeoutError as error:
            raise _StreamOver(grpc.StatusCode.DEADLINE_EXCEEDED, "no hello in time", "no_hello") from error
        report = self._read(message) if message is not None else None
        if not isinstance(report, HelloReport):
            _break("the first report must be a hello")
        return report

    async def _serve(self, context: _Context, peer: VerifiedPeer, subscription: Subscription, log: Logger) -> None:
        """Reader and writer side by side; the first to end ends both."""
        over: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(context, peer, subscription), name="control write")
                group.create_task(self._listen(context, subscription.session, log), name="control read")
        except* _StreamOver as overs:
            over = overs.exceptions[0]
            while isinstance(over, BaseExceptionGroup):
                over = over.exceptions[0]
        if over is not None:  # not raised above: out of ``except*`` it would come as a group, in Python before 3.11.4
            raise over from None

    async def _write(self, context: _Context, peer: VerifiedPeer, subscription: Subscription) -> None:
        while True:
            item = await self._next(peer, subscription)
            if isinstance(item, Ending):
                code, details = _ENDINGS[item]
                raise _StreamOver(code, details, item.value)
            # Before the write, since the answer may be here before the write is known to be done.
            subscription.session.sent(item.revision)
            try:
                async with asyncio.timeout(self._limits.write_seconds):
                    await context.write(self._message(item, subscription.session))
            except TimeoutError as error:
                detail = "a snapshot was not taken in time"
                raise _StreamOver(grpc.StatusCode.DEADLINE_EXCEEDED, detail, "write_timeout") from error
            self._metrics.snapshots_sent.inc()

    def _message(self, snapshot: Snapshot, session: Session) -> control_pb2.Snapshot:
        message = self._writer.message(snapshot)
        # A sidecar that does not know the field would refuse the whole snapshot.
        message.takes_flows = self._flows is not None and session.reports_flows
        return message

    async def _next(self, peer: VerifiedPeer, subscription: Subscription) -> Snapshot | Ending:
        """What waits in the mailbox; ends the stream when the certificate that opened it does."""
        while True:
            left = peer.not_after - self._clock.now()
            if left <= 0:
                detail = "the certificate of this stream has expired: come back with the next one"
                raise _StreamOver(grpc.StatusCode.UNAUTHENTICATED, detail, "svid_expired")
            try:
                async with asyncio.timeout(min(left, self._limits.clock_check_seconds)):
                    return await subscription.mailbox.take()
            except TimeoutError:
                continue

    async def _listen(self, context: _Context, session: Session, log: Logger) -> None:
        budget = ReportBudget(self._clock, burst=self._limits.report_burst, rate=self._limits.report_rate)
        while True:
            message = await _received(context)
            if message is None:
                raise _StreamOver(grpc.StatusCode.OK, "", "left")
            delay = budget.delay_seconds()
            if delay > 0:
                # Not read meanwhile, so that flow control stops the sender and nothing piles up here.
                self._metrics.reports_delayed.inc()
                await asyncio.sleep(delay)
            self._take(self._read(message), session, log)

    def _read(self, message: control_pb2.SidecarReport) -> Report:
        try:
            return read_report(message)
        except ReportError as error:
            raise _StreamOver(grpc.StatusCode.INVALID_ARGUMENT, str(error), "bad_report") from error

    def _take(self, report: Report, session: Session, log: Logger) -> None:
        match report:
            case HelloReport():
                _break("a second hello")
            case IdentityReport():
                session.svid_not_after = float(report.not_after)
                session.svid_serial = report.serial
            case ReadinessReport(verdict=verdict):
                now = self._clock.monotonic()
                if verdict != self._readiness.verdict(session.workload, now):
                    log.info("workload ready" if verdict.ready else "workload not ready", reason=verdict.reason)
                self._readiness.reported(session.workload, session.process, verdict, now)
            case FlowsReport(message=flows):
                snapshot = self._distributor.catalog.snapshots.get(session.workload)
                if self._flows is not None and snapshot is not None:
                    workload = snapshot.workload
                    self._flows.take(f"{workload.namespace}/{workload.service}", flows)
            case AcknowledgementReport():
                self._acknowledge(report, session, log)

    def _acknowledge(self, report: AcknowledgementReport, session: Session, log: Logger) -> None:
        known = session.answered(
            report.revision,
            accepted=report.accepted,
            enforced_revision=report.enforced_revision,
            error=report.error,
        )
        if not known:
            _break(f"acknowledgement of revision {report.revision}, which was not sent on this stream")
        self._heard()
        if report.accepted:
            self._metrics.acknowledgements.labels("accepted").inc()
            if report.revision == session.offered_revision:
                self._metrics.acknowledgement_seconds.observe(self._clock.monotonic() - session.offered_at)
            log.debug("snapshot in force", revision=report.revision)
            return
        self._metrics.acknowledgements.labels("refused").inc()
        log.warning(
            "snapshot refused by sidecar",
            revision=report.revision,
            enforced_revision=report.enforced_revision,
            error=report.error,
        )


async def _received(context: _Context) -> control_pb2.SidecarReport | None:
    """The next report; None once the sidecar has closed its side (grpcio then hands out a marker of its own)."""
    message: object = await context.read()
    return message if isinstance(message, control_pb2.SidecarReport) else None


def _unknown_instance(asked: str, known: tuple[str, ...]) -> str:
    """What is wrong with the instance that an identity asked for, and the mend; it is told of its own alone."""
    if known == ("",):
        return f"this identity's service lists no instances: start the sidecar without --instance {asked}"
    listed = ", ".join(known[:_TOLD_INSTANCES]) + (", …" if len(known) > _TOLD_INSTANCES else "")
    if not asked:
        return f"this identity's service has instances: start the sidecar with --instance, one of {listed}"
    return f"this identity's service has no instance {asked}: use one of {listed}, or add it to mesh.yaml"


def _break(details: str) -> NoReturn:
    """End a stream whose sidecar broke the protocol."""
    raise _StreamOver(grpc.StatusCode.INVALID_ARGUMENT, details, "bad_report")
