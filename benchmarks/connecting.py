"""A client that opens connections, each for one request: ``python -m benchmarks.connecting PORT OPEN COUNT``.

Prints a JSON report. Why not h2load: on a machine where client, both proxies and app share the cores, the rate of the
whole chain is the cores divided by what all four cost a connection, so whatever client and app cost stands in both
chains' figures alike and draws their ratio towards 1. With h2load and nginx that was 100 µs of CPU a connection, beside
300 of our proxies. Here it is 50 for the client, nearly all of it the kernel's for opening and closing a connection,
and 25 for ``benchmarks.brief_app``. Both chains are asked by this client.

A connection is open, and counts, until the server has ended it, whole answer read: the kernel is asked to tell of the
end only (EPOLLRDHUP), so there is one waking and one read a connection.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from benchmarks.results import percentile
from benchmarks.works import BenchmarkError

_STALL_SECONDS = 10
_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the client saw: each connection from its opening to its end."""

    connections: int
    rate_per_second: float
    p50_milliseconds: float
    p99_milliseconds: float


def run(port: int, open_at_a_time: int, count: int, path: str = "/") -> Report:
    """Open ``count`` connections; BenchmarkError when one is not answered by a 200 and ended in time."""
    where = ("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode()
    now = time.perf_counter
    live: dict[int, tuple[socket.socket, float]] = {}
    durations: list[float] = []
    with select.epoll() as poll:

        def start() -> None:
            began = now()
            connection = socket.socket()
            connection.settimeout(_STALL_SECONDS)
            connection.connect(where)
            connection.send(request)
            number = connection.fileno()
            live[number] = (connection, began)
            poll.register(number, select.EPOLLRDHUP)

        started = min(open_at_a_time, count)
        first = now()
        for _ in range(started):
            start()
        while live:
            ended = poll.poll(_STALL_SECONDS)
            if not ended:
                raise BenchmarkError(f"no end of a connection for {_STALL_SECONDS} s, {len(live)} are open")
            for number, _ in ended:
                connection, began = live.pop(number)
                with connection:
                    answer = connection.recv(_ANSWER_BYTES)
                durations.append(now() - began)
                if not answer.startswith(b"HTTP/1.1 200 "):
                    raise BenchmarkError(f"a connection was answered by {answer[:60]!r}")
                if started < count:
                    started += 1
                    start()
    seconds = now() - first
    durations.sort()
    return Report(
        connections=count,
        rate_per_second=count / seconds,
        p50_milliseconds=percentile(durations, 50) * 1000,
        p99_milliseconds=percentile(durations, 99) * 1000,
    )


def run_apart(port: int, open_at_a_time: int, count: int, path: str, deadline_seconds: float) -> Report:
    """``run`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.connecting", str(port), str(open_at_a_time), str(count), path]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_seconds, check=False)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{count} connections took longer than {deadline_seconds:.0f} s") from None
    if done.returncode != 0:
        raise BenchmarkError(f"the client of connections failed: {done.stderr.strip()[-500:]}")
    return Report(**json.loads(done.stdout))


def main() -> None:
    """Print the report; a message and status 1 when there is none."""
    port, open_at_a_time, count, path = sys.argv[1:]
    gc.disable()
    try:
        found = run(int(port), int(open_at_a_time), int(count), path)
    except (BenchmarkError, OSError) as error:
        sys.exit(str(error))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
