"""Spans on their way to a collector: OTLP over HTTP, by the OpenTelemetry packages, in a thread of its own. Adapter.

The loop only appends to a bounded queue; what finds it full is dropped and counted, and so is what a collector does not
take. The packages are imported by the thread, at its first batch: they bring ``requests``, ``ssl`` and 20 MB.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ringfence.kit.log import Logger
from sidecar.metrics import SidecarMetrics
from sidecar.tracing.span import EndedSpan

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

QUEUE_LIMIT: Final = 2_048
BATCH_LIMIT: Final = 512
BATCH_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 5.0
_NANOSECONDS: Final = 1_000_000_000


class SpanExport:
    """The sink of a tracer. ``offer`` is for one thread; no counter is written by two."""

    def __init__(
        self,
        *,
        endpoint: str,
        headers: Mapping[str, str],
        resource: Mapping[str, str],
        metrics: SidecarMetrics,
        log: Logger,
    ) -> None:
        self._endpoint = endpoint
        self._headers = dict(headers)
        self._resource = dict(resource)
        self._log = log
        self._dropped = metrics.spans.at("dropped")
        self._exported = metrics.spans.at("exported")
        self._failed = metrics.spans.at("failed")
        self._queue: deque[EndedSpan] = deque()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._healthy = True
        self._exporter: Any = None  # the thread's own
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def offer(self, span: EndedSpan) -> None:
        if len(self._queue) >= QUEUE_LIMIT:
            self._dropped.value += 1
            return
        self._queue.append(span)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, seconds: float = 2.0) -> None:
        """Export what waits, for at most ``seconds``."""
        self._closed.set()
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closed.wait(BATCH_SECONDS)  # gathers the spans of many requests into one message
            self._wake.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH_LIMIT, len(self._queue)))]
                self._send(batch)
            if self._closed.is_set():
                return

    def _open(self) -> Any:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=self._endpoint, headers=self._headers, timeout=ANSWER_SECONDS)

    def _send(self, batch: Sequence[EndedSpan]) -> None:
        try:
            self._exporter = self._exporter or self._open()
            taken = self._exporter.export([_readable(span, self._resource) for span in batch]).name == "SUCCESS"
            detail = ""
        except Exception as error:  # of a library, or one that is missing, the network, the collector: costs the batch
            taken, detail = False, f"{type(error).__name__}: {error}"
        (self._exported if taken else self._failed).value += len(batch)
        if not taken and self._healthy:
            self._log.warning("spans not exported", endpoint=self._endpoint, detail=detail)
        self._healthy = taken


def _readable(span: EndedSpan, resource: Mapping[str, str]) -> ReadableSpan:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(span_id: str, *, is_remote: bool) -> SpanContext:
        return SpanContext(int(span.trace_id, 16), int(span_id, 16), is_remote, TraceFlags(TraceFlags.SAMPLED))

    began = round(span.began * _NANOSECONDS)
    return ReadableSpan(
        name=span.name,
        context=context(span.span_id, is_remote=False),
        parent=context(span.parent_id, is_remote=True) if span.parent_id else None,
        resource=Resource(dict(resource)),
        attributes=span.attributes,
        kind=SpanKind.SERVER if span.is_server else SpanKind.CLIENT,
        status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
        start_time=began,
        end_time=began + round(span.seconds * _NANOSECONDS),
        instrumentation_scope=InstrumentationScope("ringfence"),
    )
