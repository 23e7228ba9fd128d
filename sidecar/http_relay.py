"""App connections that speak HTTP/1.x: what both directions have in common. Adapter.

The relay is the judge that the inspector (``sidecar.http1``) asks in the middle of parsing: on the inbound side
(``sidecar.inbound_http``) it answers with the identity header to insert or with a refusal; on the outbound side
(``sidecar.outbound_http``) it only watches, and answers for the mesh when the mesh cannot deliver. No task, future or
closure is made for a request.
"""

from __future__ import annotations

from typing import Final

from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from sidecar import refusal
from sidecar.http1 import Exchange, Heads, Inspector, Judge, Malformed
from sidecar.recording import Recorder
from sidecar.request_relay import RequestRelay
from sidecar.tracing.judge import TracedJudge, line

# A target that two readers could take for two things is the path's fault, whichever layer saw it first.
_MALFORMED: Final = {
    Malformed.BAD_TARGET: DenyReason.PATH_AMBIGUOUS,
    Malformed.FRAGMENT_IN_TARGET: DenyReason.PATH_AMBIGUOUS,
}
HEAD_SECONDS: Final = 15.0  # a request's head, from its first byte
BODY_IDLE_SECONDS: Final = 60.0  # between two pieces of a request's body


class HttpRelay(RequestRelay):
    """What both directions have in common: an inspector, deadlines for the client, counting."""

    inspector: Inspector
    _watched: tuple[str, object, float]
    _in_hand: int = 0

    def inspect(self, heads: Heads, recorder: Recorder, own_id: str) -> None:
        """Second half of ``__init__``, which the two directions inherit from different relays."""
        self.record_with(recorder, own_id)
        self._watched = ("", 0, 0.0)
        judge: Judge = self
        if recorder.tracer is not None:
            judge = TracedJudge(self, recorder.tracer, self.status_counted, line)
        self.inspector = Inspector(judge, heads)

    def drain(self, *, patient: bool = False) -> None:
        """Let the requests in flight end, the last with ``connection: close``, and take no more; ``patient``: but the
        next one, if there is none in flight."""
        self.inspector.drain(patient=patient)
        if self.inspector.attention:
            self._attend()

    def sweep(self, now: float) -> None:
        """Called every few seconds: a client that began a request and does not go on is let go."""
        inspector = self.inspector
        progress = inspector.progress
        # A head is late by when it began, that is, by the request before it; a body by its last piece.
        mark: object = inspector.newest if progress == "request_head" else inspector.client_bytes
        before, mark_before, since = self._watched
        if progress not in ("request_head", "request_body") or progress != before or mark != mark_before:
            self._watched = (progress, mark, now)
        elif now - since > (HEAD_SECONDS if progress == "request_head" else BODY_IDLE_SECONDS):
            self.end(DenyReason.CALLER_TIMEOUT, f"{progress} not complete after {now - since:.0f} s")
        super().sweep(now)

    # -- the judge ----------------------------------------------------------------------------------------------------

    def request(self, exchange: Exchange) -> bytes | None:
        raise NotImplementedError

    def response(self, exchange: Exchange, status: int) -> None:
        raise NotImplementedError

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> bytes:
        raise NotImplementedError

    def malformed(self, reason: Malformed, detail: str) -> bytes:
        self._recorder.violation(self.facts, by="client", reason=reason)
        kind = _MALFORMED.get(reason, DenyReason.PROTOCOL_ERROR)
        return self._answer(kind, None, detail=f"{reason}: {detail}")

    def _answer(self, kind: DenyReason, exchange: Exchange | None, *, detail: str, status: int | None = None) -> bytes:
        """Record a refusal of ours and make the response that tells it."""
        told = self._telling(kind)
        self._refused_by(told, Deny(kind), exchange, detail)
        return refusal.http_response(told, status=status)

    @staticmethod
    def status_counted(exchange: Exchange) -> int:
        if exchange.status:
            return exchange.status
        local = exchange.local
        return int(local[9:12]) if local else 0
