"""Log lines in front of a slow reader."""

from __future__ import annotations

import io
import threading
import time

from ringfence.kit import log_sink
from ringfence.kit.log_sink import LogSink


class Stalled(io.StringIO):
    """A target that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.go.wait(20)
        return super().write(text)


def test_lines_arrive_whole_and_in_order() -> None:
    target = io.StringIO()
    sink = LogSink(target)
    for number in range(10_000):
        sink.write(f"{number}\n")
    sink.close(20)
    assert target.getvalue().split() == [str(number) for number in range(10_000)]
    assert sink.dropped == 0


def test_stalled_reader_blocks_nobody_and_costs_bounded_memory() -> None:
    target = Stalled()
    sink = LogSink(target)
    line = "x" * 1024 + "\n"
    sink.write(line)
    assert target.reached.wait(20)
    fitting = log_sink.LIMIT_CHARACTERS // len(line)
    for _ in range(2 * fitting):
        sink.write(line)
    assert fitting - 2 <= sink.dropped <= fitting + 2
    target.go.set()
    sink.close(20)
    assert len(target.getvalue().splitlines()) == 2 * fitting + 1 - sink.dropped


def test_room_is_there_again_once_the_reader_goes_on() -> None:
    target = Stalled()
    sink = LogSink(target)
    sink.write("x" * (log_sink.LIMIT_CHARACTERS + 1) + "\n")
    assert sink.write("no room\n") == 0
    target.go.set()
    pause = threading.Event()
    deadline = time.monotonic() + 20
    while not sink.write("room\n"):
        assert time.monotonic() < deadline
        pause.wait(0.005)
    sink.close(20)
    assert target.getvalue().endswith("\nroom\n")
    assert "no room" not in target.getvalue()


def test_broken_target_loses_lines_and_nothing_else() -> None:
    target = io.StringIO()
    target.close()
    sink = LogSink(target)
    sink.write("a\n")
    sink.close(20)
    assert sink.dropped == 1
