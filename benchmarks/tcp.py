"""Bulk bytes over opaque TCP: bodies of 1 MB on kept connections, against Envoy's ``tcp_proxy`` in the same chain.

The figure is what a second of CPU carries, both sides of the chain together: what the machine's cores, the client and
the backend limit is not in it. The wall-clock rate is shown beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks import backend, opaque
from benchmarks.loading import Asking, Turn, Turns, pairs, profile_tables, take_turns
from benchmarks.results import Bar, Row, compare
from benchmarks.works import Plan, Say, Work

LEVELS = (1, 8, 32)
BAR = Bar(limit=1.0, at_least=True)
_MEGABYTES = backend.BULK_BYTES / 1e6


def run(plan: Plan, say: Say) -> list[Row]:
    """Measure all levels of ``plan`` and give the rows; everything that was started is stopped on leaving."""
    levels = plan.levels or LEVELS
    with opaque.started(say) as (folder, ours, peer):
        asking = Asking(paths=(backend.BULK_PATH,), folder=folder, warm_up=_warm_up)
        work = [(chain, level, asking) for level in levels for chain in (ours, peer)]
        return rows(levels, ours.name, peer.name, take_turns(plan, work, say))


def _warm_up(level: int) -> int:
    return 40 + 4 * level


def rows(levels: Sequence[int], ours: str, peer: str, measured: Turns) -> list[Row]:
    """The rows of a run: what a CPU second carries, of both sides and of each, then the wall-clock rate."""
    metrics: dict[str, Callable[[Turn], float]] = {
        "megabytes_per_cpu_second": lambda turn: _MEGABYTES / turn.cpu * 1e6,
        "megabytes_per_cpu_second_client_side": lambda turn: _MEGABYTES / turn.client_side_cpu * 1e6,
        "megabytes_per_cpu_second_server_side": lambda turn: _MEGABYTES / turn.server_side_cpu * 1e6,
        "megabytes_per_second": lambda turn: _MEGABYTES * turn.outcome.rate_per_second,
    }
    found = []
    for metric, value in metrics.items():
        for level in levels:
            bar = BAR if metric == "megabytes_per_cpu_second" else None
            values = pairs(measured[ours, level], measured[peer, level], value)
            found.append(compare("tcp", f"c={level}", metric, peer, values, bar))
    return found


def profile(plan: Plan, say: Say) -> str:
    """Where each microsecond of our sidecars goes; a request is 1 MB."""
    with opaque.started(say, sampled=True) as (folder, ours, _):
        asking = Asking(paths=(backend.BULK_PATH,), folder=folder, warm_up=_warm_up)
        return profile_tables(ours, asking, plan.levels or (8,), 3 * plan.turn_seconds, say)


WORK = Work(name="tcp", summary="bulk opaque TCP, bodies of 1 MB", run=run, profile=profile)
