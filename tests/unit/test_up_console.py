"""Lines for people: whole, named, harmless to the terminal, and never a reason to wait."""

from __future__ import annotations

import io
import threading

from controlplane.up.console import Console
from tests.processes import until


def test_each_line_carries_its_speaker() -> None:
    stream = io.StringIO()
    with Console(stream) as console:
        console.line("shop/web app", "hello")
        console.line("up", "there")
    assert stream.getvalue() == "shop/web app | hello\nup           | there\n"


def test_a_child_cannot_write_on_the_terminal() -> None:
    stream = io.StringIO()
    with Console(stream) as console:
        console.line("app", "\x1b[2J\x07\ttab")
    assert stream.getvalue() == "app | \\x1b[2J\\x07\ttab\n"


def test_a_stream_that_nobody_reads_drops_lines_and_tells_how_many() -> None:
    free = threading.Event()

    class Held(io.StringIO):
        def write(self, text: str) -> int:
            free.wait()
            return super().write(text)

    stream = Held()
    with Console(stream) as console:
        for number in range(12_000):
            console.line("app", str(number))
        free.set()
        until(console._lines.empty, "the writing of what waited")
        console.line("app", "after")
    told = stream.getvalue().splitlines()
    assert any("lines were dropped" in line for line in told)
    assert told[-1] == "app | after"


def test_a_stream_that_was_closed_ends_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    with Console(stream) as console:
        console.line("app", "unheard")
