"""What is told of the process is what prometheus-client would tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import PlatformCollector, ProcessCollector

from sidecar.process_metrics import ProcessMetrics


def told(metrics: ProcessMetrics) -> dict[str, float]:
    return {sample.name: sample.value for family in metrics.collect() for sample in family.samples}


def test_the_names_and_numbers_are_the_librarys() -> None:
    theirs = {
        sample.name: sample.value
        for collector in (ProcessCollector(registry=None), PlatformCollector(registry=None))
        for family in collector.collect()
        for sample in family.samples
    }
    ours = told(ProcessMetrics())
    assert ours.keys() == theirs.keys()
    for name in ("process_start_time_seconds", "process_max_fds", "python_info"):
        assert ours[name] == pytest.approx(theirs[name])
    for name in ("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_cpu_seconds_total"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.2)


def test_without_proc_there_is_less_and_no_failure(tmp_path: Path) -> None:
    assert told(ProcessMetrics(tmp_path)).keys() == {"python_info"}
