"""Real processes in tests: a mark in the environment finds every one that a test started, whoever its parent is now."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = "MESH_TEST_MARK"


class Marked:
    """The environment that marks, and the processes that carry the mark."""

    def __init__(self, **extra: str) -> None:
        self.value = uuid.uuid4().hex
        self.environment = {**os.environ, MARK: self.value, **extra}

    def pids(self) -> list[int]:
        """Living processes with the mark; zombies have no environment and so do not count."""
        needle = f"{MARK}={self.value}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if needle in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
            except OSError:
                continue
        return found


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
        return []


def until(predicate: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until ``predicate`` holds; AssertionError naming ``what`` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, f"{what} did not come about in {seconds:.0f} s"
        time.sleep(0.02)


@contextmanager
def ringfence(marked: Marked, *arguments: str, folder: Path) -> Iterator[Command]:
    """A ``ringfence`` command in the background; it and all that it started are gone at the end of the block."""
    out, err = (folder / name for name in ("stdout", "stderr"))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "ringfence", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=marked.environment,
            cwd=folder,
        )
    try:
        yield Command(popen, out, err)
    finally:
        for pid in [popen.pid, *marked.pids()]:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        popen.wait()


class Command:
    """A running command and what it has written."""

    def __init__(self, popen: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.popen = popen
        self._out = out
        self._err = err

    @property
    def stdout(self) -> str:
        return self._out.read_text("utf-8")

    @property
    def stderr(self) -> str:
        return self._err.read_text("utf-8")

    def wait_for_stdout(self, words: str) -> None:
        """Until ``words`` were written; AssertionError with the errors if the command ends before."""
        until(lambda: words in self.stdout or self.popen.poll() is not None, f"{words!r} on standard output", 90)
        assert words in self.stdout, self.stderr[-3000:]

    def wait(self) -> int:
        return self.popen.wait(timeout=60)
