"""App connections that speak HTTP/2: what both directions have in common. Adapter.

A sibling of ``sidecar.http_relay``: the relay is the judge that the inspector (``sidecar.http2``) asks in the middle of
parsing. A refusal costs one stream, never the connection, and is told in the request's own words, HTTP's or gRPC's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, Protocol

from ringfence.policy.decide import Decision, Deny
from ringfence.policy.reasons import DenyReason
from sidecar import refusal
from sidecar.http2 import Answer, Broken, Exchange, Heads, Inspector, Judge, Malformed
from sidecar.http2.frames import NO_ERROR
from sidecar.recording import Recorder, RequestSeries, new_request_id
from sidecar.refusal import Refusal
from sidecar.relay import Relay
from sidecar.trace_context import trace_id_of
from sidecar.tracing.judge import TracedJudge

_MALFORMED: Final = {
    Malformed.BAD_TARGET: DenyReason.PATH_AMBIGUOUS,
    Malformed.FRAGMENT_IN_TARGET: DenyReason.PATH_AMBIGUOUS,
}
BEGUN_SECONDS: Final = 15.0  # a preface or a header block, from its first byte


def answer_of(told: Refusal, *, status: int | None = None) -> Answer:
    """What a client is told of a refusal; ``status`` overrides the reason's own."""
    status = refusal.status_of(told.reason) if status is None else status
    return Answer(
        status=status,
        message=f"{told.reason}; request id {told.request_id}",
        fields=((refusal.HEADER, told.header_value()),),
        content=refusal.content(told, status),
        retry_after_seconds=told.retry_after_seconds,
    )


class Http2Machine(Protocol):
    """What stands between client and server: an inspector, or a splitter."""

    @property
    def idle(self) -> bool: ...

    @property
    def progress(self) -> str: ...

    def outstanding(self) -> list[Exchange]: ...

    def refuse(self, exchange: Exchange, answer: Answer) -> None: ...

    def revoke(self, exchange: Exchange, answer: Answer) -> None: ...

    def drain(self) -> None: ...

    def cut(self) -> None: ...


class Http2Relay(Relay):
    """A machine, deadlines for the client, counting."""

    inspector: Http2Machine
    _recorder: Recorder
    _own_id: str
    _series: RequestSeries
    _monotonic: Callable[[], float]
    _watched: tuple[str, float]
    name_protocol = False  # by the first request, on a port of protocol ``auto``
    _in_hand: Collection[Exchange] = ()  # of which ``finish`` wants to know

    def inspect(self, heads: Heads, recorder: Recorder, own_id: str) -> None:
        """Second half of ``__init__``, which the two directions inherit from different relays."""
        self.record_with(recorder, own_id)
        judge: Judge = self
        if recorder.tracer is not None:
            judge = TracedJudge(self, recorder.tracer, status_counted)
        self.inspector = Inspector(judge, heads, monotonic=recorder.monotonic)

    def record_with(self, recorder: Recorder, own_id: str) -> None:
        self._recorder = recorder
        self._own_id = own_id
        self._series = recorder.series(self.facts.direction, self.facts.peer, self.facts.service)
        self._monotonic = recorder.monotonic
        self._watched = ("", 0.0)

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

    def drain(self) -> None:
        """GOAWAY: the requests in flight end, and no new ones are taken."""
        self.inspector.drain()
        self._attend()

    def sweep(self, now: float) -> None:
        """Called every few seconds: a client that began a preface or a header block must go on."""
        progress = self.inspector.progress
        before, since = self._watched
        if progress != before or progress not in ("preface", "frame"):
            self._watched = (progress, now)
        elif now - since > BEGUN_SECONDS:
            self.end(DenyReason.CALLER_TIMEOUT, f"{progress} not complete after {now - since:.0f} s")
        super().sweep(now)

    # -- the judge ----------------------------------------------------------------------------------------------------

    def request(self, exchange: Exchange) -> bytes | None:
        raise NotImplementedError

    def response(self, exchange: Exchange, status: int) -> None:
        raise NotImplementedError

    def bad_response(self, exchange: Exchange, reason: Malformed, detail: str) -> Answer | None:
        raise NotImplementedError

    def _name_protocol(self, exchange: Exchange) -> None:
        self.name_protocol = False
        if exchange.grpc:
            self.facts.protocol = "grpc"
        self._recorder.detected(self.facts)

    def finish(self, exchange: Exchange) -> None:
        """Called for each exchange that ends while there are some ``_in_hand``."""

    def done(self, exchange: Exchange) -> None:
        if self._in_hand:
            self.finish(exchange)
        seconds = self._monotonic() - exchange.started
        self.facts.requests += 1
        series = self._series
        decision: Decision | None = exchange.decision  # type: ignore[assignment]
        status = exchange.status or status_counted(exchange)
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

    def malformed(self, reason: Malformed, detail: str) -> Answer:
        self._recorder.violation(self.facts, by="client", reason=reason)
        kind = _MALFORMED.get(reason, DenyReason.PROTOCOL_ERROR)
        return self._answer(kind, None, detail=f"{reason}: {detail}")

    def broken(self, by_client: bool, reason: Broken, detail: str) -> None:
        self._recorder.violation(self.facts, by="client" if by_client else "server", reason=reason)
        whose = "the client" if by_client else "the server"
        story = f"{whose} broke HTTP/2: {reason}: {detail}"
        told = self._telling(DenyReason.PROTOCOL_ERROR)
        self._refused_by(told, Deny(DenyReason.PROTOCOL_ERROR), None, story)

    def _telling(self, reason: str) -> Refusal:
        return Refusal(
            reason=reason,
            request_id=new_request_id(),
            origin=self._own_id,
            retry_after_seconds=self.retry_after_seconds,
        )

    def _answer(self, kind: DenyReason, exchange: Exchange | None, *, detail: str, status: int | None = None) -> Answer:
        """Record a refusal of ours and make the answer that tells it."""
        told = self._telling(kind)
        self._refused_by(told, Deny(kind), exchange, detail)
        return answer_of(told, status=status)

    def _refused_by(self, told: Refusal, decision: Deny | None, exchange: Exchange | None, detail: str = "") -> None:
        """Record a refusal, ours or another sidecar's; ``exchange`` None: of no request, or of many."""
        self._recorder.request_refused(
            self.facts,
            decision,
            told,
            method=exchange.method if exchange is not None else b"",
            target=exchange.target if exchange is not None else b"",
            detail=detail,
            trace_id=trace_id_of(exchange) if exchange is not None else "",
        )


def status_counted(exchange: Exchange) -> int:
    """The status the client saw: the server's, or that of the answer made here; 0 if it saw none."""
    return exchange.status or (exchange.local.status if exchange.local is not None else 0)
