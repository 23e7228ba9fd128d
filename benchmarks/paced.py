"""A client that keeps a pace: requests leave at fixed times, whatever became of those before them.

``python -m benchmarks.paced PORT RATE REQUESTS CONNECTIONS`` with paths on standard input prints a JSON report.

The moments are laid down beforehand, evenly, and the time of a request runs from its moment to its answer's last byte.
So a server that stalls is not excused from the requests that it kept from being sent (coordinated omission): they wait
for a free connection, and their waiting counts. h2load's ``--rps`` counts from when it got round to sending.

A loop over ``select`` rather than an event loop, whose timers are too coarse for a request every half millisecond.
How late the client itself was, with a connection free, is in the report: a figure near it is the client's, not the
server's.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from benchmarks.results import percentile
from benchmarks.works import BenchmarkError

_STALL_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """``requests`` at ``rate_per_second``, over ``connections`` that are kept alive."""

    port: int
    rate_per_second: float
    requests: int
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the client saw; milliseconds."""

    requests: int
    requests_per_second: float
    p50_milliseconds: float
    p99_milliseconds: float
    p999_milliseconds: float
    worst_milliseconds: float
    client_late_p99_milliseconds: float


class Answer:
    """One connection's answer, as far as it came: a head with ``content-length``, and the body."""

    __slots__ = ("_held", "_left")

    def __init__(self) -> None:
        self._held = b""
        self._left = -1

    def take(self, data: bytes) -> bool:
        """More bytes; True once the answer is whole. BenchmarkError unless it is a 200 of known length."""
        if self._left < 0:
            self._held += data
            end = self._held.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = self._held[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                raise BenchmarkError(f"a request was answered by {head[:60]!r}")
            _, found, rest = head.partition(b"\r\ncontent-length:")
            if not found:
                raise BenchmarkError("an answer has no content-length")
            self._left = int(rest.split(b"\r\n", 1)[0]) - (len(self._held) - end - 4)
            self._held = b""
        else:
            self._left -= len(data)
        if self._left < 0:
            raise BenchmarkError("more came than was asked for")
        if self._left:
            return False
        self._left = -1
        return True


def run(pace: Pace, paths: Sequence[str], now: Callable[[], float] = time.perf_counter) -> Report:
    """Send all requests of ``pace`` and report; BenchmarkError when one is not answered by a 200."""
    asked = [f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: paced\r\n\r\n".encode() for path in paths]
    sockets = {sock.fileno(): sock for sock in _connected(pace.port, pace.connections)}
    answers = {number: Answer() for number in sockets}
    free = deque(sockets)
    due_of: dict[int, float] = {}
    durations: list[float] = []
    late: list[float] = []
    interval = 1 / pace.rate_per_second
    started = now() + 0.05
    sent = 0
    due = started
    was_free = True  # ever since the request that is next became due
    moment = now()
    while len(durations) < pace.requests:
        while sent < pace.requests and free and due <= moment:
            number = free.popleft()
            sockets[number].sendall(asked[sent % len(asked)])
            due_of[number] = due
            if was_free:
                late.append(moment - due)
            sent += 1
            due = started + sent * interval
            was_free = bool(free) or due > moment
        wait = max(due - now(), 0.0) if sent < pace.requests and free else _STALL_SECONDS
        readable, _, _ = select.select(list(due_of), [], [], wait)
        moment = now()
        if not readable and wait == _STALL_SECONDS:
            raise BenchmarkError(f"no answer for {_STALL_SECONDS:.0f} s, {len(due_of)} requests are open")
        for number in readable:
            data = sockets[number].recv(65_536)
            if not data:
                raise BenchmarkError("a connection was closed before its answer")
            if answers[number].take(data):
                durations.append(moment - due_of.pop(number))
                free.append(number)
    for sock in sockets.values():
        sock.close()
    return report(durations, late, moment - started)


def report(durations: list[float], late: list[float], seconds: float) -> Report:
    """The report of requests that took ``durations`` seconds, all together ``seconds``."""
    ordered = sorted(durations)
    return Report(
        requests=len(ordered),
        requests_per_second=len(ordered) / seconds,
        p50_milliseconds=percentile(ordered, 50) * 1000,
        p99_milliseconds=percentile(ordered, 99) * 1000,
        p999_milliseconds=percentile(ordered, 99.9) * 1000,
        worst_milliseconds=ordered[-1] * 1000,
        client_late_p99_milliseconds=percentile(sorted(late), 99) * 1000 if late else 0.0,
    )


def _connected(port: int, count: int) -> list[socket.socket]:
    found = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.append(sock)
    return found


def main() -> None:
    """Read the arguments and the paths, print the report; a message and status 1 when there is none."""
    port, rate, requests, connections = sys.argv[1:]
    pace = Pace(port=int(port), rate_per_second=float(rate), requests=int(requests), connections=int(connections))
    gc.disable()
    try:
        found = run(pace, sys.stdin.read().split())
    except (BenchmarkError, OSError) as error:
        sys.exit(str(error))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
