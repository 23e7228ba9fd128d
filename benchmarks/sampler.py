"""Runs the ``ringfence`` command and books, by a signal, which Python line its CPU time goes to.

``python -m benchmarks.sampler FOLDER ARGUMENTS…``. SIGPROF comes each time the process has used another interval of CPU
time, so waiting costs nothing and shows nowhere. The interpreter handles it between two instructions: time spent inside
a C call is booked on the line that made the call, and time of the event loop itself on the loop. SIGUSR1 writes the
counts so far to ``<process id>.samples`` in FOLDER.

A profiler that stops the process from outside was tried and saw system calls twice as often as the kernel's own
counters did; one that traces calls makes small functions look dearer than they are.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

_INTERVAL_SECONDS = 0.001
"""Of CPU time; the kernel's tick (often 4 ms) is the real bound."""


def is_loop(file: str) -> bool:
    """Whether ``file`` is the event loop's own Python, from which every callback comes."""
    return "/asyncio/" in file or "/uvloop/" in file


def main() -> None:
    """Take FOLDER off the command line, start the sampling and hand over to the command."""
    target = Path(sys.argv.pop(1)) / f"{os.getpid()}.samples"
    counts: Counter[tuple[str, int, str]] = Counter()

    def sample(_signal: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        code, caller = frame.f_code, frame.f_back
        if caller is not None and frame.f_lineno == code.co_firstlineno and is_loop(caller.f_code.co_filename):
            # Not one instruction of the callback has run: the time was the loop's, on the way to it.
            frame, code = caller, caller.f_code
        counts[code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_qualname] += 1

    def write(_signal: int, _frame: FrameType | None) -> None:
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps([[*place, count] for place, count in counts.items()]))
        os.replace(partial, target)  # noqa: PTH105

    signal.signal(signal.SIGPROF, sample)
    signal.signal(signal.SIGUSR1, write)
    signal.siginterrupt(signal.SIGPROF, False)
    signal.setitimer(signal.ITIMER_PROF, _INTERVAL_SECONDS, _INTERVAL_SECONDS)
    from ringfence import cli

    sys.argv[0] = "ringfence"
    cli.main()


if __name__ == "__main__":
    main()
