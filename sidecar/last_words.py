"""Why a sidecar in a pod ended, where ``kubectl describe`` shows it: in the container's termination message. Adapter.

The kubelet gives each container a file for it and reads the first 4 KiB once the container has ended. Elsewhere there
is no such file, and none is made.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

TERMINATION_LOG: Final = Path("/dev/termination-log")
_LIMIT_BYTES: Final = 4_096
_FLAGS: Final = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def leave(words: str, place: Path = TERMINATION_LOG) -> bool:
    """Write ``words``, if there is a file for them that may be written to; whether there was."""
    with contextlib.suppress(OSError):
        descriptor = os.open(place, _FLAGS)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return False
            os.write(descriptor, words.encode("utf-8", "backslashreplace")[:_LIMIT_BYTES])
            return True
        finally:
            os.close(descriptor)
    return False
