"""HTTP/1.1 requests on kept-alive connections, 240-byte answers, against Envoy in the same chain.

Load is 1,000 distinct paths of several templates, so that remembering whole requests gains nothing. Our side runs with
path policy, identity header, metrics, connection tracking and the default logs on; that the duties are on is checked on
both chains before anything is measured.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import backend, envoy, h2load, mesh
from benchmarks.chain import Chain
from benchmarks.processes import kernel_seconds
from benchmarks.profile import tables, taken_now
from benchmarks.results import Bar, Pair, Row, compare
from benchmarks.works import BenchmarkError, Plan, Say, Work, turns

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one chain did in one turn; CPU in microseconds a request."""

    client_side_cpu: float
    server_side_cpu: float
    outcome: h2load.Outcome

    @property
    def cpu(self) -> float:
        return self.client_side_cpu + self.server_side_cpu


@dataclass(slots=True, kw_only=True)
class Measured:
    """All turns of a run by (chain's name, level), in the order of the rounds; memory by chain's name."""

    turns: dict[tuple[str, int], list[Turn]] = field(default_factory=dict)
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
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringfence-bench-")))
        say("starting nginx, envoy and the mesh")
        plain, behind_logged = stack.enter_context(backend.nginx(folder, 2))
        peer = stack.enter_context(envoy.http1_chain(folder, plain, PATHS[0]))
        ours, logged = stack.enter_context(
            mesh.http1_chains(folder, (plain, behind_logged), PATH_TEMPLATES, PATHS[0], sampled)
        )
        three = Chains(ours=ours, logged=logged, peer=peer)
        check_duties(three)
        yield folder, three


def check_duties(three: Chains) -> None:
    """BenchmarkError unless each chain judges, refuses, tells the backend the true caller, and ours counts."""
    for chain in (three.ours, three.logged, three.peer):
        expect(chain, "DELETE", PATHS[0], 403)
        status, seen = chain.ask(backend.IDENTITY_PATH, headers={"x-forwarded-client-cert": SPOOFED})
        if status != 200 or b"/sa/client" not in seen or b"somebody-else" in seen:
            raise BenchmarkError(f"{chain.name} gave the backend the identity {seen!r} (status {status})")
    for chain in (three.ours, three.logged):
        expect(chain, "GET", FORBIDDEN_PATH, 403)
        expect(chain, "GET", AMBIGUOUS_PATH, 400, 403)
        before = chain.counted()
        for path in PATHS[:5]:
            expect(chain, "GET", path, 200)
        counted = [after - start for start, after in zip(before, chain.counted(), strict=True)]
        if counted != [5, 5]:
            raise BenchmarkError(f"{chain.name} counted {counted} of 5 requests (client side, server side)")


def expect(chain: Chain, method: str, path: str, *wanted: int) -> None:
    """BenchmarkError unless ``chain`` answers with a ``wanted`` status."""
    status, _ = chain.ask(path, method)
    if status not in wanted:
        raise BenchmarkError(f"{chain.name} answered {method} {path} with {status} instead of {wanted[-1]}")


def measure(plan: Plan, levels: Sequence[int], three: Chains, folder: Path, say: Say) -> Measured:
    """Warm each chain up at each level, then let the chains take turns, round by round."""
    measured = Measured()
    both = (three.ours, three.peer)
    for chain in both:
        measured.idle_megabytes[chain.name] = chain.resident_megabytes()
    work = [(chain, level) for level in levels for chain in both]
    if LOGGED_LEVEL in levels:
        work.append((three.logged, LOGGED_LEVEL))
    counts = {(chain.name, level): warmed_up(plan, chain, level, folder) for chain, level in work}
    say("warmed up")
    for number, ordered in turns(work, plan.rounds):
        for chain, level in ordered:
            turn = measured_turn(chain, level, counts[chain.name, level], folder)
            measured.turns.setdefault((chain.name, level), []).append(turn)
        say(f"round {number + 1} of {plan.rounds}")
    for chain in both:
        measured.loaded_megabytes[chain.name] = chain.resident_megabytes()
    return measured


