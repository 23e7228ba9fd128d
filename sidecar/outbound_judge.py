"""The judge of HTTP/2 requests from the app to the mesh: bounded in time and number, timed, counted. Adapter.

Whether a request may be made is the other side's to say.
"""

from __future__ import annotations

from dataclasses import replace

from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from sidecar import refusal
from sidecar.call_limits import CallLimits
from sidecar.http2 import Answer, Exchange, Malformed
from sidecar.http2.answer import GRPC_DEADLINE_EXCEEDED
from sidecar.http2_relay import Http2Relay
from sidecar.target import Target


class OutboundHttp2Judge(Http2Relay):
    """What connections to one endpoint and to several have in common."""

    _target: Target
    _limits: CallLimits

    def limit(self, target: Target) -> None:
        """Last part of ``__init__``: the machine is there."""
        self._limits = CallLimits(
            target, monotonic=self._monotonic, outstanding=self.inspector.outstanding, expire=self._expire
        )
        self._in_hand = self._limits.counted

    def request(self, exchange: Exchange) -> bytes | None:
        exchange.started = self._monotonic()
        if self.name_protocol:
            self._name_protocol(exchange)
        unbounded = self._target.upstream.route is None and exchange.fields.grpc_timeout_seconds is None
        if unbounded or self._limits.begin(exchange):
            return b""
        self.circuit_open(exchange, "requests are in flight")
        return None

    def circuit_open(self, exchange: Exchange, what: str) -> None:
        """Refuse a new request for what its route bounds."""
        exchange.decision = Deny(DenyReason.CIRCUIT_OPEN)
        answer = self._answer(DenyReason.CIRCUIT_OPEN, exchange, detail=f"as many {what} as the route permits")
        self.inspector.refuse(exchange, answer)

    def finish(self, exchange: Exchange) -> None:
        self._limits.end(exchange)

    def _expire(self, exchange: Exchange, kind: str, detail: str) -> bool:
        """A call is late: in gRPC's own words, if it is one, and by a reset if an HTTP response has begun."""
        if self.ended:
            return False
        answer = self._answer(DenyReason.REQUEST_TIMEOUT, exchange, detail=f"{kind}: {detail}")
        self.inspector.revoke(exchange, replace(answer, grpc=GRPC_DEADLINE_EXCEEDED))
        self._attend()
        return False

    def response(self, exchange: Exchange, status: int) -> None:
        if exchange.refusal is not None:
            told = refusal.told_by(exchange.refusal, self.facts.peer)
            if told is not None:
                reason = refusal.known_reason(told.reason)
                decision = Deny(reason) if reason is not None else None
                self._refused_by(told, decision, exchange)

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> Answer | None:
        self._recorder.violation(self.facts, by="server", reason=reason)
        kind = DenyReason.UPSTREAM_UNREACHABLE if reason is Malformed.NO_RESPONSE else DenyReason.PROTOCOL_ERROR
        return self._answer(kind, exchange, detail=f"{reason}: {detail}", status=502)
