"""A span for each sampled request in each sidecar on its way, and the export of spans. The data path sees ``Tracer``,
and only where tracing is configured: without it no request meets any of this.

``judge`` stands between an inspector and the relay that judges, draws or reads the context of each request, and has the
head forwarded with this hop's span in it. ``tracer`` turns ended requests into spans; ``export`` sends them off the
loop, by the OpenTelemetry packages, which are an optional extra and imported nowhere else.
"""

from __future__ import annotations

from sidecar.tracing.judge import TracedJudge
from sidecar.tracing.span import EndedSpan, OpenSpan
from sidecar.tracing.tracer import SpanSink, Tracer

__all__ = ["EndedSpan", "OpenSpan", "SpanSink", "TracedJudge", "Tracer"]
