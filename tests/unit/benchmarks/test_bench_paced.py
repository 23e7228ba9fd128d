from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from benchmarks import latency
from benchmarks.paced import Answer, Pace, Report, report, run
from benchmarks.works import BenchmarkError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


def test_an_answer_is_whole_with_its_last_byte_however_it_is_cut() -> None:
    answer = Answer()

    found = [answer.take(OK[at : at + 1]) for at in range(len(OK))]

    assert found == [False] * (len(OK) - 1) + [True]
    assert answer.take(OK) is True  # the next one on the same connection
    assert answer.take(OK[:20]) is False


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd",
    ],
)
def test_an_answer_that_is_no_plain_200_spoils_the_run(data: bytes) -> None:
    with pytest.raises(BenchmarkError):
        Answer().take(data)


def served(answers: Callable[[int], bytes], requests: Pace, port_of: socket.socket) -> Report:
    """The report of a run against a server that answers its n-th request with ``answers(n)``, all on one connection."""

    def serve() -> None:
        connection, _ = port_of.accept()
        with connection:
            for number in range(requests.requests):
                held = b""
                while b"\r\n\r\n" not in held:
                    held += connection.recv(4096)
                connection.sendall(answers(number))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        return run(requests, ["/a", "/b"])
    finally:
        thread.join(10)


def test_a_stall_counts_against_every_request_that_it_held_up() -> None:
    stalled = threading.Event()

    def answers(number: int) -> bytes:
        if number == 10:
            stalled.wait(0.3)
        return OK

    with socket.create_server(("127.0.0.1", 0)) as listening:
        pace = Pace(port=listening.getsockname()[1], rate_per_second=500, requests=100, connections=1)
        found = served(answers, pace, listening)

    assert found.requests == 100
    # Of the hundred, those that became due during the stall waited on average for half of it, though only one was sent.
    assert found.p50_milliseconds > 20
    assert found.worst_milliseconds >= 290


def test_a_report_is_in_milliseconds_and_of_all_requests() -> None:
    found = report([0.001] * 98 + [0.02, 0.05], [0.0001] * 100, 2.0)

    assert (found.requests, found.requests_per_second) == (100, 50)
    assert (found.p50_milliseconds, found.p99_milliseconds, found.worst_milliseconds) == (1, 20, 50)
    assert found.client_late_p99_milliseconds == pytest.approx(0.1)


def test_latency_rows_have_their_bar_at_p99_alone() -> None:
    mine = report([0.001] * 99 + [0.002], [0.0], 1.0)
    other = report([0.002] * 99 + [0.004], [0.0], 1.0)

    rows = {row.metric: row for row in latency.rows(32, "ringfence", "envoy", {"ringfence": [mine], "envoy": [other]})}

    assert rows["p99_milliseconds"].ratio == pytest.approx(0.5)
    assert rows["p99_milliseconds"].met is True
    assert [row.metric for row in rows.values() if row.bar is not None] == ["p99_milliseconds"]
