"""What the sidecar says of the traffic: one place that turns ended connections, requests and denials into log lines and
metrics, and for whoever taps, so that all tell one story. Adapter.

One line for each ended connection, each denial and each error; where ``accessLog: all`` asks, one for each request, or
for a share of them. Connections are counted at once, and told of a moment later where there is a ``later``.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.policy.decide import Decision, Deny, Permit
from ringfence.policy.reasons import DenyReason, ReasonKind
from sidecar.flows.table import CallerFlows, FlowTable
from sidecar.later import Later
from sidecar.metrics import OVERFLOW, Count, Histogram, SidecarMetrics
from sidecar.noted_calls import DENIED, SHADOW, WOULD_DENY, Note, NotedCalls
from sidecar.plain_address import plain_address
from sidecar.refusal import Refusal, known_reason
from sidecar.relay import RelayFacts
from sidecar.remarks import Remarks
from sidecar.tap import Seen, Taps
from sidecar.trace_context import is_drawn

if TYPE_CHECKING:
    from sidecar.tracing import Tracer

_NO_VERDICTS: Final = frozenset(
    [DenyReason.RATE_LIMITED, *(one for one in DenyReason if one.kind is ReasonKind.FAILURE)]
)
_PATH_LIMIT_BYTES: Final = 512


def new_request_id() -> str:
    """An id that nobody can guess or count by; only what is refused, failed or logged has one."""
    return secrets.token_hex(8)


def _label(reason: str) -> str:
    """A reason as a metric's label: of a closed set, where a peer may have told any word."""
    return reason if reason in ("closed", "reset") or known_reason(reason) is not None else OVERFLOW


class RequestSeries:
    """Counters of the requests of one caller to one service, bound once and then found by verdict and status."""

    __slots__ = (
        "_count",
        "_decision",
        "_direction",
        "_metrics",
        "_peer",
        "_service",
        "_status",
        "by_verdict",
        "durations",
        "resets",
    )

    def __init__(self, metrics: SidecarMetrics, direction: str, peer: str, service: str) -> None:
        self._metrics = metrics
        self._direction = direction
        self._peer = peer
        self._service = service
        self.durations: Histogram = metrics.durations.at(direction, peer, service)
        self.resets: Count = metrics.resets.at(direction, peer, service)
        self.by_verdict: dict[tuple[Decision | None, int], Count] = {}
        self._decision: Decision | None = None
        self._status = -1
        self._count = Count()

    def ended(self, decision: Decision | None, status: int, seconds: float) -> None:
        """Count one request. Mostly its verdict is that of the request before it, which is quicker seen than found."""
        if decision is not self._decision or status != self._status:
            self._count = self.count(decision, status)
            self._decision = decision
            self._status = status
        self._count.value += 1
        self.durations.observe(seconds)

    def count(self, decision: Decision | None, status: int) -> Count:
        """The counter of this verdict and status; bounded by what the metric family allows."""
        key = (decision, status)
        found = self.by_verdict.get(key)
        if found is None:
            policy = rule = reason = ""
            if isinstance(decision, Permit):
                policy, rule = decision.policy, decision.rule
            elif isinstance(decision, Deny):
                reason = str(decision.reason)
            found = self._metrics.requests.at(
                self._direction, self._peer, self._service, policy, rule, reason, str(status)
            )
            if len(self.by_verdict) >= 1000:
                self.by_verdict.clear()
            self.by_verdict[key] = found
        return found


