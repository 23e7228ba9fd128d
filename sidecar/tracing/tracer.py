"""Which requests have a span, and what it tells: by the context that came with them, or by a draw. No I/O."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import Final, Protocol

from ringfence.kit.clock import Clock
from ringfence.policy.decide import Deny, Permit
from sidecar.relay import RelayFacts
from sidecar.trace_context import parse_traceparent
from sidecar.tracing.span import EndedSpan, OpenSpan

_PATH_LIMIT_BYTES: Final = 512


class SpanSink(Protocol):
    """Takes what is to be exported; never waits."""

    def offer(self, span: EndedSpan) -> None: ...


class EndedRequest(Protocol):
    """A request of either version of HTTP, as a span tells it."""

    method: bytes
    target: bytes
    status: int
    cut: bool
    decision: object


class Tracer:
    """``sample``: the share, 0 to 1, of the requests without a trace that get one."""

    __slots__ = ("_clock", "_draw", "_sample", "_sink")

    def __init__(
        self, *, sample: float, sink: SpanSink, clock: Clock, draw: Callable[[], float] = random.random
    ) -> None:
        self._sample = sample
        self._sink = sink
        self._clock = clock
        self._draw = draw

    def begin(self, traceparent: bytes, *, starts: bool) -> OpenSpan | None:
        """The span of a request with this header (empty if it has none); None where it has none to have.

        A context decides by its flag. Without one, or with one that cannot be read, a trace begins here, by the draw,
        if this sidecar ``starts`` any.
        """
        if traceparent:
            context = parse_traceparent(traceparent)
            if context is not None:
                if not context.sampled:
                    return None
                return OpenSpan(context.trace_id, secrets.token_hex(8), context.parent_id, self._clock.now())
        if not starts or self._draw() >= self._sample:
            return None
        return OpenSpan(secrets.token_hex(16), secrets.token_hex(8), "", self._clock.now())

    def end(self, span: OpenSpan, facts: RelayFacts, request: EndedRequest, status: int) -> None:
        """Its request has ended; ``status``: what the client saw, 0 if nothing."""
        is_server = facts.direction == "inbound"
        path = request.target.partition(b"?")[0][:_PATH_LIMIT_BYTES]  # a query may hold what is nobody's business
        attributes: dict[str, str | int] = {
            "http.request.method": request.method.decode("latin-1"),
            "url.path": path.decode("latin-1"),
            "network.protocol.name": "http",
            "ringfence.direction": facts.direction,
            "ringfence.peer": facts.peer,
            "ringfence.service": facts.service,
            "server.port": facts.port,
        }
        if status:
            attributes["http.response.status_code"] = status
        decision = request.decision
        if isinstance(decision, Permit):
            attributes |= {"ringfence.policy": decision.policy, "ringfence.rule": decision.rule}
        elif isinstance(decision, Deny):
            attributes["ringfence.reason"] = str(decision.reason)
        self._sink.offer(
            EndedSpan(
                trace_id=span.trace_id,
                span_id=span.span_id,
                parent_id=span.parent_id,
                name=f"{attributes['http.request.method']} {facts.service}",
                is_server=is_server,
                began=span.began,
                seconds=max(0.0, self._clock.now() - span.began),
                failed=request.cut or status == 0 or status >= (500 if is_server else 400),
                attributes=attributes,
            )
        )
