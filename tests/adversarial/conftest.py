"""Adversarial tests run on the product's own event loop: uvloop's transports differ from asyncio's in small ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What pytest-asyncio makes its loops by."""
    return {"uvloop": uvloop.new_event_loop}
