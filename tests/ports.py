"""Ports on loopback that tests listen on later than they choose them."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import socket
from typing import Final

_FIRST: Final = 10_000
_END: Final = 20_000
"""Below those that the kernel hands to clients, and those from which the product takes ports for itself: else one of
these could take it."""
_NAMED: Final = range(15_000, 15_200)
"""Those that the product's defaults, its examples and the demo name."""
_KEPT: Final = 1_000
"""So many were given last and are not given again, as who got one may not listen yet."""
_given: collections.deque[int] = collections.deque(maxlen=_KEPT)


def _ours() -> range:
    """The ports of this process: those that run tests at the same time each have a share."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    shares = max(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), worker + 1)
    size = (_END - _FIRST) // shares
    first = _FIRST + worker * size
    return range(first, first + size)


def free_port() -> int:
    """A port that nobody listens on."""
    while True:
        port = random.choice(_ours())
        if port in _NAMED:
            continue
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            if port not in _given:
                _given.append(port)
                return port
