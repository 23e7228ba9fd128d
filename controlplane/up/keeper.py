"""Cleans up after a supervisor that was killed: ends every process group that it had told of.

``PR_SET_PDEATHSIG`` ends the children themselves, but not what they had started (``sh -c`` and its program). So the
supervisor keeps one of these beside it, writes ``+PGID`` or ``-PGID`` lines to its standard input, and the end of that
input, which the kernel sends however the supervisor ends, is the signal: what is still on the list is killed.

Run by path with the bare interpreter, ``python -I -S keeper.py``, in a session of its own. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable


def keep(lines: Iterable[str]) -> set[int]:
    """Follow ``+PGID`` and ``-PGID`` lines to their end; the groups that are still there then."""
    groups: set[int] = set()
    for line in lines:
        change, number, end = line[:1], line[1:-1], line[-1:]
        if end != "\n" or not (number.isascii() and number.isdigit()):  # a line cut short names another group
            continue
        if int(number) <= 1:  # our own group, or everybody's
            continue
        if change == "+":
            groups.add(int(number))
        elif change == "-":
            groups.discard(int(number))
    return groups


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the supervisor does, not before
    for group in keep(iter(sys.stdin.readline, "")):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
