"""Chains under load: warmed up, then loaded in turns, each turn with what it cost on both sides.

Load is h2load's, but for connections of one request each, which are ``benchmarks.connecting``'s.

The number of requests of a turn is reckoned from the rate of the warm-up, so that a slow chain is not loaded for longer
than a quick one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import connecting, h2load
from benchmarks.chain import Chain
from benchmarks.profile import Spent
from benchmarks.results import Pair
from benchmarks.works import Plan, Say, turns

_DEADLINE_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one chain did in one turn; CPU in microseconds a request."""

    client_side_cpu: float
    server_side_cpu: float
    outcome: h2load.Outcome

    @property
    def cpu(self) -> float:
        return self.client_side_cpu + self.server_side_cpu


Turns = Mapping[tuple[str, int], Sequence[Turn]]
"""All turns of a run by (chain's name, level), in the order of the rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What is asked of a chain: ``paths`` in order on kept connections, or the first on a fresh one for each request.

    ``streams``: requests at a time on each connection over HTTP/2; 0: HTTP/1.1.

    ``warm_up``: how many requests the first load of a chain has, at a level of so many connections.
    """

    paths: Sequence[str]
    folder: Path
    fresh_connections: bool = False
    streams: int = 0
    warm_up: Callable[[int], int] = lambda level: 400 + 40 * level

    def load(self, chain: Chain, level: int, requests: int) -> h2load.Outcome:
        """One load run through ``chain`` with ``level`` connections at a time."""
        if self.fresh_connections:
            seen = connecting.run_apart(chain.port, level, requests, self.paths[0], _DEADLINE_SECONDS)
            return h2load.Outcome(
                requests=seen.connections,
                rate_per_second=seen.rate_per_second,
                p50_milliseconds=seen.p50_milliseconds,
                p99_milliseconds=seen.p99_milliseconds,
            )
        load = h2load.Load(
            port=chain.port,
            connections=level,
            requests=requests,
            streams=self.streams,
        )
        return h2load.run(load, self.paths, self.folder, _DEADLINE_SECONDS)

    def warmed_up(self, chain: Chain, level: int, turn_seconds: float) -> int:
        """Load ``chain`` for a moment at ``level``; gives the number of requests that will last a turn."""
        outcome = self.load(chain, level, self.warm_up(level))
        outcome = self.load(chain, level, requests_for(outcome.rate_per_second, 0.5, level))
        return requests_for(outcome.rate_per_second, turn_seconds, level)

    def turn(self, chain: Chain, level: int, requests: int) -> Turn:
        """One turn of ``chain``: its load, and what it cost on each side."""
        before = chain.cpu_seconds()
        outcome = self.load(chain, level, requests)
        client_side, server_side = (
            (after - start) / requests * 1e6 for start, after in zip(before, chain.cpu_seconds(), strict=True)
        )
        return Turn(client_side_cpu=client_side, server_side_cpu=server_side, outcome=outcome)


def requests_for(rate_per_second: float, seconds: float, connections: int) -> int:
    """How many requests last about ``seconds``; at least four a connection."""
    return max(int(rate_per_second * seconds), 4 * connections)


def take_turns(plan: Plan, work: Sequence[tuple[Chain, int, Asking]], say: Say) -> Turns:
    """Warm up each chain at each of its levels, then let all take turns, round by round."""
    counts = [asking.warmed_up(chain, level, plan.turn_seconds) for chain, level, asking in work]
    say("warmed up")
    measured: dict[tuple[str, int], list[Turn]] = {(chain.name, level): [] for chain, level, _ in work}
    for number, ordered in turns(list(zip(work, counts, strict=True)), plan.rounds):
        for (chain, level, asking), requests in ordered:
            measured[chain.name, level].append(asking.turn(chain, level, requests))
        say(f"round {number + 1} of {plan.rounds}")
    return measured


def pairs(ours: Iterable[Turn], theirs: Iterable[Turn], value: Callable[[Turn], float]) -> list[Pair]:
    """``value`` of both sides, round by round."""
    return [Pair(ours=value(mine), theirs=value(other)) for mine, other in zip(ours, theirs, strict=True)]


def profile_tables(chain: Chain, asking: Asking, levels: Iterable[int], seconds: float, say: Say) -> str:
    """Where each microsecond of both sides of ``chain``, which run under the sampler, goes at each level."""
    found = []
    sides = {"client side": chain.client_side, "server side": chain.server_side}
    for level in levels:
        requests = asking.warmed_up(chain, level, seconds)
        before = {side: Spent.now(pid, asking.folder) for side, pid in sides.items()}
        asking.load(chain, level, requests)
        for side, pid in sides.items():
            spent = Spent.now(pid, asking.folder)
            found.append(spent.tables_since(before[side], f"c={level}, {side}", requests, "request"))
        say(f"profiled c={level}")
    return "\n\n".join(found)
