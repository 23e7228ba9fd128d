"""One change at a time in a network namespace, over all processes: the kernel's handle on the namespace is the lock.

So nothing is left behind in a file system, and two containers of one pod wait for each other though they share none.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sidecar.redirect.errors import RedirectError

__all__ = ["taken_turn"]

_DEADLINE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.05


@contextmanager
def taken_turn(
    handle: Path = Path("/proc/self/ns/net"), *, deadline_seconds: float = _DEADLINE_SECONDS
) -> Iterator[None]:
    """Hold the namespace's lock; raises RedirectError if another process does not let go of it."""
    deadline = time.monotonic() + deadline_seconds
    try:
        descriptor = os.open(handle, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RedirectError(f"{handle} cannot be opened: {error.strerror} (is /proc mounted?)") from error
    try:
        while not _locked(descriptor):
            if time.monotonic() >= deadline:
                raise RedirectError("another process is changing the redirect rules here (see what it waits for)")
            time.sleep(_PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
