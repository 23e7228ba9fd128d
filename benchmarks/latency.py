"""How long a request takes while half of what Envoy can do is asked of each chain, at a fixed pace.

Envoy's capacity is measured first, in the same run: the rate at which h2load drives its chain on so many connections as
the paced client has. Then both chains get half of that rate from ``paced``, which counts from the moment at which a
request was due, so that no stall hides the requests behind it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks import backend, envoy, http1, mesh, paced
from benchmarks.chain import Chain
from benchmarks.loading import Asking, requests_for
from benchmarks.results import Bar, Pair, Row, compare
from benchmarks.works import BenchmarkError, Plan, Say, Work, turns

CONNECTIONS = 32
SHARE_OF_CAPACITY = 0.5
BARS = {"p99_milliseconds": Bar(limit=0.8)}
METRICS = ("p50_milliseconds", "p99_milliseconds", "p999_milliseconds", "requests_per_second")
_CAPACITY_RUNS = 3
_HOUSE = Path(__file__).resolve().parent.parent


def run(plan: Plan, say: Say) -> list[Row]:
    """Measure Envoy's capacity, then both chains at half of it. ``levels`` are connections of the client."""
    levels = plan.levels or (CONNECTIONS,)
    found = []
    with chains(say) as (folder, ours, peer):
        for level in levels:
            capacity = capacity_of(peer, level, folder)
            rate = SHARE_OF_CAPACITY * capacity
            say(f"{peer.name} does {capacity:,.0f} requests a second on {level} connections; asking for {rate:,.0f}")
            measured = measure(plan, level, rate, (ours, peer), say)
            found += rows(level, ours.name, peer.name, measured)
    return found


@contextlib.contextmanager
def chains(say: Say) -> Iterator[tuple[Path, Chain, Chain]]:
    """The same two chains as ``http1``, our duties on."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(backend.folder())
        say("starting nginx, envoy and the mesh")
        (port,) = stack.enter_context(backend.nginx(folder, 1))
        peer = stack.enter_context(envoy.chain(folder, "http", port, http1.PATHS[0]))
        wanted = mesh.Wanted(protocol="http", backend_port=port, path_templates=http1.PATH_TEMPLATES)
        (ours,) = stack.enter_context(mesh.chains(folder, [wanted], http1.PATHS[0]))
        http1.check_duties([ours], peer)
        yield folder, ours, peer


def capacity_of(chain: Chain, connections: int, folder: Path) -> float:
    """Requests a second at which ``chain`` is busy: the median of a few short runs, the first not counted."""
    asking = Asking(paths=http1.PATHS, folder=folder)
    requests = asking.warmed_up(chain, connections, 1.0)
    return median(asking.load(chain, connections, requests).rate_per_second for _ in range(_CAPACITY_RUNS))


def measure(
    plan: Plan, connections: int, rate: float, both: Sequence[Chain], say: Say
) -> dict[str, list[paced.Report]]:
    """The reports of each chain by its name, in the order of the rounds."""
    measured: dict[str, list[paced.Report]] = {chain.name: [] for chain in both}
    for chain in both:
        _paced(chain, rate, requests_for(rate, 1.0, connections), connections)
    for number, ordered in turns(both, plan.rounds):
        for chain in ordered:
            requests = requests_for(rate, plan.turn_seconds, connections)
            measured[chain.name].append(_paced(chain, rate, requests, connections))
        late = max(reports[-1].client_late_p99_milliseconds for reports in measured.values())
        say(f"round {number + 1} of {plan.rounds} (the client itself was late by {late:.2f} ms at most, p99)")
    return measured


def _paced(chain: Chain, rate: float, requests: int, connections: int) -> paced.Report:
    """One run of the paced client, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.paced", *map(str, (chain.port, rate, requests, connections))]
    seconds = 60 + 3 * requests / rate
    try:
        done = subprocess.run(
            command,
            input="\n".join(http1.PATHS),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            cwd=_HOUSE,
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{chain.name} did not answer {requests} paced requests in {seconds:.0f} s") from None
    if done.returncode != 0:
        raise BenchmarkError(f"{chain.name}: {done.stderr.strip()[-500:]}")
    return paced.Report(**json.loads(done.stdout))


def rows(level: int, ours: str, peer: str, measured: dict[str, list[paced.Report]]) -> list[Row]:
    """The rows of one level: how long a request took, at the median and among the slowest, and the rate kept."""
    found = []
    for metric in METRICS:
        values = [
            Pair(ours=getattr(mine, metric), theirs=getattr(other, metric))
            for mine, other in zip(measured[ours], measured[peer], strict=True)
        ]
        found.append(compare("latency", f"c={level}", metric, peer, values, BARS.get(metric)))
    return found


WORK = Work(name="latency", summary="time of a request at half of Envoy's capacity, paced", run=run)
