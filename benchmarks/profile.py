"""Where the CPU time of a request goes: samples of a process as tables by area, by function and by line."""

from __future__ import annotations

import contextlib
import json
import linecache
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import cpu_seconds, kernel_seconds
from benchmarks.results import aligned
from benchmarks.sampler import is_loop
from benchmarks.works import BenchmarkError

_HOUSE = Path(__file__).resolve().parent.parent
_PACKAGES = ("sidecar", "ringfence")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One line of Python as a sample saw it."""

    file: str
    line: int
    function: str

    @property
    def module(self) -> str:
        """The file's path for people: inside the house, or inside the installed packages."""
        if self.file.startswith(f"{_HOUSE}/") and "site-packages" not in self.file:
            return str(Path(self.file).relative_to(_HOUSE))
        return self.file.rpartition("site-packages/")[2].rpartition("lib/python")[2]

    @property
    def area(self) -> str:
        """What part of the work the line belongs to."""
        module = self.module
        package = module.partition("/")[0]
        if package in _PACKAGES:
            folder = module.split("/")
            return "/".join(folder[:2]) if len(folder) > 2 else module
        if is_loop(f"/{module}"):
            # No Python of ours runs: the loop waits, reads sockets, and calls back.
            return "event loop (epoll, socket reads)"
        return {"OpenSSL": "TLS records (pyOpenSSL)", "hpack": "HPACK (hpack)"}.get(package, f"other: {package}")


Samples = Mapping[Place, int]


def read_samples(text: str) -> Counter[Place]:
    """Counts as ``benchmarks.sampler`` writes them: a JSON list of ``[file, line, function, count]``."""
    found: Counter[Place] = Counter()
    for file, line, function, count in json.loads(text):
        found[Place(str(file), int(line), str(function))] += int(count)
    return found


def taken_now(pid: int, folder: Path, deadline_seconds: float = 10) -> Counter[Place]:
    """Ask the sampled process ``pid`` for its counts so far, which it writes into ``folder``."""
    file = folder / f"{pid}.samples"
    file.unlink(missing_ok=True)
    try:
        os.kill(pid, signal.SIGUSR1)
    except ProcessLookupError:
        raise BenchmarkError(f"the sampled process {pid} is gone") from None
    deadline = time.monotonic() + deadline_seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            return read_samples(file.read_text())
        time.sleep(0.02)
    raise BenchmarkError(f"the sampled process {pid} wrote no counts within {deadline_seconds:.0f} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a sampled process has spent so far: samples, CPU seconds, and those of them in the kernel."""

    samples: Counter[Place]
    cpu_seconds: float
    kernel_seconds: float

    @classmethod
    def now(cls, pid: int, folder: Path) -> Spent:
        return cls(samples=taken_now(pid, folder), cpu_seconds=cpu_seconds(pid), kernel_seconds=kernel_seconds(pid))

    @classmethod
    def sum(cls, many: Iterable[Spent]) -> Spent:
        """All of ``many`` together, so that several stretches can be told as one."""
        points = list(many)
        return cls(
            samples=sum((point.samples for point in points), Counter()),
            cpu_seconds=sum(point.cpu_seconds for point in points),
            kernel_seconds=sum(point.kernel_seconds for point in points),
        )

    def tables_since(self, before: Spent, title: str, count: int, unit: str) -> str:
        """Tables of what was spent since ``before`` on each of ``count`` units of work, such as requests."""
        cpu = (self.cpu_seconds - before.cpu_seconds) / count * 1e6
        kernel = (self.kernel_seconds - before.kernel_seconds) / count * 1e6
        title = f"{title}: {cpu:,.1f} µs a {unit}, {kernel:,.1f} of them in the kernel"
        return tables(title, self.samples - before.samples, cpu)


def tables(title: str, samples: Samples, cpu_us_per_unit: float, lines: int = 25) -> str:
    """Text tables of ``samples``: share and microseconds a unit of work by area, by function, by line."""
    total = sum(samples.values())
    if total == 0:
        raise BenchmarkError(f"no sample was taken for {title}")
    areas: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for place, count in samples.items():
        areas[place.area] += count
        functions[f"{place.module} {place.function}"] += count

    def costs(counts: Counter[str]) -> list[str]:
        return aligned(
            [("", "µs", "share")]
            + [
                (name, f"{count / total * cpu_us_per_unit:.2f}", f"{count / total:.1%}")
                for name, count in counts.most_common(lines)
            ]
        )

    by_line = Counter({_shown(place): count for place, count in samples.items()})
    return "\n".join(
        [
            f"{title} ({total} samples)",
            *("", "by area", *costs(areas)),
            *("", "by function, without what it calls in Python", *costs(functions)),
            *("", "by line, with what it calls in C", *costs(by_line)),
        ]
    )


def _shown(place: Place) -> str:
    source = linecache.getline(place.file, place.line).strip()
    return f"{place.module}:{place.line}  {source[:70]}"
