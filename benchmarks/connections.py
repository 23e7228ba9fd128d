"""New connections of an app to a peer that is known already, each for one short request, against Envoy.

``opaque``: the connection is passed on as it is, which for Envoy's ``tcp_proxy`` means a mutual TLS handshake for each,
and for us a stream of the tunnel. ``http``: the connection ends at the client side, whose requests go on over what it
keeps; here Envoy has no handshake either, and so nothing is promised.

No proxy writes a line for a connection in these, Envoy's access log being off and our log's level ``warning``; in
``opaque, logged`` each of the four writes one, with the same facts.

The rate is that of the whole chain on the machine's cores, client and backend included. What these two cost is the same
in both chains, so it draws the ratio towards 1 and says nothing of a proxy: ``benchmarks.connecting`` and
``benchmarks.brief_app`` are made to cost as little as can be. What is left of that is between the ratio of the rates
and that of the proxies' CPU, which stands beside it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import backend, brief_app, envoy, http1, mesh, opaque
from benchmarks.chain import Chain
from benchmarks.loading import Asking, Turn, Turns, pairs, profile_tables, take_turns
from benchmarks.results import Bar, Row, compare
from benchmarks.works import Plan, Say, Work

LEVELS = (8, 32)
"""How many connections are open at a time."""

BARS = {"opaque": Bar(limit=3.0, at_least=True)}
_TURN_SECONDS = 3.0
"""At most: each connection leaves up to three ports of the machine waiting for a minute."""


def run(plan: Plan, say: Say) -> list[Row]:
    """Measure both kinds at all levels of ``plan`` and give the rows; what was started is stopped on leaving."""
    levels = plan.levels or LEVELS
    plan = plan.with_turn_seconds(min(plan.turn_seconds, _TURN_SECONDS))
    found = []
    for kind, start in KINDS.items():
        with start(say, False) as (folder, ours, peer):
            work = [(chain, level, asking(folder)) for level in levels for chain in (ours, peer)]
            found += rows(kind, levels, ours.name, peer.name, take_turns(plan, work, say))
    return found


def asking(folder: Path) -> Asking:
    """One short request a connection."""
    return Asking(paths=http1.PATHS[:1], folder=folder, fresh_connections=True)


@contextlib.contextmanager
def _http(say: Say, sampled: bool) -> Iterator[tuple[Path, Chain, Chain]]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(backend.folder())
        say("starting nginx, envoy and the mesh (http)")
        (port,) = stack.enter_context(backend.nginx(folder, 1))
        peer = stack.enter_context(envoy.chain(folder, "http", port, http1.PATHS[0]))
        wanted = mesh.Wanted(
            protocol="http", backend_port=port, path_templates=http1.PATH_TEMPLATES, log_level="warning"
        )
        (ours,) = stack.enter_context(mesh.chains(folder, [wanted], http1.PATHS[0], sampled=sampled))
        http1.check_duties([ours], peer)
        yield folder, ours, peer


@contextlib.contextmanager
def _opaque(say: Say, sampled: bool, *, logged: bool = False) -> Iterator[tuple[Path, Chain, Chain]]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(backend.folder())
        say(f"starting the app, envoy and the mesh (opaque{', logged' if logged else ''})")
        port = stack.enter_context(brief_app.app(folder))
        ours, peer = stack.enter_context(opaque.chains(folder, port, logged=logged, sampled=sampled))
        yield folder, ours, peer


KINDS: dict[str, Callable[[Say, bool], contextlib.AbstractContextManager[tuple[Path, Chain, Chain]]]] = {
    "opaque": _opaque,
    "opaque, logged": functools.partial(_opaque, logged=True),
    "http": _http,
}


def rows(kind: str, levels: Sequence[int], ours: str, peer: str, measured: Turns) -> list[Row]:
    """The rows of one kind: connections a second, their CPU, and how long the slowest took."""
    metrics: dict[str, Callable[[Turn], float]] = {
        "connections_per_second": lambda turn: turn.outcome.rate_per_second,
        "cpu_us_per_connection": lambda turn: turn.cpu,
        "cpu_us_per_connection_client_side": lambda turn: turn.client_side_cpu,
        "cpu_us_per_connection_server_side": lambda turn: turn.server_side_cpu,
        "p99_milliseconds": lambda turn: turn.outcome.p99_milliseconds,
    }
    found = []
    for metric, value in metrics.items():
        for level in levels:
            bar = BARS.get(kind) if metric == "connections_per_second" else None
            values = pairs(measured[ours, level], measured[peer, level], value)
            found.append(compare("connections", f"{kind}, c={level}", metric, peer, values, bar))
    return found


def profile(plan: Plan, say: Say) -> str:
    """Where each microsecond of our sidecars goes, for each kind; a request is a connection."""
    found = []
    for kind, start in KINDS.items():
        with start(say, True) as (folder, ours, _):
            table = profile_tables(ours, asking(folder), plan.levels or (32,), _TURN_SECONDS, say)
            found.append(f"{kind}\n\n{table}")
    return "\n\n".join(found)


WORK = Work(name="connections", summary="new connections of an app to a known peer", run=run, profile=profile)
