"""What every test may lean on: a free port, a clock that turns by hand."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from ringfence.kit.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only when the test says so."""
    return FakeClock()


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """Hands out loopback TCP ports that nobody listens on, no port twice in one test.

    Each is held bound (without listening) until all were handed out, so that two calls never give the same one; the
    system does not give a port just released to the next asker, so that tests beside each other rarely meet.
    """
    held: set[int] = set()

    def take() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            if port not in held:
                held.add(port)
                return port

    yield take
