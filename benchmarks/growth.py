"""How cost grows: with clients, with the size of bodies, with rules, with open mesh connections; beside Envoy's.

HTTP/1.1 through the chains of ``http1``. No bars: these rows show the shape of the curves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import backend, envoy, http1, mesh
from benchmarks.chain import Chain
from benchmarks.loading import Asking, Turn, Turns, pairs, take_turns
from benchmarks.results import Row, compare
from benchmarks.works import Plan, Say, Work

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
RULES = (1, 100, 10_000)
_CONNECTIONS = 32
_BODY_CONNECTIONS = 8
_TURN_SECONDS = 1.0
_ROUNDS = 3
_QUICK_ROUNDS = 2


def shortened(plan: Plan, points: Sequence[int]) -> tuple[Plan, Sequence[int]]:
    """A curve needs many points rather than sharp ones; a quick one has its ends and every third point between."""
    quick = plan.rounds <= _ROUNDS
    few = (*points[:-1:3], points[-1])
    rounds = min(plan.rounds, _QUICK_ROUNDS if quick else _ROUNDS)
    shorter = Plan(rounds=rounds, turn_seconds=min(plan.turn_seconds, _TURN_SECONDS))
    return shorter, plan.levels or (few if quick else points)


@contextlib.contextmanager
def started(say: Say, what: str, rule_count: int = 1) -> Iterator[tuple[Path, Chain, Chain]]:
    """nginx and both chains in a temporary folder: the folder, ours, the peer."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(backend.folder())
        say(f"starting nginx, envoy and the mesh ({what})")
        (port,) = stack.enter_context(backend.nginx(folder, 1))
        peer = stack.enter_context(envoy.chain(folder, "http", port, http1.PATHS[0], rule_count=rule_count))
        wanted = mesh.Wanted(
            protocol="http",
            backend_port=port,
            path_templates=(*http1.PATH_TEMPLATES, f"{backend.BODIES_PATH}/{{size}}"),
            rule_count=rule_count,
        )
        (ours,) = stack.enter_context(mesh.chains(folder, [wanted], http1.PATHS[0]))
        http1.check_duties([ours], peer)
        yield folder, ours, peer


def _row(work: str, label: str, metric: str, measured: Turns, level: int, chains: Sequence[Chain]) -> Row:
    ours, peer = (chain.name for chain in chains)
    value: Callable[[Turn], float] = lambda turn: turn.cpu  # noqa: E731
    return compare(work, label, metric, peer, pairs(measured[ours, level], measured[peer, level], value))


def run_clients(plan: Plan, say: Say) -> list[Row]:
    """CPU a request at so many connections of the app."""
    plan, levels = shortened(plan, CLIENTS)
    with started(say, "clients") as (folder, *chains):
        asking = Asking(paths=http1.PATHS, folder=folder)
        measured = take_turns(plan, [(chain, level, asking) for level in levels for chain in chains], say)
        return [_row("clients", f"c={n}", "cpu_us_per_request", measured, n, chains) for n in levels]


def run_bodies(plan: Plan, say: Say) -> list[Row]:
    """CPU a request whose answer has so many bytes."""
    plan, sizes = shortened(plan, backend.BODY_SIZES)
    found = []
    with started(say, "bodies") as (folder, *chains):
        for size in sizes:
            place = folder / f"bodies-{size}"
            place.mkdir()
            asking = Asking(paths=(f"{backend.BODIES_PATH}/{size}",), folder=place, warm_up=lambda _level: 40)
            measured = take_turns(plan, [(chain, _BODY_CONNECTIONS, asking) for chain in chains], say)
            label = f"{size:,} B, c={_BODY_CONNECTIONS}"
            found.append(_row("bodies", label, "cpu_us_per_request", measured, _BODY_CONNECTIONS, chains))
    return found


def run_rules(plan: Plan, say: Say) -> list[Row]:
    """CPU a request under so many rules, the last of which permits it."""
    plan, counts = shortened(plan, RULES)
    found = []
    for count in counts:
        with started(say, f"{count:,} rules", count) as (folder, *chains):
            asking = Asking(paths=http1.PATHS, folder=folder)
            measured = take_turns(plan, [(chain, _CONNECTIONS, asking) for chain in chains], say)
            label = f"{count:,} rules, c={_CONNECTIONS}"
            found.append(_row("rules", label, "cpu_us_per_request", measured, _CONNECTIONS, chains))
    return found


CLIENTS_WORK = Work(name="clients", summary="a request's CPU as an app's connections grow", run=run_clients)
BODIES_WORK = Work(name="bodies", summary="a request's CPU as bodies grow", run=run_bodies)
RULES_WORK = Work(name="rules", summary="a request's CPU as rules grow", run=run_rules)
