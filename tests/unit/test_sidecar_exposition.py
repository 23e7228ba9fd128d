"""The text that is scraped: what prometheus-client writes for the same numbers, and what its parser reads back."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from sidecar.exposition import Family, Kind, exposition

NASTY = 'back\\slash "quoted"\nsecond line, é'


class Given(Collector):
    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> tuple[Metric, ...]:
        return self._families


def written_by_the_library(*families: Metric) -> bytes:
    registry = CollectorRegistry()
    registry.register(Given(*families))
    return generate_latest(registry)


def test_counters_and_gauges_are_written_as_the_library_writes_them() -> None:
    theirs = CounterMetricFamily("calls", f"Calls: {NASTY}", labels=("peer", "code"))
    ours = Family(name="calls", help=f"Calls: {NASTY}", kind=Kind.COUNTER, labels=("peer", "code"))
    for values, value in ((("a", "200"), 1), ((NASTY, ""), 2.5), (("c", "x"), 123456)):
        theirs.add_metric(values, value)
        ours.add(values, value)
    gauge = Family(name="left", help="Left", kind=Kind.GAUGE)
    gauge.add((), -0.5)
    assert exposition([ours, gauge]) == written_by_the_library(theirs, GaugeMetricFamily("left", "Left", value=-0.5))


def test_a_histogram_is_written_as_the_library_writes_it() -> None:
    registry = CollectorRegistry()
    theirs = Histogram("seconds", "Seconds", ("peer",), buckets=(0.001, 0.5, 10.0), registry=registry)
    for seconds in (0.0005, 0.25, 0.25, 3.0, 99.0):
        theirs.labels("a").observe(seconds)
    ours = Family(name="seconds", help="Seconds", kind=Kind.HISTOGRAM, labels=("peer",))
    ours.add_histogram(("a",), (0.001, 0.5, 10.0), (1, 2, 1, 1), 102.5005)
    lines = [line for line in generate_latest(registry).splitlines(keepends=True) if b"_created" not in line]
    assert exposition([ours]) == b"".join(lines)


@given(
    st.lists(
        st.tuples(st.text(max_size=30), st.floats(allow_nan=False) | st.integers(0, 1 << 60)),
        max_size=8,
        unique_by=lambda pair: pair[0],
    )
)
def test_any_label_and_any_number_is_read_back(pairs: list[tuple[str, float]]) -> None:
    family = Family(name="things", help="Things", kind=Kind.GAUGE, labels=("name",))
    for name, value in pairs:
        family.add((name,), value)
    text = exposition([family]).decode()
    (read,) = text_string_to_metric_families(text)
    # Other line ends than a line feed are no line ends of this format.
    found = {sample.labels["name"]: sample.value for sample in read.samples}
    assert found.keys() == {name for name, _ in pairs}
    assert all(math.isclose(found[name], value) or found[name] == value for name, value in pairs)


def test_a_family_without_samples_is_told_all_the_same() -> None:
    family = Family(name="calls", help="Calls", kind=Kind.COUNTER)
    assert exposition([family]) == b"# HELP calls_total Calls\n# TYPE calls_total counter\n"
    assert exposition([]) == b""
