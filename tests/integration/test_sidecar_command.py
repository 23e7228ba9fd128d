"""`ringfence sidecar` as a process: what it says when it cannot go on, and how it comes back after a kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ringfence.spiffe import fingerprint
from ringfence.wire.gen.control_pb2_grpc import add_ControlServicer_to_server
from sidecar.control.snapshot_file import NAME
from tests.fake_control import FakeControl
from tests.issuing_backends import ORDERS, TRUST_DOMAIN, FakeBackend
from tests.pki import TestCa
from tests.sidecar_process import ROOT, RUN, SidecarProcess
from tests.sidecar_snapshots import snapshot_message
from tests.waiting import until


class Bench:
    """A CA and a control plane in this process, and the sidecar processes that talk to them."""

    def __init__(self, backend: FakeBackend, folder: Path, free_port: Callable[[], int]) -> None:
        self.backend = backend
        self.control = FakeControl()
        self.folder = folder
        self.token_file = folder / "token"
        self.token_file.write_text(backend.mint(ORDERS))
        self.pin = backend.root_fingerprint
        self.signals_port = free_port()
        self.control.current = snapshot_message(1, mesh_port=free_port(), root=backend.ca.root.der)
        add_ControlServicer_to_server(self.control, backend.servers.mutual)  # type: ignore[no-untyped-call]
        self.processes: list[SidecarProcess] = []

    async def start(self) -> SidecarProcess:
        servers = self.backend.servers
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, "sidecar", "--spiffe-id", str(ORDERS), "--join", str(servers.join),
            "--control", str(servers.renew), "--root-fingerprint", self.pin, "--join-token-file", str(self.token_file),
            "--state", str(self.folder / "state"), "--signals", f"127.0.0.1:{self.signals_port}",
            stderr=asyncio.subprocess.PIPE, cwd=ROOT, env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )  # fmt: skip
        process = SidecarProcess(child, self.signals_port, self.folder / "state" / "run" / "admin.sock")
        self.processes.append(process)
        return process


@pytest.fixture
async def bench(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Bench]:
    backend = FakeBackend()
    made = Bench(backend, tmp_path, free_port)
    await backend.start()
    yield made
    for process in made.processes:
        if process.child.returncode is None:
            await process.end(signal.SIGKILL)
    await backend.stop()


async def test_it_becomes_ready_and_stops_on_sigterm(bench: Bench) -> None:
    process = await bench.start()
    await process.ready()
    await until(lambda: bench.control.acks)
    assert bench.control.acks[0].accepted
    assert b"ringfence_snapshot_revision 1.0" in await process.page("/metrics")
    assert await process.end(signal.SIGTERM) == 0
    assert process.told("error") == []


async def test_the_owner_sees_the_configuration_on_the_socket_and_nobody_on_the_port(bench: Bench) -> None:
    process = await bench.start()
    await process.ready()
    reader, writer = await asyncio.open_unix_connection(str(bench.folder / "state" / "run" / "admin.sock"))
    writer.write(b"GET /config HTTP/1.1\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.transport.abort()
    assert b" 200 " in head
    assert json.loads(body)["settings"]["spiffe_id"] == str(ORDERS)
    assert bench.token_file.read_bytes() not in body
    assert b" 404 " in await process.page("/config")


async def test_a_killed_sidecar_is_back_by_its_host_key(bench: Bench) -> None:
    first = await bench.start()
    await first.ready()
    await first.end(signal.SIGKILL)
    bench.token_file.unlink()
    again = await bench.start()
    await again.ready()
    assert bench.backend.calls == ["join", "challenge", "attest"]
    await until(lambda: len(bench.control.hellos) == 2)
    assert bench.control.hellos[0].process != bench.control.hellos[1].process


async def test_restarted_without_a_control_plane_it_serves_by_the_last_good_snapshot(bench: Bench) -> None:
    first = await bench.start()
    await first.ready()
    await until((bench.folder / "state" / NAME).exists)
    await first.end(signal.SIGKILL)
    # The CA still answers where sidecars join; nobody answers where snapshots come from.
    await bench.backend.servers.mutual.stop(None)
    again = await bench.start()
    await again.ready()
    await until(lambda: "serving by the last good snapshot" in [line["msg"] for line in again.told("warning")])
    staleness = [line for line in (await again.page("/metrics")).splitlines() if b"_staleness_seconds " in line]
    assert float(staleness[-1].split()[-1]) > 0.0


async def test_a_wrong_root_is_one_clear_line_and_the_end(bench: Bench) -> None:
    bench.pin = fingerprint(TestCa(TRUST_DOMAIN).root.der)
    process = await bench.start()
    assert await process.end() == 1
    (line,) = process.told("error")
    assert f"pinned {bench.pin}" in line["detail"]
    assert bench.backend.calls == []


async def test_a_spent_token_is_one_clear_line_and_the_end(bench: Bench) -> None:
    for token in bench.backend.tokens.values():
        token.spent = True
    process = await bench.start()
    assert await process.end() == 1
    (line,) = process.told("error")
    assert f"the join token in {bench.token_file} was refused" in line["detail"]


async def test_waiting_for_a_ca_it_is_alive_and_not_ready_and_says_why(bench: Bench) -> None:
    await bench.backend.servers.stop()
    process = await bench.start()
    answer = b""
    async with asyncio.timeout(60):
        while b"connection refused" not in answer:
            await asyncio.sleep(0.02)
            answer = await process.page("/readyz")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert (await process.page("/healthz")).startswith(b"HTTP/1.1 200 ")


async def test_python_m_sidecar_is_the_same_command() -> None:
    flags = ("--spiffe-id", str(ORDERS), "--state", "/tmp/state", "--print-config")
    refused = (*flags[:-1], "--join", "nowhere")
    for rest in (flags, ("-h",), (*flags, "--join", "nowhere"), refused, (*refused, "--drain"), (*refused, *refused)):
        answers = []
        for start in (["-c", RUN, "sidecar"], ["-P", "-m", "sidecar"]):
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *start,
                *rest,
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            out, _ = await child.communicate()
            answers.append((child.returncode, out))
        assert answers[0] == answers[1]


async def test_it_imports_nothing_that_a_sidecar_must_not_pay_for() -> None:
    code = (
        "import sys; import sidecar.starting, sidecar.app, sidecar.data_path, sidecar.workers\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    out, _ = await child.communicate()
    loaded = set(out.decode().split())
    assert {"hpack", "OpenSSL", "uvloop"} <= loaded
    assert not loaded & {
        "grpc",
        "prometheus_client",
        "aiohttp",
        "click",
        "sqlalchemy",
        "alembic",
        "rich",
        "yaml",
        "ca",
        "controlplane",
        "k8s",
        "pytest",
    }


async def test_without_workers_nothing_of_them_is_loaded_and_a_parent_of_workers_carries_no_traffic() -> None:
    for code, absent in (
        ("import sidecar.app, sidecar.data_path", "sidecar.workers"),
        ("import sidecar.app, sidecar.workers", "sidecar.inbound"),
    ):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"import sys; {code}; print(*sys.modules)", stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        out, _ = await child.communicate()
        loaded = out.decode().split()
        assert "sidecar.app" in loaded
        assert absent not in loaded
