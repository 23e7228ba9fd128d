"""A tracer with its export, from settings; what waits at the end of the process is still exported."""

from __future__ import annotations

import atexit

from ringfence import __version__
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.spiffe import SpiffeId
from sidecar.gauges import declare_span_gauges
from sidecar.metrics import SidecarMetrics
from sidecar.tracing.export import SpanExport
from sidecar.tracing.settings import TracingSettings, read_headers
from sidecar.tracing.tracer import Tracer


def open_tracer(
    settings: TracingSettings, *, own_id: SpiffeId, clock: Clock, log: Logger, metrics: SidecarMetrics
) -> Tracer:
    """ValueError if the file of headers cannot be used."""
    headers = read_headers(settings.headers_file) if settings.headers_file is not None else {}
    export = SpanExport(
        endpoint=settings.endpoint,
        headers=headers,
        resource={
            "service.name": str(own_id).rpartition("/")[2],
            "service.namespace": own_id.namespace or "",
            "service.version": __version__,
            "ringfence.workload": str(own_id),
        },
        metrics=metrics,
        log=log,
    )
    atexit.register(export.close)
    declare_span_gauges(metrics, lambda: export.waiting)
    return Tracer(sample=settings.sample, sink=export, clock=clock)
