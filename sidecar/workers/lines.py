"""Log lines of several processes into one standard error, whole: what is longer than a pipe takes in one piece would be
mixed with the lines of another. A lock on a file in memory, which the kernel gives back when its holder dies. Adapter.
"""

from __future__ import annotations

import fcntl
import os
from typing import TextIO


class WholeLines:
    """A text stream in front of ``target``, for the thread of a ``LogSink``: what is written is flushed at once."""

    def __init__(self, target: TextIO, lock: int) -> None:
        self._target = target
        self.lock = lock

    @classmethod
    def beginning(cls, target: TextIO) -> WholeLines:
        """The first of them, with a lock for the others to inherit."""
        return cls(target, os.memfd_create("log-lock", os.MFD_CLOEXEC))

    def write(self, text: str) -> int:
        fcntl.lockf(self.lock, fcntl.LOCK_EX)
        try:
            written = self._target.write(text)
            self._target.flush()
        finally:
            fcntl.lockf(self.lock, fcntl.LOCK_UN)
        return written

    def flush(self) -> None:
        """Nothing is left to do."""
