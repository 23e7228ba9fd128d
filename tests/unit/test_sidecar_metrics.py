"""The sidecar's own counters, as a scraper reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from sidecar.exposition import exposition
from sidecar.metrics import OVERFLOW, SERIES_LIMIT, Counts, SidecarMetrics


def scraped(metrics: SidecarMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = exposition(metrics.collect()).decode()
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_is_counted_is_scraped() -> None:
    metrics = SidecarMetrics()
    metrics.tunnels.at("inbound").value += 2
    histogram = metrics.durations.at("inbound", "web", "orders")
    for seconds in (0.0004, 0.3, 99.0):
        histogram.observe(seconds)
    metrics.gauge("ringfence_left", "Left", lambda: 1.5)
    metrics.total("ringfence_renewals", "Renewals", lambda: 7)
    found = scraped(metrics)
    labels = (("direction", "inbound"), ("peer", "web"), ("service", "orders"))
    assert found["ringfence_tunnels_total", (("direction", "inbound"),)] == 2
    assert found["ringfence_left", ()] == 1.5
    assert found["ringfence_renewals_total", ()] == 7
    assert found["ringfence_request_duration_seconds_count", labels] == 3
    assert found["ringfence_request_duration_seconds_sum", labels] == 0.0004 + 0.3 + 99.0
    buckets = {
        dict(pairs)["le"]: value for (name, pairs), value in found.items() if name.endswith("duration_seconds_bucket")
    }
    assert (buckets["0.0005"], buckets["0.25"], buckets["0.5"], buckets["10.0"], buckets["+Inf"]) == (1, 1, 2, 2, 3)


def test_every_family_has_a_name_of_its_own() -> None:
    names = [family.name for family in SidecarMetrics().collect()]
    assert len(names) == len(set(names))


def test_series_are_bounded_by_an_overflow() -> None:
    counts = Counts("ringfence_things", "Things", "name")
    for number in range(SERIES_LIMIT + 50):
        counts.at(str(number)).value += 1
    assert len(counts.table) <= SERIES_LIMIT + 1
    assert counts.at(OVERFLOW).value == 50
