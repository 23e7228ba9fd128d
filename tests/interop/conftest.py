"""Tests with programs of others run on the product's own event loop, too, with identities of the product's own CA."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from ringfence.kit.clock import SystemClock
from tests.authorities import OpenAuthority
from tests.data_path import API, WEB
from tests.interop.joined import Joined, join


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What pytest-asyncio makes its loops by."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def joined(tmp_path: Path) -> AsyncIterator[Joined]:
    """``web`` and ``api``, each with the SVID for which it joined a real authority."""
    folder = tmp_path / "authority"
    folder.mkdir()
    with OpenAuthority(folder, SystemClock()) as authority:
        yield await join(authority, WEB, API)
