"""Ports on loopback that tests listen on later than they choose them."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from typing import Final

_FIRST: Final = 10_000
_END: Final = 32_000
"""Below those that the kernel hands to clients: else one of these could take it."""
_SHARES: Final = 8
_given: set[int] = set()


def _ours() -> range:
    """The ports of this process: those that run tests at the same time each have a share."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    size = (_END - _FIRST) // _SHARES
    first = _FIRST + int(worker) % _SHARES * size
    return range(first, first + size)


def free_port() -> int:
    """A port that nobody listens on."""
    while True:
        port = random.choice(_ours())
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
