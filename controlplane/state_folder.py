"""The state folder: private, and used by one control plane at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StateFolderError(Exception):
    """The folder cannot be used; the message names it and the mend."""


@contextmanager
def hold_state_folder(path: Path) -> Iterator[None]:
    """Make ``path`` with mode 0700 if need be and hold its lock. Raises StateFolderError.

    Two processes on one ledger would give one revision to two contents. The kernel lets go of the lock when the
    process ends, however it ends.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise StateFolderError(f"state folder {path} may be written by others (make it yours alone: chmod 700)")
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StateFolderError(f"state folder {path} cannot be used: {reason} (give another by --state)") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateFolderError(
                f"state folder {path} is in use by another control plane (stop it, or give another by --state)"
            ) from error
        yield
    finally:
        os.close(descriptor)
