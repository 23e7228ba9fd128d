"""A change of policy until the last stream that it forbids has ended, with 1,000 streams open on one host.

Half of the streams lead to a port that the change takes out of the policy, the other half to one that stays. All are
app connections that have echoed a byte, and all share one tunnel. A stream has ended when the calling app sees it end.
After each change the other half echoes again: had one been touched, there would be no figure.

Two moments to count from: when the control plane put the new revision in force, which its log tells to the millisecond;
and when the file was saved, which adds how long the control plane takes to see, read, judge and record it. Files are
saved in both manners: written beside and renamed, and written in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import uvloop

from benchmarks import backend, echo, mesh
from benchmarks.mesh_documents import FORBIDDEN_PORT, TCP_PORT, Document, Port, Service, Upstream, allowlist
from benchmarks.processes import free_ports
from benchmarks.profile import Spent
from benchmarks.results import Row, against_bar
from benchmarks.streams import Held, echo_all, opened, until
from benchmarks.works import BenchmarkError, Plan, Say, Work

STREAMS = 1000
LIMIT_MILLISECONDS = 100.0
CHANGES_AT_LEAST = 40  # half of them in each manner of saving
_CHANGES_A_ROUND = 12
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change; Unix seconds: the file saved, its revision in force at the control plane, first and last end."""

    in_place: bool
    saved: float
    in_force: float
    first_end: float
    last_end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The mesh that is changed: its control plane and the two ports by which the app calls."""

    folder: Path
    plane: mesh.ControlPlane
    staying_port: int
    leaving_port: int
    sidecars: dict[str, int]

    def allow(self, *ports: int, in_place: bool = False) -> None:
        self.plane.write_policy("api", _policy(*ports), in_place=in_place)


def _policy(*ports: int) -> Document:
    return allowlist("api", "client", {"ports": list(ports)})


def run(plan: Plan, say: Say) -> list[Row]:
    """Change the policy again and again and give the rows. ``levels``: open streams."""
    changes = max(plan.rounds * _CHANGES_A_ROUND, CHANGES_AT_LEAST)
    found = []
    for level in plan.levels or (STREAMS,):
        with host(say) as found_host:
            found += rows(level, uvloop.run(measure(found_host, level, changes, say)))
    return found


@contextlib.contextmanager
def host(say: Say, *, sampled: bool = False) -> Iterator[Host]:
    """An echo app, its sidecar with two ports, and the sidecar of the app that calls both.

    ``sampled``: the sidecars run under ``benchmarks.sampler``.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(backend.folder())
        say("starting the mesh")
        app_port = stack.enter_context(echo.app(folder))
        home = folder / "mesh"
        home.mkdir()
        ports = iter(free_ports(9))
        numbers = (TCP_PORT, FORBIDDEN_PORT)
        api = Service(
            name="api",
            mesh_port=next(ports),
            signals_port=next(ports),
            ports=tuple(Port(port=number, protocol="tcp", app_port=app_port) for number in numbers),
        )
        client = Service(
            name="client",
            mesh_port=next(ports),
            signals_port=next(ports),
            upstreams=tuple(Upstream(service="api", port=number, listen_port=next(ports)) for number in numbers),
        )
        addresses = [next(ports) for _ in range(3)]
        plane = stack.enter_context(mesh.control_plane(home, [api, client], {"api": _policy(*numbers)}, addresses))
        sidecars = {
            service.name: stack.enter_context(
                mesh.sidecar(plane, service, sampled_into=folder if sampled else None)
            ).pid
            for service in (api, client)
        }
        staying, leaving = (upstream.listen_port for upstream in client.upstreams)
        yield Host(folder=folder, plane=plane, staying_port=staying, leaving_port=leaving, sidecars=sidecars)


