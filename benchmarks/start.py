"""From the start of a sidecar's process until it is ready, while the control plane is up.

Ready is what ``/readyz`` says: the sidecar has an identity and enforces a snapshot. ``join token``: a first start, in
an empty state folder; ``host key``: a restart, as it is known already. Beside it, without a bar, one Envoy with its
whole configuration in a file, which has nobody to ask, until its admin port says LIVE.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import backend, envoy, mesh
from benchmarks.certificates import write_certificates
from benchmarks.envoy_config import CLIENT_ID, SERVER_ID, server_side
from benchmarks.mesh_documents import Service
from benchmarks.processes import cpu_seconds, free_ports, running
from benchmarks.results import Pair, Row, against_bar, compare
from benchmarks.works import BenchmarkError, Plan, Say, Work, turns

WAYS = ("join token", "host key")
LIMIT_SECONDS = 1.0
ROUNDS_AT_LEAST = 5
_ENVOY = "envoy"
_POLL_SECONDS = 0.005
_GIVE_UP_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start: wall-clock and CPU seconds until ready."""

    seconds: float
    cpu_seconds: float


def run(plan: Plan, say: Say) -> list[Row]:
    """Start each kind of process in turns and give the rows."""
    rounds = max(plan.rounds, ROUNDS_AT_LEAST)
    measured: dict[str, list[Start]] = {way: [] for way in (*WAYS, _ENVOY)}
    with _prepared(say) as (folder, plane, service):
        for number, ordered in turns((WAYS, (_ENVOY,)), rounds):
            for way in (way for ways in ordered for way in ways):
                measured[way].append(_envoy_start(folder) if way == _ENVOY else _start(plane, service, way))
            say(f"round {number + 1} of {rounds}")
    return rows(measured, envoy.label())


@contextlib.contextmanager
def _prepared(say: Say) -> Iterator[tuple[Path, mesh.ControlPlane, Service]]:
    """A control plane with one service behind which there is nothing, and a folder for Envoy."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(backend.folder())
        say("starting the control plane")
        home = folder / "mesh"
        home.mkdir()
        ports = iter(free_ports(16))
        wanted = mesh.Wanted(protocol="http", backend_port=next(ports), path_templates=("/orders/{id}",))
        api, client = wanted.services(ports)
        addresses = [next(ports) for _ in range(3)]
        plane = stack.enter_context(mesh.control_plane(home, [api, client], wanted.policies(), addresses))
        write_certificates(folder, {"client": CLIENT_ID, "api": SERVER_ID})
        yield folder, plane, api


def _start(plane: mesh.ControlPlane, service: Service, way: str) -> Start:
    """One start of a sidecar; ``join token`` empties its state folder before, ``host key`` finds what that one left."""
    if way == "join token":
        shutil.rmtree(plane.home / service.name, ignore_errors=True)
    command = mesh.sidecar_command(plane, service)
    return _until_ready(command, plane.home, service.name, service.signals_port, "/readyz")


def _envoy_start(folder: Path) -> Start:
    port, backend_port, admin_port = free_ports(3)
    command = envoy.command(folder, "server", server_side("http", port, backend_port, admin_port))
    return _until_ready(command, folder, "server", admin_port, "/ready")


def _until_ready(command: list[str], folder: Path, name: str, port: int, path: str) -> Start:
    """Run ``command`` until ``path`` on ``port`` is answered by a 200, then stop it."""
    started = time.perf_counter()
    with running(command, folder, name) as process:
        while not _says_ready(port, path):
            if process.poll() is not None or time.perf_counter() - started > _GIVE_UP_SECONDS:
                tail = (folder / f"{name}.log").read_text(errors="replace").strip()[-2000:]
                raise BenchmarkError(f"{name} did not get ready; its log ends:\n{tail}")
            time.sleep(_POLL_SECONDS)
        return Start(seconds=time.perf_counter() - started, cpu_seconds=cpu_seconds(process.pid))


def _says_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def rows(measured: dict[str, list[Start]], peer: str) -> list[Row]:
    """The rows of a run: the bar first, then what Envoy takes to start, and the CPU of both."""
    found = [
        against_bar("start", way, "ready_seconds", [start.seconds for start in measured[way]], LIMIT_SECONDS)
        for way in WAYS
    ]
    for metric, field in (("ready_seconds", "seconds"), ("ready_cpu_seconds", "cpu_seconds")):
        for way in WAYS:
            values = [
                Pair(ours=getattr(mine, field), theirs=getattr(other, field))
                for mine, other in zip(measured[way], measured[_ENVOY], strict=True)
            ]
            found.append(compare("start", way, metric, f"{peer}, its configuration in a file", values))
    return found


WORK = Work(name="start", summary="a sidecar's process from its start until it is ready", run=run)
