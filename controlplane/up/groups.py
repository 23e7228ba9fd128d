"""The supervisor's hold on the process groups it started: none is lost, however it ends.

Two things are done for as long as the ``with`` block lasts. A keeper process is told which groups live, and kills them
should this process end without a word. And this process adopts its orphaned grandchildren (a "child subreaper"), so
that it can take in their exit status; where process 1 is no init, as in many containers, nobody else would, and their
group would never look empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Final, cast

_KEEPER: Final = Path(__file__).with_name("keeper.py")
_END_SECONDS: Final = 5.0
_PR_SET_CHILD_SUBREAPER: Final = 36


class GroupKeeper:
    """A keeper process and the pipe to it; use as a context manager."""

    def __enter__(self) -> GroupKeeper:
        _adopt_orphans(True)
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(self, *raised: object) -> None:
        """Ends the keeper; what was added and not removed is killed by it."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        try:
            self._popen.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        _adopt_orphans(False)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def add(self, group: int) -> None:
        """``group`` is alive: kill it when this process ends."""
        self._tell(b"+%d\n" % group)

    def remove(self, group: int) -> None:
        """``group`` is gone; its number may soon be somebody else's."""
        self._tell(b"-%d\n" % group)

    @property
    def _pipe(self) -> IO[bytes]:
        return cast("IO[bytes]", self._popen.stdin)

    def _tell(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # the keeper was killed: the children's leashes remain
            self._pipe.write(line)
            self._pipe.flush()


def group_alive(group: int) -> bool:
    """Whether a process of the group is left, after the ended ones that fell to this process were taken in."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _adopt_orphans(on: bool) -> None:
    """Linux's ``prctl(PR_SET_CHILD_SUBREAPER)``; without it only the certainty described above is lost."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
