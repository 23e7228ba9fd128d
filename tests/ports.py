"""Ports on loopback that tests listen on later than they choose them."""

from __future__ import annotations

import contextlib
import random
import socket

_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel hands to clients: else one of these could take it."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
