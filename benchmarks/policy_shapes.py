"""Policies of many rules, compiled and asked: the shapes that the work ``policy`` measures."""

from __future__ import annotations

import gc
import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.mesh_documents import HTTP_PORT, TCP_PORT, TRUST_DOMAIN
from benchmarks.works import BenchmarkError
from ringfence.policy.compile import compile_policy
from ringfence.policy.decide import CallerView, DecisionTable
from ringfence.policy.model import Allowlist, PolicySet, Rule, SpiffeIdPattern
from ringfence.spiffe import SpiffeId, TrustDomain

ASKED = 1000
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


MANY_CALLERS = Shape(
    name="many callers",
    rule=lambda number: _rule(number, _id(f"caller-{number}"), ["/orders/{id}", "/items/{id}/price"]),
    path=lambda _, number: f"/orders/{number}" if number % 2 else f"/items/{number}/price",
    caller=lambda count: _id(f"caller-{count // 2}"),
)
ONE_CALLER = Shape(
    name="one caller",
    rule=lambda number: _rule(number, _id("caller"), [f"/part-{number}/orders/{{id}}"]),
    path=lambda rule, number: f"/part-{rule}/orders/{number}",
    caller=lambda _: _id("caller"),
)
SHAPES = (MANY_CALLERS, ONE_CALLER)


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


def _compiled(allowlist: Allowlist) -> DecisionTable:
    return compile_policy(PolicySet(allowlists=(allowlist,)), trust_domain=_DOMAIN, http_ports=[HTTP_PORT])


def megabytes(shape: Shape, count: int) -> float:
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
