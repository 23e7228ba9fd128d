"""Load by h2load: its command line, and what its output and its log of requests say.

The number of requests is fixed beforehand, not the duration: so the CPU time between start and end belongs to exactly
these requests, connection set-up included, and a slower peer is not spared its tail.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import percentile
from benchmarks.works import BenchmarkError

_REQUESTS = re.compile(r"^requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded", re.MULTILINE)
_STATUSES = re.compile(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to ask of ``port``: ``requests`` of them, over so many ``connections``, which are kept alive."""

    port: int
    connections: int
    requests: int
    streams: int = 0
    """Requests at a time on each connection, over HTTP/2 with prior knowledge; 0: HTTP/1.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one load run saw, every answer a 2xx; times in milliseconds, whole response received."""

    requests: int
    rate_per_second: float
    p50_milliseconds: float
    p99_milliseconds: float


def run(load: Load, paths: Iterable[str], folder: Path, deadline_seconds: float) -> Outcome:
    """Run one load and read its outcome; BenchmarkError unless every request was answered by a 2xx in time."""
    uris, log = folder / f"uris-{load.port}", folder / "requests.tsv"
    if not uris.exists():
        uris.write_text("".join(f"http://127.0.0.1:{load.port}{path}\n" for path in paths))
    log.unlink(missing_ok=True)
    command = [
        *("h2load", "--threads=1", f"--clients={load.connections}", f"--requests={load.requests}"),
        *((f"--max-concurrent-streams={load.streams}",) if load.streams else ("--h1",)),
        *(f"--input-file={uris}", f"--log-file={log}", "--connection-inactivity-timeout=20"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_seconds, check=False)
    except FileNotFoundError:
        raise BenchmarkError("h2load is not installed (package nghttp2-client)") from None
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{load.requests} requests took longer than {deadline_seconds:.0f} s") from None
    if done.returncode != 0:
        raise BenchmarkError(f"h2load ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    check_summary(done.stdout, load.requests)
    return read_log(log.read_text())


def status_class(port: int, path: str, method: str = "GET") -> int:
    """The hundreds of the status that one HTTP/2 request is answered by; 0 for no answer."""
    command = ["h2load", "--clients=1", "--requests=1", "--connection-inactivity-timeout=5"]
    command += [f"--header=:method: {method}", f"http://127.0.0.1:{port}{path}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        raise BenchmarkError("h2load is not installed (package nghttp2-client)") from None
    except subprocess.TimeoutExpired:
        return 0
    found = _STATUSES.search(done.stdout)
    counts = [int(count) for count in found.groups()] if found else []
    return next((hundreds for hundreds, count in enumerate(counts, 2) if count), 0)


def check_summary(output: str, requests: int) -> None:
    """BenchmarkError unless h2load's summary says that all ``requests`` succeeded with a 2xx status."""
    counts, statuses = _REQUESTS.search(output), _STATUSES.search(output)
    if counts is None or statuses is None:
        raise BenchmarkError(f"h2load's summary was not understood: {output.strip()[-500:]!r}")
    if int(counts[1]) != requests or int(counts[2]) != requests or int(statuses[1]) != requests:
        raise BenchmarkError(f"of {requests} requests not all were answered by a 2xx: {counts[0]}; {statuses[0]}")


def read_log(text: str) -> Outcome:
    """The outcome told by a log of ``start (µs of the epoch) TAB status TAB duration (µs)`` lines."""
    starts, durations = [], []
    for line in text.splitlines():
        start, _, duration = line.split("\t")[:3]
        starts.append(int(start))
        durations.append(int(duration))
    if not durations:
        raise BenchmarkError("h2load logged no request")
    last_end = max(start + duration for start, duration in zip(starts, durations, strict=True))
    durations.sort()
    return Outcome(
        requests=len(durations),
        rate_per_second=len(durations) / max((last_end - min(starts)) / 1e6, 1e-6),
        p50_milliseconds=percentile(durations, 50) / 1000,
        p99_milliseconds=percentile(durations, 99) / 1000,
    )
