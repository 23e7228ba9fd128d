"""A decision under 10,000 rules against one under 10, in one process: the part of the product that decides, by itself.

Two shapes of policy. ``many callers``: each rule names a caller of its own, and one of them asks. ``one caller``: every
rule names the caller who asks, each with a path template of its own. Both are asked for 1,000 paths in turn, which are
all permitted. ``remembered``: decided before; ``fresh``: paths that were never asked for. ``connection``: a caller is
looked up and an opaque connection of it judged, as at the opening of a stream. All in CPU time: a burst takes a few
milliseconds, and what else runs on the machine would come down on one of the two.

What grows with the rules stands below, without a bar: the time to compile, the first decision after it (which makes a
caller's tables) and the memory that a compiled policy holds.
"""

from __future__ import annotations

import gc
import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.mesh_documents import HTTP_PORT, TCP_PORT, TRUST_DOMAIN
from benchmarks.results import Bar, Pair, Row, compare
from benchmarks.works import BenchmarkError, Plan, Say, Work, turns
from ringfence.policy.compile import compile_policy
from ringfence.policy.decide import CallerView, DecisionTable
from ringfence.policy.model import Allowlist, PolicySet, Rule, SpiffeIdPattern
from ringfence.spiffe import SpiffeId, TrustDomain

