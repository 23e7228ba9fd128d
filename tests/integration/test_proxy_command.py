"""``ringfence proxy`` and ``ringfence tap`` against a sidecar process whose control plane is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator

import pytest

from tests.integration.test_sidecar_command import Bench, bench
from tests.issuing_backends import ORDERS
from tests.sidecar_process import ROOT, RUN, SidecarProcess
from tests.waiting import until

__all__ = ["bench"]


async def ringfence(*words: str) -> tuple[int, str, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=dict(os.environ),
    )  # fmt: skip
    out, err = await asyncio.wait_for(child.communicate(), 60)
    return child.returncode or 0, out.decode(), err.decode()


@pytest.fixture
async def alone(bench: Bench) -> AsyncIterator[SidecarProcess]:
    """A sidecar that was ready, and has no control plane any more."""
    process = await bench.start()
    await process.ready()
    await bench.backend.servers.stop()
    yield process


def socket_of(bench: Bench) -> str:
    return str(bench.folder / "state" / "run" / "admin.sock")


async def taps(bench: Bench) -> bool:
    """Whether the sidecar counts a tap among its own: it refuses the next ones one sooner."""
    pairs = []
    for _ in range(4):
        reader, writer = pair = await asyncio.open_unix_connection(socket_of(bench))
        writer.write(b"GET /tap HTTP/1.1\r\n\r\n")
        pairs.append((await reader.readline(), pair))
    for _, (reader, writer) in pairs:  # none may still be counted when it is looked again
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 10)
        writer.close()
    return any(b" 503 " in line for line, _ in pairs)


async def test_all_of_it_works_without_a_control_plane(bench: Bench, alone: SidecarProcess) -> None:
    where = ("--socket", socket_of(bench))
    status, out, _ = await ringfence("proxy", "certs", *where, "--json")
    assert status == 0
    told = json.loads(out)
    assert told["svid"]["spiffe_id"] == str(ORDERS)
    assert told["svid"]["left_seconds"] > 0
    assert told["bundles"] == [{"trust_domain": str(ORDERS.trust_domain), "roots": [bench.backend.root_fingerprint]}]
    status, out, _ = await ringfence("proxy", "certs", *where)
    assert (status, f"SVID          {ORDERS}" in out) == (0, True)
    status, out, _ = await ringfence("proxy", "status", *where, "--json")
    told = json.loads(out)
    assert (status, told["revision"], told["spiffe_id"]) == (0, 1, str(ORDERS))
    assert told["ready"] is not bool(told["waiting_for"])
    assert told["svid_left_seconds"] > 0
    assert "revision      1" in (await ringfence("proxy", "status", *where))[1]
    status, out, _ = await ringfence("proxy", "connections", *where, "--json", "--limit", "5")
    assert (status, json.loads(out)["connections_left_out"]) == (0, 0)
    assert (await ringfence("proxy", "connections", *where))[0] == 0
    told = json.loads((await ringfence("proxy", "config", *where))[1])
    assert told["revision"] == 1
    shown = {f"{one['endpoint']} {one['peer']}": one["state"] for one in told["endpoints"]}
    assert shown == {end: "ready" for upstream in told["upstreams"] for end in upstream["endpoints"]}
    assert told["endpoints_left_out"] == 0
    assert (await ringfence("proxy", "loglevel", *where, "debug"))[:2] == (0, "debug\n")
    assert (await ringfence("proxy", "loglevel", *where))[:2] == (0, "debug\n")
    await until(lambda: "log level changed" in [line["msg"] for line in alone.lines])
    status, out, _ = await ringfence("proxy", "drain", *where)
    assert (status, out) == (0, "draining\n")
    assert await alone.end() == 0
    assert "sidecar stopped" in [line["msg"] for line in alone.lines]


async def test_a_tap_ends_with_its_sidecar(bench: Bench, alone: SidecarProcess) -> None:
    where = ("--socket", socket_of(bench))

    async def tap() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, "tap", *where, "--json",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip

    tapping = await tap()
    while not await taps(bench):
        if tapping.returncode is not None:  # it came while a look took every place, and was refused
            assert b"503" in await tapping.stderr.read()  # type: ignore[union-attr]
            tapping = await tap()
    assert (await ringfence("proxy", "drain", *where))[0] == 0
    out, err = await asyncio.wait_for(tapping.communicate(), 60)
    assert (tapping.returncode, out) == (1, b"")
    assert b"has ended the tap" in err


async def test_bad_input_ends_with_status_2_and_a_missing_sidecar_with_1(bench: Bench, alone: SidecarProcess) -> None:
    where = ("--socket", socket_of(bench))
    for words in (
        ("tap", *where, "--to", "a/b/c"),
        ("tap", *where, "--from", "spiffe://x!/a"),
        ("tap", *where, "--limit", "0"),
        ("proxy", "loglevel", *where, "loud"),
        ("proxy", "connections", *where, "--limit", "10001"),
        ("proxy", "certs"),
    ):
        status, out, err = await ringfence(*words)
        assert (status, out) == (2, ""), words
        assert err
    for words in (("proxy", "certs"), ("tap",)):
        status, _, err = await ringfence(*words, "--socket", str(bench.folder / "nothing.sock"))
        assert status == 1
        assert err.startswith("no sidecar at ")
