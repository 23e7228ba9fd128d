"""A worker's own parts, in one process."""

from __future__ import annotations

import asyncio
import io
import json
import os
from pathlib import Path

import pytest

from ringfence.kit.clock import SystemClock
from sidecar.workers import WholeLines
from sidecar.workers.messages import Message, Start
from sidecar.workers.worker import _Worker


class Unread:
    """A channel that nobody reads."""

    full = True

    def send(self, message: Message) -> None: ...


async def test_headers_for_spans_that_went_bad_cost_the_spans_and_not_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were good when the sidecar began: a worker that takes another's place must come up all the same."""
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    lock = WholeLines.beginning(said).lock
    start = Start(
        worker=2,
        spiffe_id="spiffe://shop.example/ns/shop/sa/web",
        every_request=False,
        sample=1.0,
        spans_endpoint="http://127.0.0.1:4318/v1/traces",
        spans_sample=0.5,
        spans_headers_file=str(tmp_path / "gone"),
        log_level="info",
        log_lock=lock,
        limits=-1,
        drain_seconds=1.0,
        pod_addresses=(),
        resolvers=(),
    )
    worker = _Worker(start, Unread(), SystemClock())  # type: ignore[arg-type]
    at_once = asyncio.Event()
    at_once.set()
    await worker.end(0.0, at_once)
    os.close(lock)
    [line] = [line for line in map(json.loads, said.getvalue().splitlines()) if line["level"] == "error"]
    assert (line["msg"], line["worker"]) == ("no spans", 2)
    assert "gone" in line["reason"]
