"""``docs/metrics.md`` as the declarations have it; ``python -m tests.metrics_document`` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from controlplane.metrics import ControlPlaneMetrics
from k8s.admission.metrics import AdmissionMetrics
from k8s.controller.metrics import CopyMetrics, DocumentMetrics, LeftOutMetrics, part_failures
from sidecar.exposition import Kind
from sidecar.gauges import (
    declare_flow_gauges,
    declare_gauges,
    declare_redirect_gauge,
    declare_span_gauges,
    declare_traffic_gauges,
    declare_workers_gauges,
)
from sidecar.metrics import BUCKETS_SECONDS, OVERFLOW, SERIES_LIMIT, Declared, SidecarMetrics
from sidecar.process_metrics import ProcessMetrics

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "metrics.md"
_HEAD: Final = f"""# Metrics of a sidecar

Served as `/metrics` (Prometheus text format) on the `signals` address. Written from the declarations in
`sidecar/metrics.py` and `sidecar/gauges.py` by `python -m tests.metrics_document`; a test holds the two together.

Label values come from closed sets, or from tables of at most {SERIES_LIMIT:,} series a family: what comes after is
counted under `{OVERFLOW}`. `peer` is a SPIFFE ID, `service` is `namespace/name`, `direction` is `inbound` or
`outbound`, `by` is `client` or `server`, `to` is `app` or `mesh`, `reason` is a word of `ringfence/policy/reasons.py`
unless the help says otherwise. Of `ringfence_http_violations_total` it is a word of `sidecar/http1/reasons.py` or
`sidecar/http2/reasons.py`: each flood limit of HTTP/2 has its own.

Histograms are in seconds, with the bounds {", ".join(f"{bound:g}" for bound in BUCKETS_SECONDS)}.

| metric | kind | labels | what it is |
|---|---|---|---|
"""
_CONTROL_PLANE: Final = """
# Metrics of a control plane

Served as `/metrics` where `--signals` says. Written from the declarations in `controlplane/metrics.py` and, for
Kubernetes, `k8s/`. `standing` is a word of `controlplane/push/sessions.py`, `method` and `outcome` are of the CA.

| metric | kind | labels | what it is |
|---|---|---|---|
"""


def declared() -> list[Declared]:
    """All families that a sidecar serves, by name."""
    metrics = SidecarMetrics()
    nothing = cast(Any, None)  # nothing is read
    declare_gauges(metrics, holder=nothing, control=nothing, sink=nothing, clock=nothing)
    declare_flow_gauges(metrics, nothing)
    declare_redirect_gauge(metrics, nothing)
    declare_traffic_gauges(metrics, nothing)
    declare_span_gauges(metrics, nothing)
    declare_workers_gauges(metrics, nothing, nothing)
    return sorted([*metrics.declared(), *_process()], key=lambda one: one.name)


def _process() -> Iterable[Declared]:
    for family in ProcessMetrics().collect():
        name = f"{family.name}_total" if family.kind is Kind.COUNTER else family.name
        yield Declared(name=name, kind=family.kind, labels=tuple(family.labels), help=family.help)


def declared_by_control_plane() -> list[Declared]:
    """All families that a control plane serves, with those of a platform, by name."""
    registry = ControlPlaneMetrics(dict).registry
    AdmissionMetrics(registry)
    registry.register(CopyMetrics(list))
    part_failures(registry)
    registry.register(DocumentMetrics(list))
    registry.register(LeftOutMetrics(dict))
    return sorted(_registered(registry), key=lambda one: one.name)


def _registered(registry: CollectorRegistry) -> Iterable[Declared]:
    for collector in list(registry._collector_to_names):
        families = [collector] if isinstance(collector, MetricWrapperBase) else list(collector.collect())
        for one in cast(Any, families):
            wrapped = isinstance(one, MetricWrapperBase)
            name, kind = (one._name, one._type) if wrapped else (one.name, one.type)
            name = f"{name}_total" if kind == "counter" else name
            told = (one._documentation if wrapped else one.documentation).rstrip(".")
            yield Declared(name=name, kind=Kind(kind), labels=tuple(one._labelnames), help=told)


def document() -> str:
    """The whole file."""
    return _HEAD + "".join(_rows(declared())) + _CONTROL_PLANE + "".join(_rows(declared_by_control_plane()))


def _rows(families: Iterable[Declared]) -> Iterable[str]:
    for one in families:
        yield f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
