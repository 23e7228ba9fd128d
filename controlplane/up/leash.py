"""Ties a child to its supervisor: asks the kernel to kill it when the supervisor dies, then becomes the child.

Run by path with the bare interpreter, ``python -I -S leash.py SUPERVISOR_PID COMMAND [ARGUMENT ...]``, so it imports
the standard library only. Linux: ``prctl(PR_SET_PDEATHSIG)`` is kept through ``execve`` (but not through one that
raises privileges) and inherited by no grandchild; those are the keeper's business.

Exit statuses of its own, as a shell gives them: 126 the command cannot be run, 127 it is not there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Never returns when the command can be run."""
    supervisor, command = int(arguments[0]), arguments[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        print(f"cannot be tied to its supervisor: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        return 126
    if os.getppid() != supervisor:  # it died before the call above, and so no signal will come
        return 126
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # the interpreter ignores these; the command must find the default
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        print(f"cannot be started: {command[0]!r} is not there", file=sys.stderr)
        return 127
    except OSError as error:
        print(f"cannot be started: {command[0]!r}: {error.strerror}", file=sys.stderr)
        return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
