"""What the kernel says of this process, under the names that every Prometheus client library uses. Linux."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sidecar.exposition import Across, Family, Kind

# Fields of /proc/self/stat behind the name in brackets (proc_pid_stat(5), counted from 3).
_USER_TIME, _SYSTEM_TIME, _START_TIME, _VIRTUAL_BYTES, _RESIDENT_PAGES = 11, 12, 19, 20, 21


class ProcessMetrics:
    """Reads /proc when scraped; what cannot be read is left out."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc: Final = proc
        self._ticks: Final = os.sysconf("SC_CLK_TCK")

    def collect(self) -> Iterator[Family]:
        """The families, each with one sample."""
        yield _one("python_info", "Python platform information", Kind.GAUGE, 1.0, _python(), across=Across.MAX)
        try:
            yield from self._stat()
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            open_count = len(list((self._proc / "self/fd").iterdir()))
        except (OSError, ValueError, IndexError):
            return
        yield _one("process_open_fds", "Open file descriptors", Kind.GAUGE, open_count)
        yield _one("process_max_fds", "File descriptors that may be open", Kind.GAUGE, limit, across=Across.MAX)

    def _stat(self) -> Iterator[Family]:
        fields = (self._proc / "self/stat").read_bytes().rpartition(b")")[2].split()
        booted = next(
            int(line.split()[1])
            for line in (self._proc / "stat").read_bytes().splitlines()
            if line.startswith(b"btime")
        )
        cpu = (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / self._ticks
        started = booted + int(fields[_START_TIME]) / self._ticks
        resident = int(fields[_RESIDENT_PAGES]) * resource.getpagesize()
        yield _one("process_virtual_memory_bytes", "Virtual memory size", Kind.GAUGE, int(fields[_VIRTUAL_BYTES]))
        yield _one("process_resident_memory_bytes", "Resident memory size", Kind.GAUGE, resident)
        yield _one(
            "process_start_time_seconds", "Start of the process, Unix seconds", Kind.GAUGE, started, across=Across.MIN
        )
        yield _one("process_cpu_seconds", "User and system time spent", Kind.COUNTER, cpu)


def _python() -> dict[str, str]:
    version = sys.version_info
    return {
        "implementation": sys.implementation.name,
        "major": str(version.major),
        "minor": str(version.minor),
        "patchlevel": str(version.micro),
        "version": f"{version.major}.{version.minor}.{version.micro}",
    }


def _one(
    name: str,
    help_text: str,
    kind: Kind,
    value: float,
    labels: dict[str, str] | None = None,
    *,
    across: Across = Across.SUM,
) -> Family:
    labels = labels or {}
    family = Family(name=name, help=help_text, kind=kind, labels=tuple(labels), across=across)
    family.add(tuple(labels.values()), float(value))
    return family