async def measure(
    host: Host, streams: int, changes: int, say: Say, around: Callable[[], None] = lambda: None
) -> list[Change]:
    """Open the streams and change the policy ``changes`` times; what was ended is opened again in between.

    ``around`` is called before and after each change.
    """
    staying = await _first(host.staying_port, streams - streams // 2)
    leaving = await _first(host.leaving_port, streams // 2)
    say(f"{streams} streams are open")
    found = []
    for number in range(changes):
        around()
        found.append(await _change(host, staying, leaving, in_place=number % 2 == 1))
        around()
        host.allow(TCP_PORT, FORBIDDEN_PORT)
        leaving = await _first(host.leaving_port, streams // 2)
        if (number + 1) % 10 == 0:
            say(f"change {number + 1} of {changes}")
    for held in (*staying, *leaving):
        held.close()
    return found


async def _first(port: int, count: int) -> list[Held]:
    """Connections to ``port``, from the moment on at which the mesh lets the first one through."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return [*await opened(port, 1), *await opened(port, count - 1)]
        except BenchmarkError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)


async def _change(host: Host, staying: list[Held], leaving: list[Held], *, in_place: bool) -> Change:
    """Take the second port out of the policy and wait for the end of its streams."""
    log = Log(host.plane.home / "controlplane.log")
    log.skip()
    host.allow(TCP_PORT, in_place=in_place)
    saved = (host.plane.home / "policies" / "api.yaml").stat().st_ctime
    await until(lambda: all(held.ended_at is not None for held in leaving), "the end of the streams", _PATIENCE_SECONDS)
    await echo_all(staying)
    ends = [held.ended_at or 0.0 for held in leaving]
    return Change(in_place=in_place, saved=saved, in_force=log.in_force(), first_end=min(ends), last_end=max(ends))


class Log:
    """The control plane's log, read on from where one stood."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0

    def skip(self) -> None:
        """Stand at its end."""
        self._offset = self._file.stat().st_size

    def in_force(self) -> float:
        """When the configuration that came in force since then did, Unix seconds; BenchmarkError unless just one."""
        with self._file.open("rb") as file:
            file.seek(self._offset)
            return in_force(file.read().decode())


def in_force(text: str) -> float:
    """The moment at which the one configuration of these log lines came in force, Unix seconds."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    found = [str(line["ts"]) for line in lines if line.get("msg") == "configuration in force"]
    if len(found) != 1:
        raise BenchmarkError(f"the control plane put {len(found)} configurations in force instead of one")
    return datetime.fromisoformat(found[0]).timestamp()


def rows(level: int, changes: list[Change]) -> list[Row]:
    """The rows of one level: the slowest of a hundred changes from both moments, by manner of saving where that
    matters, and how long the ends alone took, which has no bar."""
    label = f"{level} streams, {level // 2} ended"
    metrics = {
        "p99_milliseconds_from_in_force": [change.last_end - change.in_force for change in changes],
        "p99_milliseconds_from_renamed": [change.last_end - change.saved for change in changes if not change.in_place],
        "p99_milliseconds_from_written": [change.last_end - change.saved for change in changes if change.in_place],
        "p99_milliseconds_from_first_end": [change.last_end - change.first_end for change in changes],
    }
    return [
        against_bar(
            "revision",
            label,
            metric,
            [1000 * seconds for seconds in values],
            LIMIT_MILLISECONDS,
            share=99,
            judged=metric != "p99_milliseconds_from_first_end",
        )
        for metric, values in metrics.items()
    ]


def profile(plan: Plan, say: Say) -> str:
    """Where the CPU time of both sidecars goes during a change, from before it is saved until the echoes after it."""
    changes = plan.rounds
    found = []
    with host(say, sampled=True) as sampled:
        spent: dict[str, list[Spent]] = {name: [] for name in sampled.sidecars}

        def around() -> None:
            for name, pid in sampled.sidecars.items():
                spent[name].append(Spent.now(pid, sampled.folder))

        uvloop.run(measure(sampled, (plan.levels or (STREAMS,))[0], changes, say, around))
        for name, points in spent.items():
            before, after = Spent.sum(points[::2]), Spent.sum(points[1::2])
            found.append(after.tables_since(before, f"sidecar of {name}", changes, "change"))
    return "\n\n".join(found)


WORK = Work(
    name="revision",
    summary="a policy change until the last stream that it forbids has ended",
    run=run,
    profile=profile,
)
