"""Runs the ``ringfence`` command and books, by a signal, which Python line its CPU time goes to.

``python -m benchmarks.sampler FOLDER ARGUMENTS…``. SIGPROF comes each time the process has used another interval of CPU
time, so waiting costs nothing and shows nowhere; the interpreter handles it between two instructions, which books time
spent inside a C call on the line that made the call. (A profiler that stops the process from outside was tried and saw
system calls twice as often as the kernel's own counters; one that traces calls triples the cost of small functions.)
SIGUSR1 writes the counts so far to ``<process id>.samples`` in FOLDER.
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


def main() -> None:
    """Take FOLDER off the command line, start the sampling and hand over to the command."""
    target = Path(sys.argv.pop(1)) / f"{os.getpid()}.samples"
    counts: Counter[tuple[str, int, str]] = Counter()

    def sample(_signal: int, frame: FrameType | None) -> None:
        if frame is not None:
            code = frame.f_code
            counts[code.co_filename, frame.f_lineno, code.co_qualname] += 1

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
