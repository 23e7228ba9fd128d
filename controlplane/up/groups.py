"""The supervisor's hold on the process groups it started: none is lost, however it ends.

Two things are done for as long as the ``with`` block lasts. A keeper process is told which groups live, and kills them
should this process end without a word. And this process adopts its orphaned grandchildren (a "child subreaper"), so
that it can take in their exit status; where process 1 is no init, as in many containers, nobody else would, and their
group would never look empty.

A daemon leaves its group by design. Adopted it is all the same, and so found and ended at the end; only where this
process is killed without a word does a daemon outlive it, as the keeper knows groups alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Final, cast

_KEEPER: Final = Path(__file__).with_name("keeper.py")
_END_SECONDS: Final = 5.0
_ORPHAN_GRACE_SECONDS: Final = 2.0
_ORPHAN_POLL_SECONDS: Final = 0.02
_PR_SET_CHILD_SUBREAPER: Final = 36


class GroupKeeper:
    """A keeper process and the pipe to it; use as a context manager."""

    def __enter__(self) -> GroupKeeper:
        self._not_ours = _children()
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

    async def end_orphans(self) -> list[str]:
        """End what the children had let go of; call it when they have ended. One line for each such process.

        First by SIGTERM, after a time of grace by SIGKILL; one that may not be ended, as it runs under another user, is
        left, and its line says so.
        """
        told: dict[int, str] = {}
        clock = asyncio.get_running_loop()
        grace_ends = clock.time() + _ORPHAN_GRACE_SECONDS
        asked: set[int] = set()
        while (orphans := self._orphans()) and clock.time() < grace_ends + _END_SECONDS:
            insist = clock.time() >= grace_ends
            for pid in orphans if insist else orphans - asked:
                what = f"process {pid} ({_name(pid)}) had left its group"
                try:
                    os.kill(pid, signal.SIGKILL if insist else signal.SIGTERM)
                except PermissionError:
                    told[pid] = f"{what} and may not be ended by this user"
                else:
                    told[pid] = f"{what} and was {'killed' if insist else 'ended'}"
            asked |= orphans
            await asyncio.sleep(_ORPHAN_POLL_SECONDS)
        return list(told.values())

    def _orphans(self) -> set[int]:
        """The living processes that this one adopted; the ended ones are taken in."""
        found = _children() - self._not_ours - {self._popen.pid}
        for pid in list(found):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    found.discard(pid)
        return found

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


def _children() -> set[int]:
    """Processes whose parent is this one, the ended ones included."""
    found, own = set(), os.getpid()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # After the name, which may hold anything, come state and parent (proc_pid_stat(5)).
            if int((process / "stat").read_bytes().rpartition(b")")[2].split()[1]) == own:
                found.add(int(process.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "?"


def _adopt_orphans(on: bool) -> None:
    """Linux's ``prctl(PR_SET_CHILD_SUBREAPER)``; without it only the certainty described above is lost."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