FEW, MANY = 10, 10_000
BAR = Bar(limit=1.2)
ASKED = 1000
_BURSTS = 30
_DOMAIN = TrustDomain.parse(TRUST_DOMAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A way to make a policy of so many rules: ``rule`` number n of them, and the paths that rule n permits."""

    name: str
    rule: Callable[[int], Rule]
    path: Callable[[int, int], str]
    caller: Callable[[int], SpiffeId]

    def allowlist(self, count: int) -> Allowlist:
        return Allowlist(namespace="default", name="api-callers", rules=tuple(map(self.rule, range(count))))

    def paths(self, count: int, first: int) -> list[bytes]:
        """``ASKED`` paths, numbered from ``first``, that the caller of the middle of ``count`` rules may ask for."""
        every = max(1, count // ASKED)
        rules = itertools.cycle(range(0, count, every))
        return [self.path(next(rules), first + number).encode() for number in range(ASKED)]


def _id(name: str) -> SpiffeId:
    return SpiffeId.workload(_DOMAIN, "default", name)


def _rule(number: int, caller: SpiffeId, paths: Sequence[str]) -> Rule:
    pattern = SpiffeIdPattern(trust_domain=caller.trust_domain, segments=caller.segments)
    return Rule(
        name=f"rule-{number}", callers=(pattern,), ports=(HTTP_PORT,), methods=("GET", "POST"), paths=tuple(paths)
    )


SHAPES = (
    Shape(
        name="many callers",
        rule=lambda number: _rule(number, _id(f"caller-{number}"), ["/orders/{id}", "/items/{id}/price"]),
        path=lambda _, number: f"/orders/{number}" if number % 2 else f"/items/{number}/price",
        caller=lambda count: _id(f"caller-{count // 2}"),
    ),
    Shape(
        name="one caller",
        rule=lambda number: _rule(number, _id("caller"), [f"/part-{number}/orders/{{id}}"]),
        path=lambda rule, number: f"/part-{rule}/orders/{number}",
        caller=lambda _: _id("caller"),
    ),
)


class Judge:
    """One compiled policy, and how long it takes to judge."""

    def __init__(self, shape: Shape, count: int) -> None:
        self._shape = shape
        self._count = count
        self._numbers = itertools.count(0, ASKED)
        allowlist = shape.allowlist(count)
        gc.collect()
        started = time.perf_counter()
        self.table = _compiled(allowlist)
        compiled = time.perf_counter()
        self.caller = shape.caller(count)
        self._view: CallerView = self.table.caller(self.caller)
        known = shape.paths(count, next(self._numbers))
        self._ask(known[:1])
        self.first_seconds = time.perf_counter() - compiled
        self.compile_seconds = compiled - started
        self._known = known
        if not all(self._view.request(HTTP_PORT, b"GET", path).permitted for path in known):
            raise BenchmarkError(f"{shape.name}: a path that is to be permitted is not")
        if self._view.request(HTTP_PORT, b"DELETE", known[0]).permitted:
            raise BenchmarkError(f"{shape.name}: a method that is to be denied is not")

    def _ask(self, paths: Iterable[bytes]) -> None:
        request = self._view.request
        for path in paths:
            request(HTTP_PORT, b"GET", path)

    def remembered(self) -> float:
        """CPU seconds a decision that was made before."""
        started = time.thread_time()
        self._ask(self._known)
        return (time.thread_time() - started) / ASKED

    def fresh(self) -> float:
        """CPU seconds a decision on a path that was never asked for."""
        paths = self._shape.paths(self._count, next(self._numbers))
        started = time.thread_time()
        self._ask(paths)
        return (time.thread_time() - started) / ASKED

    def connection(self) -> float:
        """CPU seconds to find a caller and judge an opaque connection of it."""
        table, caller = self.table, self.caller
        started = time.thread_time()
        for _ in range(ASKED):
            table.caller(caller).connection(TCP_PORT)
        return (time.thread_time() - started) / ASKED


KINDS: dict[str, Callable[[Judge], float]] = {
    "remembered": Judge.remembered,
    "fresh": Judge.fresh,
    "connection": Judge.connection,
}


def _compiled(allowlist: Allowlist) -> DecisionTable:
    return compile_policy(PolicySet(allowlists=(allowlist,)), trust_domain=_DOMAIN, http_ports=[HTTP_PORT])


def run(plan: Plan, say: Say) -> list[Row]:
    """Measure each shape and give the rows."""
    found: list[Row] = []
    for shape in SHAPES:
        rounds = [_round(shape, number) for number, _ in turns([FEW, MANY], plan.rounds)]
        found += _rows(shape.name, rounds)
        say(f"judged by rules of {shape.name}")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of one shape: microseconds a decision by kind, milliseconds to compile and to decide first, MiB."""

    decision: dict[str, Pair]
    compile_milliseconds: Pair
    first_milliseconds: Pair
    megabytes: Pair


def _round(shape: Shape, number: int) -> Round:
    """Compile both policies anew and ask them in turns, in short bursts; who is first changes with every burst."""
    many, few = Judge(shape, MANY), Judge(shape, FEW)
    gc.collect()
    gc.disable()  # a sidecar's collector hardly runs either, and would come down on one of the two here
    try:
        decision = {kind: _bursts(kind, few, many, number) for kind in KINDS}
    finally:
        gc.enable()
    return Round(
        decision=decision,
        compile_milliseconds=Pair(ours=many.compile_seconds * 1e3, theirs=few.compile_seconds * 1e3),
        first_milliseconds=Pair(ours=many.first_seconds * 1e3, theirs=few.first_seconds * 1e3),
        megabytes=Pair(ours=_megabytes(shape, MANY), theirs=_megabytes(shape, FEW)),
    )


def _bursts(kind: str, few: Judge, many: Judge, number: int) -> Pair:
    timed: dict[Judge, list[float]] = {few: [], many: []}
    for judge in _alternating(few, many, number):
        timed[judge].append(KINDS[kind](judge) * 1e6)
    return Pair(ours=median(timed[many]), theirs=median(timed[few]))


def _alternating(few: Judge, many: Judge, number: int) -> Iterator[Judge]:
    for burst in range(number, number + _BURSTS):
        yield from (few, many) if burst % 2 else (many, few)


def _megabytes(shape: Shape, count: int) -> float:
    """What a compiled policy holds once its asking caller has been judged, without the model that it was made of."""
    allowlist = shape.allowlist(count)
    paths = shape.paths(count, 0)[:1]
    gc.collect()
    tracemalloc.start()
    try:
        table = _compiled(allowlist)
        table.caller(shape.caller(count)).request(HTTP_PORT, b"GET", paths[0])
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / 2**20
    finally:
        tracemalloc.stop()


def _rows(shape: str, rounds: Sequence[Round]) -> list[Row]:
    peer = f"{FEW} rules"
    found = [
        compare(
            "policy",
            f"{kind}, {shape}",
            f"decision_us_{MANY}_rules",
            peer,
            [each.decision[kind] for each in rounds],
            BAR,
        )
        for kind in KINDS
    ]
    growing: dict[str, Callable[[Round], Pair]] = {
        "compile_milliseconds": lambda each: each.compile_milliseconds,
        "first_decision_milliseconds": lambda each: each.first_milliseconds,
        "compiled_megabytes": lambda each: each.megabytes,
    }
    for metric, value in growing.items():
        found.append(compare("policy", shape, f"{metric}_{MANY}_rules", peer, [value(each) for each in rounds]))
    return found


WORK = Work(name="policy", summary="a decision under 10,000 rules against one under 10", run=run)
