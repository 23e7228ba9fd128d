"""What is told of the copies of the cluster, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from k8s.admission.room import HeldSize
from k8s.client.copies import Copy


def part_failures(registry: CollectorRegistry) -> Counter:
    """Counts by part."""
    return Counter(
        "ringfence_kubernetes_part_failures",
        "Unexpected failures of a part of the platform, which is begun anew, by part",
        ["part"],
        registry=registry,
    )


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


class DocumentMetrics(Collector):
    """How much room documents take; ``sizes`` gives theirs."""

    def __init__(self, sizes: Callable[[], Iterable[HeldSize]]) -> None:
        self._sizes = sizes

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "ringfence_kubernetes_documents_bytes", "Text of all documents; what would make it too much is refused"
        )
        family.add_metric([], sum(one.size_bytes for one in self._sizes()))
        yield family


_NAMESPACES_TOLD: Final = 100


class LeftOutMetrics(Collector):
    """Pods that should have a sidecar; ``count`` gives how many there are, by namespace."""

    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "ringfence_kubernetes_pods_not_injected",
            "Pods that should have a sidecar and have none, by namespace; of more than 100 the rest is `other`",
            labels=["namespace"],
        )
        counts = sorted(self._count().items(), key=lambda item: (-item[1], item[0]))
        for namespace, count in counts[:_NAMESPACES_TOLD]:
            family.add_metric([namespace], count)
        rest = sum(count for _, count in counts[_NAMESPACES_TOLD:])
        if rest:
            family.add_metric(["other"], rest)
        yield family
