"""The hooks that keep a failed test from failing its neighbours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFTEST = """
import uvloop

from tests.aftermath import *

def pytest_asyncio_loop_factories():
    return {"uvloop": uvloop.new_event_loop}
"""
OPENS = """
import asyncio, gc, socket

async def served(reader, writer):
    await reader.read()
    writer.close()

async def test_one():
    server = await asyncio.start_server(served, "127.0.0.1", 0)
    open_socket = socket.socket()
    streams = await asyncio.open_connection(*server.sockets[0].getsockname())
    LAST

def test_two():
    gc.collect()
"""


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        ("assert not streams", "1 failed, 1 passed"),
        ("server.close(); open_socket.close(); streams[1].close()", "2 passed"),
    ],
)
def test_a_failed_test_fails_alone(tmp_path: Path, last: str, outcome: str) -> None:
    assert outcome in results(tmp_path, last)


def test_what_a_passing_test_leaves_open_fails(tmp_path: Path) -> None:
    assert "ResourceWarning" in results(tmp_path, "pass")


def results(folder: Path, last: str) -> str:
    """What pytest says of a suite of two tests, the first of which ends so, with the settings of this one."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_suite.py").write_text(OPENS.replace("LAST", last))
    settings = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "no:cacheprovider")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return ran.stdout + ran.stderr
