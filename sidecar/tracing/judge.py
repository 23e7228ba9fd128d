"""Between an inspector and the relay that judges: gives sampled requests this hop's span. Sans-IO.

A request that is not sampled passes as it came, a ``traceparent`` that cannot be read included. Of one that is sampled
the old ``traceparent`` is taken out and ours put in; where the trace begins here, what was there of one, ``tracestate``
included, is taken out whole (W3C Trace Context section 3.2.2.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from sidecar.http2 import literal
from sidecar.limits.paced import has_sidecar
from sidecar.relay import RelayFacts
from sidecar.trace_context import TRACEPARENT, TRACESTATE, traceparent
from sidecar.tracing.span import OpenSpan
from sidecar.tracing.tracer import EndedRequest, Tracer

_CONTINUED: Final = frozenset({TRACEPARENT})
_BEGUN: Final = frozenset({TRACEPARENT, TRACESTATE})


class Fields(Protocol):
    """The fields of a request's head."""

    @property
    def traceparent(self) -> bytes: ...

    def without(self, names: frozenset[bytes]) -> Any:
        """The same without what is forwarded under these names."""


class TracedRequest(EndedRequest, Protocol):
    """An exchange of either version of HTTP."""

    fields: Any
    note: Any


class Judging(Protocol):
    """The relay: the judge of its inspector."""

    facts: RelayFacts
    stream: Any

    def request(self, exchange: Any) -> bytes | None: ...

    def done(self, exchange: Any) -> None: ...


def line(name: bytes, value: bytes) -> bytes:
    """A field of HTTP/1.x, as ``literal`` is one of HTTP/2."""
    return name + b": " + value + b"\r\n"


class TracedJudge:
    """The judge of one inspector; all that is not of a request's beginning or end is the relay's own."""

    __slots__ = ("_field", "_judge", "_status", "_tracer")

    def __init__(
        self,
        judge: Judging,
        tracer: Tracer,
        status: Callable[[Any], int],
        field: Callable[[bytes, bytes], bytes] = literal,
    ) -> None:
        """``status``: what the client saw of an exchange; ``field``: a field as it is put into a head."""
        self._judge = judge
        self._tracer = tracer
        self._status = status
        self._field = field

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    def request(self, exchange: TracedRequest) -> bytes | None:
        span = self._tracer.begin(exchange.fields.traceparent, starts=self._starts)
        if span is None:
            return self._judge.request(exchange)
        exchange.note = span
        inserted = self._judge.request(exchange)
        if inserted is None:
            return None
        exchange.fields = exchange.fields.without(_CONTINUED if span.parent_id else _BEGUN)
        return inserted + self._field(TRACEPARENT, traceparent(span.trace_id, span.span_id))

    def done(self, exchange: TracedRequest) -> None:
        self._judge.done(exchange)
        span = exchange.note
        if isinstance(span, OpenSpan):
            self._tracer.end(span, self._judge.facts, exchange, self._status(exchange))

    @property
    def _starts(self) -> bool:
        """Whether a trace may begin here: with the first sidecar on the way, which on the inbound side we are only for
        those who have none. Another draw for the same request would make of one share nearly two."""
        judge = self._judge
        if judge.facts.direction == "outbound":
            return True
        return not has_sidecar(judge.stream)
