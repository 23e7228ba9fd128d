"""SVIDs that the CA issues in a second of CPU: each attested by a host key, checked, recorded in SQLite, and logged.

Through the joining port of a control plane: every SVID is two calls (a challenge, and its answer with a CSR), on a
connection that each workload keeps, or on a new one each time as sidecars do, whose TLS handshake then counts too.
Alone: the same work without gRPC, to tell the CA's price from gRPC's (``issuing_alone``). All threads of the process
count; the clients' work does not.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import backend, issuing_alone, mesh
from benchmarks.mesh_documents import TRUST_DOMAIN, Service
from benchmarks.processes import cpu_seconds, free_ports
from benchmarks.results import Row, against_bar
from benchmarks.works import BenchmarkError, Plan, Say, Work, turns

LIMIT_A_CPU_SECOND = 500.0
WORKLOADS = 16
_KEPT, _FRESH, _ALONE = "gRPC, connections kept", "gRPC, a connection each", "CA alone"
_HOUSE = Path(__file__).resolve().parent.parent
_WARM_UP = 200
_COUNT_A_SECOND = 300
"""How many SVIDs are asked for in each second that a turn is to last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """SVIDs a second of the CA's CPU, and of wall-clock time where clients waited for them."""

    per_cpu_second: float
    per_second: float | None = None


class Clients:
    """The process that plays the workloads."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def told(self, order: object) -> dict[str, float]:
        """Give an order and wait for its answer; BenchmarkError when there is none."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise BenchmarkError("the clients have no pipes")
        try:
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # what it said at last tells more
        answer = stdout.readline()
        if not answer:
            raise BenchmarkError(f"the clients ended with status {self._process.wait(10)}; see their log above")
        found: dict[str, float] = json.loads(answer)
        return found


def run(plan: Plan, say: Say) -> list[Row]:
    """Measure all three ways in turns. ``levels``: how many workloads ask at once."""
    found = []
    for workloads in plan.levels or (WORKLOADS,):
        measured: dict[str, list[Turn]] = {way: [] for way in (_KEPT, _FRESH, _ALONE)}
        count = int(_COUNT_A_SECOND * plan.turn_seconds)
        with _started(workloads, say) as (folder, plane, clients):
            for number, ordered in turns(list(measured), plan.rounds):
                for way in ordered:
                    if way == _ALONE:
                        measured[way].append(_alone(folder, number, count, workloads))
                    else:
                        measured[way].append(_through_port(plane, clients, count, fresh=way == _FRESH))
                say(f"round {number + 1} of {plan.rounds}")
        found += rows(workloads, measured)
    return found


@contextlib.contextmanager
def _started(workloads: int, say: Say) -> Iterator[tuple[Path, mesh.ControlPlane, Clients]]:
    """A control plane, and the clients, enrolled and warmed up."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(backend.folder())
        say("starting the control plane")
        home = folder / "mesh"
        home.mkdir()
        ports = iter(free_ports(5))
        service = Service(name="api", mesh_port=next(ports), signals_port=next(ports))
        plane = stack.enter_context(mesh.control_plane(home, [service], {}, [next(ports) for _ in range(3)]))
        clients = stack.enter_context(_clients())
        tokens = [
            plane.join_token(f"spiffe://{TRUST_DOMAIN}/ns/default/sa/workload-{number}") for number in range(workloads)
        ]
        orders = {
            "address": f"127.0.0.1:{plane.join_port}",
            "server_name": f"controlplane.ringfence.{TRUST_DOMAIN}",
            "roots_pem": plane.ask("GET", "/bundle")["roots_pem"],
            "tokens": tokens,
        }
        clients.told(orders)
        for fresh in (False, True):
            clients.told({"count": _WARM_UP, "fresh": fresh})
        yield folder, plane, clients


@contextlib.contextmanager
def _clients() -> Iterator[Clients]:
    command = [sys.executable, "-m", "benchmarks.attesting"]
    with subprocess.Popen(command, cwd=_HOUSE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Clients(process)
        finally:
            process.kill()


def _through_port(plane: mesh.ControlPlane, clients: Clients, count: int, *, fresh: bool) -> Turn:
    before = cpu_seconds(plane.pid)
    seconds = clients.told({"count": count, "fresh": fresh})["seconds"]
    spent = cpu_seconds(plane.pid) - before
    return Turn(per_cpu_second=count / spent, per_second=count / seconds)


def _alone(folder: Path, number: int, count: int, workloads: int) -> Turn:
    own = folder / f"alone-{number}"
    own.mkdir()
    return Turn(per_cpu_second=1 / issuing_alone.attest(own, count, workloads))


def rows(workloads: int, measured: dict[str, list[Turn]]) -> list[Row]:
    """The rows of one level: a CPU second of each way against the bar, and what the clients saw of it."""
    found = []
    for way, taken in measured.items():
        label = f"{way}, {workloads} workloads"
        values = [turn.per_cpu_second for turn in taken]
        found.append(against_bar("issuance", label, "svids_per_cpu_second", values, LIMIT_A_CPU_SECOND, at_least=True))
    for way, taken in measured.items():
        seen = [turn.per_second for turn in taken if turn.per_second is not None]
        if seen:
            label = f"{way}, {workloads} workloads"
            found.append(
                against_bar(
                    "issuance", label, "svids_per_second", seen, LIMIT_A_CPU_SECOND, at_least=True, judged=False
                )
            )
    return found


WORK = Work(name="issuance", summary="SVIDs issued in a second of CPU, attested, recorded and logged", run=run)
