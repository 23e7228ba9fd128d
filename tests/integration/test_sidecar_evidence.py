"""`ringfence sidecar` that proves itself by what its platform put into a file, as in a pod. Real processes."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.attestors import KIND
from tests.issuing_backends import ORDERS, FakeBackend
from tests.sidecar_process import SelfCaller, SidecarProcess
from tests.waiting import until


@pytest.fixture
async def bench(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[SelfCaller]:
    made = SelfCaller(FakeBackend(), tmp_path, free_port)
    await made.backend.start()
    yield made
    await made.stop()


async def start(bench: SelfCaller) -> SidecarProcess:
    file = str(bench.folder / "evidence")
    return await bench.start("--evidence-kind", KIND, "--evidence-file", file, token=False)


async def test_it_waits_for_good_evidence_says_so_and_needs_it_no_more(bench: SelfCaller) -> None:
    evidence = bench.folder / "evidence"
    evidence.write_bytes(b"made for somebody else")
    process = await start(bench)
    await until(lambda: len(process.said("no identity yet")) >= 2)
    page = (await process.page("/readyz")).decode()
    assert page.startswith("HTTP/1.1 503 ")
    assert f"the fake evidence in {evidence} was refused: the evidence is not" in page
    evidence.write_bytes(bench.backend.give_evidence(ORDERS))
    await process.ready()
    await until(lambda: process.said("identity issued"))  # its lines may come after it
    assert [line["proved_by"] for line in process.said("identity issued")] == ["fake evidence"]
    assert "made for somebody else" not in str(process.lines)

    await process.end(signal.SIGKILL)
    evidence.unlink()
    again = await start(bench)
    await again.ready()
    await until(lambda: again.said("identity issued"))
    assert [line["proved_by"] for line in again.said("identity issued")] == ["host key"]
    assert "attest" in bench.backend.calls


async def test_a_state_that_was_lost_needs_new_evidence(bench: SelfCaller) -> None:
    evidence = bench.folder / "evidence"
    evidence.write_bytes(bench.backend.give_evidence(ORDERS))
    process = await start(bench)
    await process.ready()
    await process.end(signal.SIGKILL)
    (bench.folder / "state" / "host-key.pem").unlink()  # as in a pod whose node was started anew
    again = await start(bench)
    await until(lambda: again.said("no identity yet"))
    assert "used for another host key" in again.said("no identity yet")[0]["reason"]
    evidence.write_bytes(bench.backend.give_evidence(ORDERS))  # and the kubelet asks for a new token then
    await again.ready()
