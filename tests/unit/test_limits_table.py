"""The table of limits: what it keeps, that it never grows, and that processes use it together."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.routing.model import Rate
from sidecar.limits.gcra import SECOND_NS, Bucket
from sidecar.limits.table import SIZE_BYTES, LimitTable, new_file

ROOT = Path(__file__).parents[2]
HOURLY = Bucket(Rate(amount=1, seconds=3600), 1)


class Turned:
    """Nanoseconds that pass only when told to."""

    def __init__(self) -> None:
        self.ns = 10**15

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def now() -> Turned:
    return Turned()


def test_each_key_has_its_own_and_it_comes_back_with_time(now: Turned) -> None:
    table = LimitTable.alone(now)
    one, other, group = table.key("a"), table.key("b"), table.key("")
    assert table.ask(HOURLY, one, group) == 0
    assert table.ask(HOURLY, one, group) == 3600 * SECOND_NS
    assert table.ask(HOURLY, other, group) == 0
    now.ns += 3600 * SECOND_NS
    assert table.ask(HOURLY, one, group) == 0


def test_what_is_given_back_can_be_used_again(now: Turned) -> None:
    table = LimitTable.alone(now)
    one, group = table.key("a"), table.key("")
    assert table.ask(HOURLY, one, group) == 0
    table.give_back(HOURLY, one, group)
    assert table.ask(HOURLY, one, group) == 0
    assert table.ask(HOURLY, one, group) > 0


def test_a_clock_that_jumps_either_way_neither_locks_out_nor_opens(now: Turned) -> None:
    table = LimitTable.alone(now)
    bucket = Bucket(Rate(amount=1, seconds=1), 5)
    one, group = table.key("a"), table.key("")
    assert [table.ask(bucket, one, group) for _ in range(5)] == [0] * 5
    now.ns -= 10**14
    assert 0 < table.ask(bucket, one, group) <= SECOND_NS
    now.ns += 3 * 10**14
    assert [table.ask(bucket, one, group) for _ in range(5)] == [0] * 5
    assert table.ask(bucket, one, group) > 0


def test_a_crowd_of_callers_costs_no_memory_and_is_limited_together_once_there_is_no_room(now: Turned) -> None:
    table = LimitTable.alone(now)
    group = table.key("limit")
    allowed = sum(table.ask(HOURLY, table.key("limit", str(number)), group) == 0 for number in range(100_000))
    assert allowed <= 4096 * 8 + 1
    assert allowed > 4096 * 7
    known = table.key("limit", "0")
    assert table.ask(HOURLY, known, group) > 0  # who was there before the crowd is not forgotten for it
    now.ns += 3600 * SECOND_NS  # and when the time has passed there is room again
    assert all(table.ask(HOURLY, table.key("limit", f"new-{number}"), group) == 0 for number in range(1000))


def test_the_file_has_its_size_from_the_beginning_and_no_name() -> None:
    descriptor = new_file()
    assert os.fstat(descriptor).st_size == SIZE_BYTES
    assert os.fstat(descriptor).st_nlink == 0
    os.close(descriptor)


WORKER = """
import sys
from ringfence.routing.model import Rate
from sidecar.limits.gcra import Bucket
from sidecar.limits import table as tables
from sidecar.limits.table import LimitTable
tables._WAIT_SECONDS = 60.0  # however long a busy machine leaves a holder standing
descriptor, began = int(sys.argv[1]), int(sys.argv[2])
table = LimitTable.shared(descriptor, lambda: began)
bucket = Bucket(Rate(amount=1, seconds=3600), 8000)
key, group = table.key("limit", "caller"), table.key("limit")
sys.stdin.read(1)
print(sum(table.ask(bucket, key, group) == 0 for _ in range(6000)))
"""


def test_two_processes_together_permit_what_one_would() -> None:
    descriptor = new_file()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(descriptor), str(10**15)],
            pass_fds=(descriptor,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b".")
        worker.stdin.flush()
    told = [int(worker.communicate()[0]) for worker in workers]
    os.close(descriptor)
    assert sum(told) == 8000
    assert all(told)


@contextlib.contextmanager
def stands_still(descriptor: int) -> Iterator[None]:
    """Another process that holds every lock of the file."""
    code = (
        "import fcntl, sys; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read(1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(descriptor)],
        pass_fds=(descriptor,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.stdin.close()


def test_a_process_that_stands_still_with_a_lock_does_not_stop_the_others(now: Turned) -> None:
    descriptor = new_file()
    with stands_still(descriptor):
        table = LimitTable.shared(descriptor, now)
        assert table.ask(HOURLY, table.key("a"), table.key("")) == 0
        assert table.ask(HOURLY, table.key("a"), table.key("")) > 0
    os.close(descriptor)


def test_a_lock_is_waited_for_again_once_the_process_that_stood_still_goes_on(
    now: Turned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.limits.table._IMPATIENCE_SECONDS", 3600.0)
    waits: list[None] = []
    monkeypatch.setattr(os, "sched_yield", lambda: waits.append(None))
    descriptor = new_file()
    table = LimitTable.shared(descriptor, now)
    with stands_still(descriptor):
        table.ask(HOURLY, table.key("a"), table.key(""))
        waited = len(waits)
        assert waited
        table.ask(HOURLY, table.key("a"), table.key(""))
        assert len(waits) == waited  # once in an hour
    table.ask(HOURLY, table.key("a"), table.key(""))
    with stands_still(descriptor):
        table.ask(HOURLY, table.key("a"), table.key(""))
        assert len(waits) > waited
    os.close(descriptor)
