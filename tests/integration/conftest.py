"""Integration tests run on the product's own event loop: uvloop's transports differ from asyncio's in small ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What pytest-asyncio makes its loops by."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def patient_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a busy machine makes of a caller that speaks at once is not a caller that waits for the server to speak."""
    monkeypatch.setattr("sidecar.arrival.SERVER_FIRST_SECONDS", 1.0)
