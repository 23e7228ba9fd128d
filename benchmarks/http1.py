"""HTTP/1.1 requests on kept-alive connections, 240-byte answers, against Envoy in the same chain.

Load is 1,000 distinct paths of several templates, so that remembering whole requests gains nothing. Our side runs with
path policy, identity header, metrics, connection tracking and the default logs on; that the duties are on is checked on
both chains before anything is measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import backend, envoy, mesh
from benchmarks.chain import Chain
from benchmarks.loading import Asking, Turn, Turns, pairs, profile_tables, take_turns
from benchmarks.results import Bar, Pair, Row, compare
from benchmarks.works import BenchmarkError, Plan, Say, Work

LEVELS = (1, 8, 32, 128)
LOGGED_LEVEL = 32
"""Where the cost of a log line for every request is measured."""

CPU_BARS = {1: Bar(limit=0.90), 8: Bar(limit=0.45), 32: Bar(limit=0.30), 128: Bar(limit=0.30)}
MEMORY_BAR = Bar(limit=0.8)

PATHS = tuple(
    path
    for number in range(334)
    for path in (f"/orders/{number}", f"/items/{number}/price", f"/u/{number % 40}/p/{number}")
)[:1000]
PATH_TEMPLATES = ("/orders/{id}", "/items/{id}/price", "/u/{user}/p/{page}")
FORBIDDEN_PATH = "/admin/keys"
AMBIGUOUS_PATH = "/orders/..%2fadmin"
SPOOFED = "URI=spiffe://bench.example/ns/default/sa/somebody-else"


@dataclass(slots=True, kw_only=True)
class Measured:
    """All turns of a run, and memory by chain's name."""

    turns: Turns
    idle_megabytes: dict[str, float] = field(default_factory=dict)
    loaded_megabytes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """The three chains of a run: ours, ours with a log line for each request, and the peer's."""

    ours: Chain
    logged: Chain
    peer: Chain


def run(plan: Plan, say: Say) -> list[Row]:
    """Measure all levels of ``plan`` and give the rows; everything that was started is stopped on leaving."""
    levels = plan.levels or LEVELS
    with chains(say) as (folder, three):
        measured = measure(plan, levels, three, folder, say)
    return rows(levels, three, measured)


@contextlib.contextmanager
def chains(say: Say, *, sampled: bool = False) -> Iterator[tuple[Path, Chains]]:
    """Start the backend and the chains in a temporary folder, and see that the duties are on."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(backend.folder())
        say("starting nginx, envoy and the mesh")
        plain, behind_logged = stack.enter_context(backend.nginx(folder, 2))
        peer = stack.enter_context(envoy.chain(folder, "http", plain, PATHS[0]))
        wanted = (
            mesh.Wanted(protocol="http", backend_port=plain, path_templates=PATH_TEMPLATES),
            mesh.Wanted(
                protocol="http",
                backend_port=behind_logged,
                path_templates=PATH_TEMPLATES,
                label=f"{mesh.OURS}, access log: all",
                suffix="-logged",
                access_log="all",
            ),
        )
        ours, logged = stack.enter_context(mesh.chains(folder, wanted, PATHS[0], sampled=sampled))
        check_duties((ours, logged), peer)
        yield folder, Chains(ours=ours, logged=logged, peer=peer)


def check_duties(ours: Sequence[Chain], peer: Chain) -> None:
    """BenchmarkError unless each chain judges, refuses, tells the backend the true caller, and ours counts."""
    for chain in (*ours, peer):
        expect(chain, "DELETE", PATHS[0], 403)
        status, seen = chain.ask(backend.IDENTITY_PATH, headers={"x-forwarded-client-cert": SPOOFED})
        if status != 200 or b"/sa/client" not in seen or b"somebody-else" in seen:
            raise BenchmarkError(f"{chain.name} gave the backend the identity {seen!r} (status {status})")
    for chain in ours:
        expect(chain, "GET", FORBIDDEN_PATH, 403)
        expect(chain, "GET", AMBIGUOUS_PATH, 400, 403)
        before = chain.counted("requests")
        for path in PATHS[:5]:
            expect(chain, "GET", path, 200)
        counted = [after - start for start, after in zip(before, chain.counted("requests"), strict=True)]
        if counted != [5, 5]:
            raise BenchmarkError(f"{chain.name} counted {counted} of 5 requests (client side, server side)")


def expect(chain: Chain, method: str, path: str, *wanted: int) -> None:
    """BenchmarkError unless ``chain`` answers with a ``wanted`` status."""
    status, _ = chain.ask(path, method)
    if status not in wanted:
        raise BenchmarkError(f"{chain.name} answered {method} {path} with {status} instead of {wanted[-1]}")


def measure(plan: Plan, levels: Sequence[int], three: Chains, folder: Path, say: Say) -> Measured:
    """Let the chains take turns, and look at their memory before and after."""
    both = (three.ours, three.peer)
    idle = {chain.name: chain.resident_megabytes() for chain in both}
    asking = Asking(paths=PATHS, folder=folder)
    work = [(chain, level, asking) for level in levels for chain in both]
    if LOGGED_LEVEL in levels:
        work.append((three.logged, LOGGED_LEVEL, asking))
    measured = take_turns(plan, work, say)
    loaded = {chain.name: chain.resident_megabytes() for chain in both}
    return Measured(turns=measured, idle_megabytes=idle, loaded_megabytes=loaded)


def rows(levels: Sequence[int], three: Chains, measured: Measured) -> list[Row]:
    """The rows of a run, in the order in which people ask: CPU, rate, latency, memory, logs."""
    ours, peer = three.ours.name, three.peer.name
    metrics: dict[str, Callable[[Turn], float]] = {
        "cpu_us_per_request": lambda turn: turn.cpu,
        "cpu_us_per_request_client_side": lambda turn: turn.client_side_cpu,
        "cpu_us_per_request_server_side": lambda turn: turn.server_side_cpu,
        "requests_per_second": lambda turn: turn.outcome.rate_per_second,
        "p50_milliseconds": lambda turn: turn.outcome.p50_milliseconds,
        "p99_milliseconds": lambda turn: turn.outcome.p99_milliseconds,
    }
    found = []
    for metric, value in metrics.items():
        for level in levels:
            bar = CPU_BARS.get(level) if metric == "cpu_us_per_request" else None
            values = pairs(measured.turns[ours, level], measured.turns[peer, level], value)
            found.append(compare("http1", f"c={level}", metric, peer, values, bar))
    for when, megabytes in (("idle", measured.idle_megabytes), ("after load", measured.loaded_megabytes)):
        pair = Pair(ours=megabytes[ours], theirs=megabytes[peer])
        found.append(compare("http1", when, "resident_megabytes", peer, [pair], MEMORY_BAR))
    if LOGGED_LEVEL in levels:
        logged, plain = measured.turns[three.logged.name, LOGGED_LEVEL], measured.turns[ours, LOGGED_LEVEL]
        name = "cpu_us_per_request_access_log_all"
        values = pairs(logged, plain, lambda turn: turn.cpu)
        found.append(compare("http1", f"c={LOGGED_LEVEL}", name, "ringfence, access log: denied", values))
    return found


def profile(plan: Plan, say: Say) -> str:
    """Where each microsecond of our sidecars goes, at each level: tables for each side."""
    with chains(say, sampled=True) as (folder, three):
        asking = Asking(paths=PATHS, folder=folder)
        return profile_tables(three.ours, asking, plan.levels or (32,), 3 * plan.turn_seconds, say)


WORK = Work(name="http1", summary="HTTP/1.1 requests on kept-alive connections", run=run, profile=profile)