def warmed_up(plan: Plan, chain: Chain, level: int, folder: Path) -> int:
    """Load ``chain`` for a moment at ``level``; gives the number of requests that will last a turn."""
    outcome = load(chain, level, 400 + 40 * level, folder)
    outcome = load(chain, level, requests_for(outcome.rate_per_second, 0.5, level), folder)
    return requests_for(outcome.rate_per_second, plan.turn_seconds, level)


def measured_turn(chain: Chain, level: int, requests: int, folder: Path) -> Turn:
    """One turn of ``chain``: its load, and what it cost on each side."""
    before = chain.cpu_seconds()
    outcome = load(chain, level, requests, folder)
    client_side, server_side = (
        (after - start) / requests * 1e6 for start, after in zip(before, chain.cpu_seconds(), strict=True)
    )
    return Turn(client_side_cpu=client_side, server_side_cpu=server_side, outcome=outcome)


def requests_for(rate_per_second: float, seconds: float, connections: int) -> int:
    """How many requests last about ``seconds``; at least four a connection."""
    return max(int(rate_per_second * seconds), 4 * connections)


def load(chain: Chain, level: int, requests: int, folder: Path) -> h2load.Outcome:
    """One load run through ``chain`` with ``level`` connections."""
    return h2load.run(h2load.Load(port=chain.port, connections=level, requests=requests), PATHS, folder, 120)


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
            pairs = [
                Pair(ours=value(mine), theirs=value(other))
                for mine, other in zip(measured.turns[ours, level], measured.turns[peer, level], strict=True)
            ]
            bar = CPU_BARS.get(level) if metric == "cpu_us_per_request" else None
            found.append(compare("http1", f"c={level}", metric, peer, pairs, bar))
    for when, megabytes in (("idle", measured.idle_megabytes), ("after load", measured.loaded_megabytes)):
        pair = Pair(ours=megabytes[ours], theirs=megabytes[peer])
        found.append(compare("http1", when, "resident_megabytes", peer, [pair], MEMORY_BAR))
    if LOGGED_LEVEL in levels:
        pairs = [
            Pair(ours=logged.cpu, theirs=plain.cpu)
            for logged, plain in zip(
                measured.turns[three.logged.name, LOGGED_LEVEL], measured.turns[ours, LOGGED_LEVEL], strict=True
            )
        ]
        name = "cpu_us_per_request_access_log_all"
        found.append(compare("http1", f"c={LOGGED_LEVEL}", name, "ringfence, access log: denied", pairs))
    return found


def profile(plan: Plan, say: Say) -> str:
    """Where each microsecond of our sidecars goes, at each level: tables for each side."""
    found = []
    with chains(say, sampled=True) as (folder, three):
        chain = three.ours
        sides = (("client side", chain.client_side), ("server side", chain.server_side))
        for level in plan.levels or (32,):
            rate = load(chain, level, 400 + 40 * level, folder).rate_per_second
            rate = load(chain, level, requests_for(rate, 1, level), folder).rate_per_second
            requests = requests_for(rate, 3 * plan.turn_seconds, level)
            before = [taken_now(pid, folder) for _, pid in sides]
            cpu_before, kernel_before = chain.cpu_seconds(), [kernel_seconds(pid) for _, pid in sides]
            load(chain, level, requests, folder)
            cpu_after, kernel_after = chain.cpu_seconds(), [kernel_seconds(pid) for _, pid in sides]
            for index, (side, pid) in enumerate(sides):
                samples = taken_now(pid, folder) - before[index]
                cpu = (cpu_after[index] - cpu_before[index]) / requests * 1e6
                kernel = (kernel_after[index] - kernel_before[index]) / requests * 1e6
                title = f"c={level}, {side}: {cpu:.1f} µs a request, {kernel:.1f} of them in the kernel"
                found.append(tables(title, samples, cpu))
            say(f"profiled c={level}")
    return "\n\n".join(found)


WORK = Work(name="http1", summary="HTTP/1.1 requests on kept-alive connections", run=run, profile=profile)
