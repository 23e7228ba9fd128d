"""App connections that speak HTTP/2: what both directions have in common. Adapter.

A sibling of ``sidecar.http_relay``: the relay is the judge that the inspector (``sidecar.http2``) asks in the middle of
parsing. A refusal costs one stream, never the connection, and is told in the request's own words, HTTP's or gRPC's.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from sidecar import refusal
from sidecar.http2 import Answer, Broken, Exchange, Heads, Inspector, Judge, Malformed
from sidecar.recording import Recorder
from sidecar.refusal import Refusal
from sidecar.request_relay import RequestRelay
from sidecar.tracing.judge import TracedJudge

_MALFORMED: Final = {
    Malformed.BAD_TARGET: DenyReason.PATH_AMBIGUOUS,
    Malformed.FRAGMENT_IN_TARGET: DenyReason.PATH_AMBIGUOUS,
}
BEGUN_SECONDS: Final = 15.0  # a preface or a header block, from its first byte


def answer_of(told: Refusal, *, status: int | None = None) -> Answer:
    """What a client is told of a refusal; ``status`` overrides the reason's own."""
    status = refusal.status_of(told.reason) if status is None else status
    fields = [(refusal.HEADER, told.header_value())]
    if told.challenge:
        fields.append((refusal.CHALLENGE, told.challenge.encode("ascii")))
    return Answer(
        status=status,
        message=f"{told.reason}; request id {told.request_id}",
        fields=tuple(fields),
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


class Http2Relay(RequestRelay):
    """A machine, deadlines for the client, counting."""

    inspector: Http2Machine
    _watched: tuple[str, float]
    name_protocol = False  # by the first request, on a port of protocol ``auto``
    _in_hand: Collection[Exchange] = ()

    def inspect(self, heads: Heads, recorder: Recorder, own_id: str) -> None:
        """Second half of ``__init__``, which the two directions inherit from different relays."""
        self.record_with(recorder, own_id)
        judge: Judge = self
        if recorder.tracer is not None:
            judge = TracedJudge(self, recorder.tracer, self.status_counted)
        self.inspector = Inspector(judge, heads, monotonic=recorder.monotonic)

    def record_with(self, recorder: Recorder, own_id: str) -> None:
        super().record_with(recorder, own_id)
        self._watched = ("", 0.0)

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

    def _answer(self, kind: DenyReason, exchange: Exchange | None, *, detail: str, status: int | None = None) -> Answer:
        """Record a refusal of ours and make the answer that tells it."""
        told = self._telling(kind)
        self._refused_by(told, Deny(kind), exchange, detail)
        return answer_of(told, status=status)

    @staticmethod
    def status_counted(exchange: Exchange) -> int:
        return exchange.status or (exchange.local.status if exchange.local is not None else 0)
