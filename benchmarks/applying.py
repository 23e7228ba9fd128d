"""From ``ringfence policy apply`` until every one of many sidecars enforces the change.

A control plane and 50 sidecars, each beside a service of its own, all on this machine. A change alters the allowlist of
each service at once, so that every sidecar gets a new snapshot, compiles it and acknowledges it. Counted from the
moment in which the change is sent to the admin socket, so judging it, writing the policy folder and recording the
revision are in it, until the status says of every sidecar that it enforces what it was sent; that is asked every few
milliseconds, and what it costs is in the figure, too.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import mesh
from benchmarks.backend import folder as temporary_folder
from benchmarks.mesh_documents import HTTP_PORT, Port, Service, allowlist
from benchmarks.processes import free_ports, running
from benchmarks.results import Row, against_bar
from benchmarks.works import BenchmarkError, Plan, Say

SIDECARS = 50
CHANGES_A_ROUND = 4
COMPARED_MILLISECONDS = 1_000.0
_START_SECONDS = 180.0
_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.005


def run(plan: Plan, say: Say) -> list[Row]:
    """Change the policy again and again and give the row."""
    with temporary_folder() as home, _started(home, say) as plane:
        taken = [_change(plane, number) * 1e3 for number in range(1, plan.rounds * CHANGES_A_ROUND + 1)]
    level, metric = f"{SIDECARS} sidecars", "milliseconds_from_apply_to_enforced"
    return [against_bar("policy", level, metric, taken, COMPARED_MILLISECONDS, judged=False)]


def _services(ports: Iterator[int]) -> list[Service]:
    return [
        Service(
            name=f"service-{number}",
            mesh_port=next(ports),
            signals_port=next(ports),
            ports=(Port(port=HTTP_PORT, protocol="http", app_port=next(ports)),),
        )
        for number in range(SIDECARS)
    ]


def _files(generation: int) -> dict[str, str]:
    """The whole of the policy, by file name; each generation permits another path of every service."""
    words = {"ports": [HTTP_PORT], "methods": ["GET"], "paths": [f"/generation-{generation}/{{id}}"]}
    return {
        f"service-{number}.yaml": json.dumps(allowlist(f"service-{number}", f"service-{number - 1}", words))
        for number in range(1, SIDECARS)
    } | {"service-0.yaml": json.dumps(allowlist("service-0", "service-1", words))}


@contextlib.contextmanager
def _started(home: Path, say: Say) -> Iterator[mesh.ControlPlane]:
    say(f"starting {SIDECARS} sidecars")
    ports = iter(free_ports(3 + 3 * SIDECARS))
    services = _services(ports)
    policies = {name.removesuffix(".yaml"): json.loads(text) for name, text in _files(0).items()}
    place = home / "mesh"
    place.mkdir()
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(mesh.control_plane(place, services, policies, [next(ports) for _ in range(3)]))
        for service in services:
            command = mesh.sidecar_command(plane, service)
            stack.enter_context(running(command, place, service.name))
        _enforced(plane, time.monotonic() + _START_SECONDS)
        yield plane


def _change(plane: mesh.ControlPlane, generation: int) -> float:
    """Seconds from the change's being sent until all enforce it."""
    before = _revision(plane.ask("GET", "/status"))
    started = time.perf_counter()
    applied = plane.ask("POST", "/policy/apply", {"files": _files(generation)})
    if applied["state"] != "applied" or int(str(applied["revision"])) <= before:
        raise BenchmarkError(f"the change was not applied: {applied}")
    _enforced(plane, time.monotonic() + _PATIENCE_SECONDS)
    return time.perf_counter() - started


def _enforced(plane: mesh.ControlPlane, deadline: float) -> None:
    """Return once every service has a sidecar that enforces its snapshot."""
    while True:
        workloads: Any = plane.ask("GET", "/status")["workloads"]
        current = sum(
            any(
                sidecar["standing"] == "current" and sidecar["enforced_revision"] == workload["revision"]
                for sidecar in workload["sidecars"]
            )
            for workload in workloads
        )
        if current == SIDECARS:
            return
        if time.monotonic() > deadline:
            raise BenchmarkError(f"only {current} of {SIDECARS} sidecars enforce what they should")
        time.sleep(_LOOK_SECONDS)


def _revision(status: dict[str, object]) -> int:
    return int(str(status["revision"]))