class Recorder:
    """Writes what happened; shared by inbound and outbound."""

    def __init__(
        self,
        *,
        log: Logger,
        metrics: SidecarMetrics,
        clock: Clock,
        every_request: bool,
        sample: float = 1.0,
        own_id: str = "",
        tracer: Tracer | None = None,
        draw: Callable[[], float] = random.random,
        worker: int | None = None,
        flows: FlowTable | None = None,
        later: Later | None = None,
    ) -> None:
        """``sample``: of the requests that ``every_request`` logs, this share; errors and denials are always logged.
        ``draw`` decides, 0 to 1, for requests that are part of no trace. ``worker``: which of several processes this
        is, to be told with each tapped event. ``flows``: where inbound calls are counted for the control plane.
        ``later``: when connections are told of; None: at once."""
        self.metrics = metrics
        self.every_request = every_request
        """Whether ``request_done`` is to be called: the log or a tap wants it."""
        self.flows = flows if flows is not None else FlowTable(clock.now)
        self.tracer = tracer
        """None: requests have no spans."""
        self.monotonic = clock.monotonic
        self.taps = Taps()
        self.taps.changed = self._taps_changed
        self._now = clock.now
        self._own_id = own_id
        self._worker = worker
        self._logs_every = every_request
        self._sample = sample
        self._draw = draw
        self._log = log
        self._later = later
        self._calls = NotedCalls(clock.now, own_id)
        self.remarks = Remarks(
            self, log=log, metrics=metrics, calls=self._calls, new_id=new_request_id, monotonic=clock.monotonic
        )
        self._series: dict[tuple[str, str, str], RequestSeries] = {}
        self.endings = 0
        """Connections that ended and requests that were refused so far: a revision that ended any has raised it."""

    @property
    def calls(self) -> NotedCalls:
        """Those of which ``ringfence policy why`` may ask, up to this moment."""
        self.catch_up()
        return self._calls

    def catch_up(self) -> None:
        """Tell now of what was to be told later."""
        if self._later is not None:
            self._later.all()

    def violation(self, facts: RelayFacts, *, by: str, reason: str) -> None:
        """The client or the server broke a rule of HTTP, or a limit; ``reason`` is of a closed set."""
        self.metrics.violations.at(facts.direction, facts.protocol, by, reason).value += 1

    def series(self, direction: str, peer: str, service: str) -> RequestSeries:
        key = (direction, peer, service)
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= 1000:
                self._series.clear()
            found = self._series[key] = RequestSeries(self.metrics, direction, peer, service)
        return found

    def flows_of(self, facts: RelayFacts, protocol: str) -> CallerFlows | None:
        """Where the calls of an inbound connection are counted; None for an outbound one: its other end counts them."""
        return self._flows_of(facts, protocol) if facts.direction == "inbound" else None

    def _flows_of(self, facts: RelayFacts, protocol: str) -> CallerFlows:
        address = "" if facts.peer else plain_address(facts.address)
        return self.flows.of(facts.peer, facts.port, protocol, address)

    def connection_judged(self, facts: RelayFacts, decision: Decision, shadow: Decision | None = None) -> None:
        """An inbound connection was judged unread, for the first time; what no policy refused is no verdict."""
        if facts.port and not (isinstance(decision, Deny) and decision.reason in _NO_VERDICTS):
            self._flows_of(facts, "tcp").connected(decision, shadow)

    def detected(self, facts: RelayFacts) -> None:
        """It was found out what a connection to a port of protocol ``auto`` speaks: ``facts.protocol``."""
        self.metrics.detected.at(facts.direction, facts.service, facts.protocol).value += 1

    def connection_ended(self, facts: RelayFacts, reason: str, detail: str) -> None:
        self.endings += 1
        metrics = self.metrics
        direction, peer, service = facts.direction, facts.peer, facts.service
        metrics.connections.at(direction, peer, service, facts.protocol, _label(reason)).value += 1
        metrics.bytes.at(direction, peer, service, "mesh").value += facts.bytes_from_app
        metrics.bytes.at(direction, peer, service, "app").value += facts.bytes_to_app
        if facts.request_id or self.taps.any or self._log.enabled("info"):
            seconds = self.monotonic() - facts.started
            self._tell(partial(self._tell_end, facts, reason, detail, self._now(), seconds))

    def connection_denied(self, facts: RelayFacts, decision: Deny, *, detail: str = "") -> None:
        self.metrics.denials.at(facts.direction, facts.peer, facts.service, str(decision.reason)).value += 1
        self._tell(partial(self._tell_denial, facts, decision, detail, self._now()))

    def _tell(self, tell: Callable[[], None]) -> None:
        if self._later is None:
            tell()
        else:
            self._later(tell)

    def _tell_end(self, facts: RelayFacts, reason: str, detail: str, at: float, seconds: float) -> None:
        if facts.request_id:
            self._note(facts, facts.decision, reason, detail=detail, at=at)
        if not self.taps.any and not self._log.enabled("info"):
            return
        fields = self.fields(facts)
        fields.update(
            reason=reason,
            bytes_from_app=facts.bytes_from_app,
            bytes_to_app=facts.bytes_to_app,
            duration_ms=round(seconds * 1000, 3),
        )
        if facts.protocol != "tcp":
            fields["requests"] = facts.requests
        if facts.origin:
            fields["origin"] = facts.origin
        if detail:
            fields["detail"] = detail
        self._log.log("info", "connection ended", fields, at)
        # Connections of HTTP are told request by request, those denied at our own door when that was.
        told = isinstance(facts.decision, Deny) and facts.direction == "inbound"
        if self.taps.any and facts.protocol == "tcp" and not told:
            denied = isinstance(facts.decision, Deny) or reason not in ("closed", "reset")
            self.tap("connection", facts, denied=denied, fields=fields, decision="deny" if denied else None, at=at)

    def _tell_denial(self, facts: RelayFacts, decision: Deny, detail: str, at: float) -> None:
        self._note(facts, decision, str(decision.reason), detail=detail, at=at)
        fields = self.fields(facts)
        if detail:
            fields["detail"] = detail
        fields["origin"] = facts.origin
        self._log.log("warning", "connection denied", fields, at)
        if self.taps.any:
            del fields["origin"]
            self.tap("connection", facts, denied=True, fields=fields, at=at)

    def request_refused(
        self,
        facts: RelayFacts,
        decision: Deny | None,
        told: Refusal,
        *,
        method: bytes,
        target: bytes,
        host: bytes = b"",
        detail: str = "",
        trace_id: str = "",
    ) -> None:
        """A request that this sidecar refused, or that another did and told us (``told.origin``)."""
        self.endings += 1
        self.metrics.denials.at(facts.direction, facts.peer, facts.service, _label(told.reason)).value += 1
        self._calls.note(
            facts,
            Note(
                request_id=told.request_id,
                outcome=DENIED,
                decision=decision,
                reason=told.reason,
                method=method,
                target=target,
                host=host,
                detail=detail,
                origin=told.origin,
            ),
        )
        fields = self.fields(facts, decision)
        fields.update(
            reason=told.reason,
            request_id=told.request_id,
            origin=told.origin,
            method=method,
            target=target[:_PATH_LIMIT_BYTES],
        )
        if trace_id:
            fields["trace_id"] = trace_id
        if detail:
            fields["detail"] = detail
        self._log.warning("request denied", **fields)
        if self.taps.any:
            self.tap("request", facts, denied=True, fields=fields, decision="deny")

    def request_done(
        self,
        facts: RelayFacts,
        decision: Decision | None,
        *,
        method: bytes,
        target: bytes,
        status: int,
        seconds: float,
        told: bool = False,
        trace_id: str = "",
    ) -> None:
        """One request, where every one is logged or tapped; ``told``: its refusal went through ``request_refused``."""
        failed = told or isinstance(decision, Deny) or not 100 <= status < 500
        logged = self._logs_every and (failed or self._sampled(trace_id))
        if not logged and not self.taps.any:
            return
        fields = self.fields(facts, decision)
        fields.update(
            request_id=new_request_id(),
            method=method,
            target=target[:_PATH_LIMIT_BYTES],
            status=status,
            duration_ms=round(seconds * 1000, 3),
        )
        if trace_id:
            fields["trace_id"] = trace_id
        if logged:
            self._log.info("request", **fields)
        if self.taps.any and not told and not isinstance(decision, Deny):
            self.tap("request", facts, denied=False, fields=fields)

    def _sampled(self, trace_id: str) -> bool:
        """By the trace where there is one, so that all sidecars of a trace log it, or none."""
        if self._sample >= 1.0:
            return True
        return is_drawn(trace_id, self._sample) if trace_id else self._draw() < self._sample

    def _taps_changed(self) -> None:
        self.every_request = self._logs_every or self.taps.any

    def tap(
        self,
        event: str,
        facts: RelayFacts,
        *,
        denied: bool,
        fields: dict[str, object],
        decision: str | None = None,
        at: float | None = None,
    ) -> None:
        """Tell the taps what the log line's ``fields`` say, with caller and called in place of the peer. ``at``: when
        it was, Unix seconds; None: now."""
        caller = facts.peer if facts.direction == "inbound" else self._own_id

        def line() -> dict[str, object]:
            moment = self._now() if at is None else at
            told: dict[str, object] = {"ts": round(moment, 3), "event": event, "from": caller, "to": facts.service}
            for name, value in fields.items():
                if name not in ("peer", "service"):
                    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
                    told[name] = text if isinstance(text, int | float) else str(text)
            if decision is not None:
                told["decision"] = decision
            if self._worker is not None:
                told["worker"] = self._worker
            return told

        seen = Seen(
            caller=caller,
            service=facts.service,
            denied=denied,
            would_deny=event == WOULD_DENY,
            shadow=event == SHADOW,
        )
        self.taps.tell(seen, line)

    def _note(self, facts: RelayFacts, decision: Decision | None, reason: str, *, detail: str, at: float) -> None:
        note = Note(
            request_id=facts.request_id,
            outcome=DENIED,
            decision=decision,
            reason=reason,
            detail=detail,
            origin=facts.origin,
            at=at,
        )
        self._calls.note(facts, note)

    def defect(self, facts: RelayFacts, error: Exception) -> None:
        self._log.error("defect", **self.fields(facts), detail=f"{type(error).__name__}: {error}")

    def fields(self, facts: RelayFacts, decision: Decision | None = None) -> dict[str, object]:
        fields: dict[str, object] = {
            "direction": facts.direction,
            "peer": facts.peer,
            "service": facts.service,
            "port": facts.port,
            "protocol": facts.protocol,
        }
        decision = decision if decision is not None else facts.decision
        if isinstance(decision, Permit):
            fields.update(decision="permit", policy=decision.policy, rule=decision.rule)
            if decision.would_deny is not None:
                fields["would_deny"] = str(decision.would_deny)
                if decision.nearest is not None:
                    fields["nearest"] = decision.nearest
        elif isinstance(decision, Deny):
            fields.update(decision="deny", reason=str(decision.reason))
            if decision.nearest is not None:
                fields["nearest"] = decision.nearest
        if facts.request_id:
            fields["request_id"] = facts.request_id
        if facts.remote:
            fields["remote"] = facts.remote
        if facts.destination:
            fields["destination"] = facts.destination
        if facts.sni:
            fields["sni"] = facts.sni
        if facts.alpn:
            fields["alpn"] = facts.alpn
        return fields
