"""App connections that speak HTTP/1.x: what both directions have in common. Adapter.

The relay is the judge that the inspector (``sidecar.http1``) asks in the middle of parsing: on the inbound side
(``sidecar.inbound_http``) it answers with the identity header to insert or with a refusal; on the outbound side
(``sidecar.outbound_http``) it only watches, and answers for the mesh when the mesh cannot deliver. No task, future or
closure is made for a request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ringfence.policy.decide import Decision, Deny
from ringfence.policy.reasons import DenyReason
from sidecar import refusal
from sidecar.http1 import Exchange, Heads, Inspector, Judge, Malformed
from sidecar.http2.frames import NO_ERROR
from sidecar.recording import Recorder, RequestSeries, new_request_id
from sidecar.refusal import Refusal
from sidecar.relay import Relay
from sidecar.trace_context import trace_id_of
from sidecar.tracing.judge import TracedJudge, line

# A target that two readers could take for two things is the path's fault, whichever layer saw it first.
_MALFORMED: Final = {
    Malformed.BAD_TARGET: DenyReason.PATH_AMBIGUOUS,
    Malformed.FRAGMENT_IN_TARGET: DenyReason.PATH_AMBIGUOUS,
}
HEAD_SECONDS: Final = 15.0  # a request's head, from its first byte
BODY_IDLE_SECONDS: Final = 60.0  # between two pieces of a request's body


class HttpRelay(Relay):
    """What both directions have in common: an inspector, deadlines for the client, counting."""

    inspector: Inspector
    _recorder: Recorder
    _own_id: str
    _series: RequestSeries
    _monotonic: Callable[[], float]
    _watched: tuple[str, object, float]
    _in_hand = 0  # requests of which ``finish`` wants to know

    def inspect(self, heads: Heads, recorder: Recorder, own_id: str) -> None:
        """Second half of ``__init__``, which the two directions inherit from different relays."""
        self._recorder = recorder
        self._own_id = own_id
        self._series = recorder.series(self.facts.direction, self.facts.peer, self.facts.service)
        self._monotonic = recorder.monotonic
        self._watched = ("", 0, 0.0)
        judge: Judge = self
        if recorder.tracer is not None:
            judge = TracedJudge(self, recorder.tracer, _status_counted, line)
        self.inspector = Inspector(judge, heads)

    def _attend(self) -> None:
        """Do what the inspector wants beyond the bytes that it returned."""
        raise NotImplementedError

    def _defect(self, error: Exception) -> None:
        self.owner.relay_failed(self, error)
        self.end("reset", "defect", abort=True)

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = NO_ERROR) -> None:
        if not self.ended:
            self.inspector.cut()
        super().end(reason, detail, abort=abort, code=code)

    def on_reset(self, code: int) -> None:
        if code == NO_ERROR and self.inspector.idle:
            self.end("closed")
        else:
            super().on_reset(code)

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

    def done(self, exchange: Exchange) -> None:
        if self._in_hand:
            self.finish(exchange)
        seconds = self._monotonic() - exchange.started
        self.facts.requests += 1
        series = self._series
        decision: Decision | None = exchange.decision  # type: ignore[assignment]
        status = exchange.status or _status_counted(exchange)
        series.ended(decision, status, seconds)
        if exchange.cut:
            series.resets.value += 1
        if self._recorder.every_request:
            self._recorder.request_done(
                self.facts,
                decision,
                method=exchange.method,
                target=exchange.target,
                status=status,
                seconds=seconds,
                told=refusal.is_told(exchange.local, exchange.refusal),
                trace_id=trace_id_of(exchange),
            )

    def finish(self, exchange: Exchange) -> None:
        """A request has ended, while some were in hand."""

    def malformed(self, reason: Malformed, detail: str) -> bytes:
        self._recorder.violation(self.facts, by="client", reason=reason)
        kind = _MALFORMED.get(reason, DenyReason.PROTOCOL_ERROR)
        return self._answer(kind, None, detail=f"{reason}: {detail}")

    def _answer(self, kind: DenyReason, exchange: Exchange | None, *, detail: str, status: int | None = None) -> bytes:
        """Record a refusal of ours and make the response that tells it."""
        told = Refusal(
            reason=kind,
            request_id=new_request_id(),
            origin=self._own_id,
            retry_after_seconds=self.retry_after_seconds,
        )
        self._refused_by(told, Deny(kind), exchange, detail)
        return refusal.http_response(told, status=status)

    def _refused_by(self, told: Refusal, decision: Deny | None, exchange: Exchange | None, detail: str = "") -> None:
        """Record a refusal, ours or another sidecar's; ``exchange`` None: of what was no request."""
        self._recorder.request_refused(
            self.facts,
            decision,
            told,
            method=exchange.method if exchange is not None else b"",
            target=exchange.target if exchange is not None else b"",
            detail=detail,
            trace_id=trace_id_of(exchange) if exchange is not None else "",
        )


def _status_counted(exchange: Exchange) -> int:
    """The status the client saw: the server's, or that of the answer made here; 0 if it saw none."""
    if exchange.status:
        return exchange.status
    local = exchange.local
    return int(local[9:12]) if local else 0
