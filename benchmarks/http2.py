"""HTTP/2 requests, as gRPC makes them: ten at a time on each kept connection, against Envoy in the same chain.

Both proxies speak HTTP/2 with prior knowledge to client and backend. The paths, the policy and the duties are those of
the HTTP/1.1 work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import backend, envoy, h2load, mesh
from benchmarks.chain import Chain
from benchmarks.http1 import AMBIGUOUS_PATH, FORBIDDEN_PATH, PATH_TEMPLATES, PATHS
from benchmarks.loading import Asking, Turn, Turns, pairs, profile_tables, take_turns
from benchmarks.results import Bar, Row, compare
from benchmarks.works import BenchmarkError, Plan, Say, Work

LEVELS = (1, 8, 32)
STREAMS = 10
CPU_BARS = {8: Bar(limit=0.30)}


def run(plan: Plan, say: Say) -> list[Row]:
    """Measure all levels of ``plan`` (connections) and give the rows; everything that was started is stopped."""
    levels = plan.levels or LEVELS
    with chains(say) as (folder, ours, peer):
        asking = Asking(paths=PATHS, folder=folder, streams=STREAMS)
        work = [(chain, level, asking) for level in levels for chain in (ours, peer)]
        return rows(levels, ours.name, peer.name, take_turns(plan, work, say))


@contextlib.contextmanager
def chains(say: Say, *, sampled: bool = False) -> Iterator[tuple[Path, Chain, Chain]]:
    """Start the backend and both chains in a temporary folder, and see that the duties are on."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(backend.folder())
        say("starting nginx, envoy and the mesh")
        (port,) = stack.enter_context(backend.nginx(folder, 1, http2=True))
        peer = stack.enter_context(envoy.chain(folder, "http2", port, PATHS[0]))
        wanted = mesh.Wanted(protocol="http2", backend_port=port, path_templates=PATH_TEMPLATES)
        (ours,) = stack.enter_context(mesh.chains(folder, (wanted,), PATHS[0], sampled=sampled))
        check_duties(ours, peer)
        yield folder, ours, peer


def check_duties(ours: Chain, peer: Chain) -> None:
    """BenchmarkError unless each chain judges and refuses, and ours counts what it carried."""
    refused = [(ours, "DELETE", PATHS[0]), (peer, "DELETE", PATHS[0]), (ours, "GET", FORBIDDEN_PATH)]
    for chain, method, path in (*refused, (ours, "GET", AMBIGUOUS_PATH)):
        if h2load.status_class(chain.port, path, method) != 4:
            raise BenchmarkError(f"{chain.name} did not refuse {method} {path}")
    before = ours.counted("requests")
    for path in PATHS[:5]:
        if not ours.answers(path):
            raise BenchmarkError(f"{ours.name} did not answer GET {path}")
    counted = [after - start for start, after in zip(before, ours.counted("requests"), strict=True)]
    if counted != [5, 5]:
        raise BenchmarkError(f"{ours.name} counted {counted} of 5 requests (client side, server side)")


def rows(levels: Sequence[int], ours: str, peer: str, measured: Turns) -> list[Row]:
    """The rows of a run: CPU of both sides and of each, then rate and latency."""
    metrics: dict[str, Callable[[Turn], float]] = {
        "cpu_us_per_request": lambda turn: turn.cpu,
        "cpu_us_per_request_client_side": lambda turn: turn.client_side_cpu,
        "cpu_us_per_request_server_side": lambda turn: turn.server_side_cpu,
        "requests_per_second": lambda turn: turn.outcome.rate_per_second,
        "p99_milliseconds": lambda turn: turn.outcome.p99_milliseconds,
    }
    found = []
    for metric, value in metrics.items():
        for level in levels:
            bar = CPU_BARS.get(level) if metric == "cpu_us_per_request" else None
            values = pairs(measured[ours, level], measured[peer, level], value)
            found.append(compare("http2", f"c={level} m={STREAMS}", metric, peer, values, bar))
    return found


def profile(plan: Plan, say: Say) -> str:
    """Where each microsecond of our sidecars goes, at each level: tables for each side."""
    with chains(say, sampled=True) as (folder, ours, _):
        asking = Asking(paths=PATHS, folder=folder, streams=STREAMS)
        return profile_tables(ours, asking, plan.levels or (8,), 3 * plan.turn_seconds, say)


WORK = Work(name="http2", summary="HTTP/2 requests, ten at a time on each connection", run=run, profile=profile)
