"""What is told of the copies of the cluster, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from k8s.client.copies import Copy


class CopyMetrics(Collector):
    """Asked at each scrape; ``copies`` gives those that there are then."""

    def __init__(self, copies: Callable[[], Sequence[Copy[Any]]]) -> None:
        self._copies = copies

    def collect(self) -> Iterator[Metric]:
        kept = GaugeMetricFamily(
            "ringfence_kubernetes_objects", "Objects of the cluster that are kept, by kind", labels=["kind"]
        )
        lost = GaugeMetricFamily(
            "ringfence_kubernetes_watch_lost",
            "1 while the watch of a kind is lost and its copy is old",
            labels=["kind"],
        )
        listed = CounterMetricFamily(
            "ringfence_kubernetes_lists", "How often all objects of a kind were listed", labels=["kind"]
        )
        for copy in self._copies():
            kept.add_metric([copy.kind], len(copy.objects))
            lost.add_metric([copy.kind], 1 if copy.lost or not copy.complete else 0)
            listed.add_metric([copy.kind], copy.listed)
        yield from (kept, lost, listed)
