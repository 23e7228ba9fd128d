"""What the sidecar says of the traffic: one place that turns ended connections, requests and denials into log lines and
metrics, so that both tell one story. Adapter.

One line for each ended connection, each denial and each error; one for each request where ``access_log: all`` asks.
"""

from __future__ import annotations

import secrets
from typing import Final

from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.policy.decide import Decision, Deny, Permit
from sidecar.metrics import Count, Histogram, SidecarMetrics
from sidecar.refusal import Refusal
from sidecar.relay import RelayFacts

_PATH_LIMIT_BYTES: Final = 512


def new_request_id() -> str:
    """An id that nobody can guess or count by; only what is refused, failed or logged has one."""
    return secrets.token_hex(8)


class RequestSeries:
    """Counters of the requests of one caller to one service, bound once and then found by verdict and status."""

    __slots__ = ("_direction", "_metrics", "_peer", "_service", "by_verdict", "durations")

    def __init__(self, metrics: SidecarMetrics, direction: str, peer: str, service: str) -> None:
        self._metrics = metrics
        self._direction = direction
        self._peer = peer
        self._service = service
        self.durations: Histogram = metrics.durations.at(direction, peer, service)
        self.by_verdict: dict[tuple[Decision | None, int], Count] = {}

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

    def __init__(self, *, log: Logger, metrics: SidecarMetrics, clock: Clock, every_request: bool) -> None:
        self.metrics = metrics
        self.every_request = every_request
        self.monotonic = clock.monotonic
        self._log = log
        self._series: dict[tuple[str, str, str], RequestSeries] = {}

    def series(self, direction: str, peer: str, service: str) -> RequestSeries:
        key = (direction, peer, service)
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= 1000:
                self._series.clear()
            found = self._series[key] = RequestSeries(self.metrics, direction, peer, service)
        return found

    def connection_ended(self, facts: RelayFacts, reason: str, detail: str) -> None:
        metrics = self.metrics
        direction, peer, service = facts.direction, facts.peer, facts.service
        metrics.connections.at(direction, peer, service, facts.protocol, reason).value += 1
        metrics.bytes.at(direction, peer, service, "mesh").value += facts.bytes_from_app
        metrics.bytes.at(direction, peer, service, "app").value += facts.bytes_to_app
        fields = self._fields(facts)
        fields.update(
            reason=reason,
            bytes_from_app=facts.bytes_from_app,
            bytes_to_app=facts.bytes_to_app,
            duration_ms=round((self.monotonic() - facts.started) * 1000, 3),
        )
        if facts.protocol == "http":
            fields["requests"] = facts.requests
        if facts.origin:
            fields["origin"] = facts.origin
        if detail:
            fields["detail"] = detail
        self._log.info("connection ended", **fields)

    def connection_denied(self, facts: RelayFacts, decision: Deny, *, detail: str = "") -> None:
        self.metrics.denials.at(facts.direction, facts.peer, facts.service, str(decision.reason)).value += 1
        fields = self._fields(facts)
        if detail:
            fields["detail"] = detail
        self._log.warning("connection denied", **fields, origin=facts.origin)

    def request_refused(
        self, facts: RelayFacts, decision: Deny | None, told: Refusal, *, method: bytes, target: bytes, detail: str = ""
    ) -> None:
        """A request that this sidecar refused, or that another did and told us (``told.origin``)."""
        self.metrics.denials.at(facts.direction, facts.peer, facts.service, told.reason).value += 1
        fields = self._fields(facts, decision)
        fields.update(
            reason=told.reason,
            request_id=told.request_id,
            origin=told.origin,
            method=method,
            target=target[:_PATH_LIMIT_BYTES],
        )
        if detail:
            fields["detail"] = detail
        self._log.warning("request denied", **fields)

    def request_done(
        self, facts: RelayFacts, decision: Decision | None, *, method: bytes, target: bytes, status: int, seconds: float
    ) -> None:
        """One request, where every one is logged."""
        fields = self._fields(facts, decision)
        fields.update(
            request_id=new_request_id(),
            method=method,
            target=target[:_PATH_LIMIT_BYTES],
            status=status,
            duration_ms=round(seconds * 1000, 3),
        )
        self._log.info("request", **fields)

    def defect(self, facts: RelayFacts, error: Exception) -> None:
        self._log.error("defect", **self._fields(facts), detail=f"{type(error).__name__}: {error}")

    def _fields(self, facts: RelayFacts, decision: Decision | None = None) -> dict[str, object]:
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
        elif isinstance(decision, Deny):
            fields.update(decision="deny", reason=str(decision.reason))
            if decision.nearest is not None:
                fields["nearest"] = decision.nearest
        if facts.request_id:
            fields["request_id"] = facts.request_id
        if facts.destination:
            fields["destination"] = facts.destination
        return fields
