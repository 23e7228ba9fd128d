"""The metrics of workers as those of one sidecar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.exposition import Across, Family, Kind, exposition
from sidecar.metrics import OVERFLOW, SERIES_LIMIT, SidecarMetrics
from sidecar.workers.counting import Retired, added, from_bytes, to_bytes
from sidecar.workers.messages import MessageError


def worker(requests: int, seconds: float, open_tunnels: float, name: str = "web") -> list[Family]:
    metrics = SidecarMetrics()
    metrics.requests.at("inbound", name, "shop/orders", "p", "r", "", "200").value += requests
    metrics.durations.at("inbound", name, "shop/orders").observe(seconds)
    metrics.gauge("open", "tunnels", lambda: open_tunnels)
    metrics.gauge("latest", "a time", lambda: open_tunnels, across=Across.MAX)
    metrics.gauge("oldest", "a time", lambda: open_tunnels, across=Across.MIN)
    return list(metrics.collect())


def value(families: list[Family], sample: str, **labels: str) -> float:
    [found] = [
        one.value
        for family in families
        for one in family.samples
        if one.name == sample and labels.items() <= dict(one.labels).items()
    ]
    return found


def test_families_come_out_as_they_went_in() -> None:
    families = worker(3, 0.004, 2.0, name='web "\N{SNOWMAN}"\n')
    assert from_bytes(to_bytes(families)) == families


@pytest.mark.parametrize("blob", [b"", b"{}", b"[[],[1]]", b'[[],[["n","h","odd","sum",[],[]]]]', b"[[],[[" * 9000])
def test_what_is_no_report_is_refused(blob: bytes) -> None:
    with pytest.raises(MessageError):
        from_bytes(blob)


def test_counters_and_histograms_add_and_gauges_are_what_they_declare() -> None:
    both = added([worker(3, 0.004, 2.0), worker(4, 0.7, 5.0)])
    assert value(both, "ringfence_requests_total", peer="web") == 7
    assert value(both, "ringfence_request_duration_seconds_count") == 2
    assert value(both, "ringfence_request_duration_seconds_bucket", le="0.005") == 1
    assert value(both, "ringfence_request_duration_seconds_bucket", le="+Inf") == 2
    assert (value(both, "open"), value(both, "latest"), value(both, "oldest")) == (7.0, 5.0, 2.0)


def test_of_a_worker_that_is_gone_the_counters_stay_and_the_gauges_go() -> None:
    retired = Retired()
    retired.add(worker(3, 0.004, 2.0))
    retired.add(worker(1, 0.004, 9.0))
    together = added([worker(4, 0.7, 5.0), retired.families()])
    assert value(together, "ringfence_requests_total", peer="web") == 8
    assert value(together, "open") == 5.0
    assert exposition(together).count(b"# TYPE ringfence_requests_total") == 1


def spent(seconds: float) -> list[Family]:
    """What a process that has spent so much of the processor's time tells."""
    family = Family(name="process_cpu_seconds", help="", kind=Kind.COUNTER, labels=())
    family.add((), seconds)
    return [family]


@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=6), st.data())
def test_a_death_does_not_lower_a_sum_of_fractions(hundredths: list[int], data: st.DataObject) -> None:
    own, *living = (spent(one / 100) for one in hundredths)
    retired = Retired()
    shown = value(added([own, *living]), "process_cpu_seconds_total")
    while living:
        retired.add(living.pop(data.draw(st.integers(0, len(living) - 1))))
        now = value(added([own, retired.families(), *living]), "process_cpu_seconds_total")
        assert now == shown


def test_a_row_of_deaths_with_ever_new_labels_does_not_grow_the_parent() -> None:
    retired = Retired()
    for death in range(4):
        metrics = SidecarMetrics()
        for number in range(SERIES_LIMIT - 1):
            metrics.denials.at("inbound", f"peer-{death}-{number}", "shop/orders", "caller_not_allowed").value += 1
            metrics.durations.at("inbound", f"peer-{death}-{number}", "shop/orders").observe(0.1)
        retired.add(metrics.collect())
    denials = next(one for one in retired.families() if one.name == "ringfence_denials")
    assert len(denials.samples) <= SERIES_LIMIT + 1
    assert sum(one.value for one in denials.samples) == 4 * (SERIES_LIMIT - 1)
    durations = next(one for one in retired.families() if one.name == "ringfence_request_duration_seconds")
    counted = [one for one in durations.samples if one.name.endswith("_count")]
    assert len(counted) <= SERIES_LIMIT + 1
    assert sum(one.value for one in counted) == 4 * (SERIES_LIMIT - 1)
    assert any(dict(one.labels)["peer"] == OVERFLOW for one in counted)
    assert all(one.kind is not Kind.GAUGE for one in retired.families())
