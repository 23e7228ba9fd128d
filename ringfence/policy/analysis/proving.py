"""Answers claims over the cells of a mesh's calls: proved, or a call or a way by which they do not hold. Pure.

A claim is proved only if it holds whatever conditions come to, and for callers that no service of the mesh is, too; so
a proof is no guess from examples. What a service without a sidecar permits nobody knows: it permits everything here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.cells.callers import Identity
from ringfence.policy.analysis.cells.cell import Cell, Condition
from ringfence.policy.analysis.cells.dimensions import Side
from ringfence.policy.analysis.cells.refine import Looking, cells
from ringfence.policy.analysis.claims import Claim, Denied, Invariant, NoPath, Only, Permitted, Requires
from ringfence.policy.analysis.ways import Step, ways_to
from ringfence.policy.analysis.world import World, WorldService
from ringfence.policy.decision import Decision
from ringfence.policy.model import Allowlist, Callers, PolicySet, Rule, SpiffeIdPattern

_SCOPE: Final = 1
_MUST: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A call that a counterexample is made of; ``decision`` is None where nobody enforces policy."""

    call: Call
    decision: Decision | None
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether an invariant holds. ``counterexample`` is one call, or the calls of a way one after the other; it may be
    empty where ``why`` says all. ``cells``: the classes of calls that were looked at."""

    invariant: Invariant
    holds: bool
    cells: int
    counterexample: tuple[Hop, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assuming:
    """``now``: Unix seconds. ``enforced``: services that are only observed are looked at as if that had ended."""

    now: float
    enforced: bool = False


def prove(world: World, invariant: Invariant, assuming: Assuming) -> Answer:
    """The answer; raises CellsError where a service cannot be looked at whole."""
    return _Prover(world, assuming).answer(invariant)


class _Prover:
    def __init__(self, world: World, assuming: Assuming) -> None:
        self._world = world
        self._assuming = assuming
        self._count = 0

    def answer(self, invariant: Invariant) -> Answer:
        claim = invariant.claim
        if isinstance(claim, NoPath):
            return self._answer_no_path(invariant, claim)
        seen = False
        for name in invariant.services:
            service = self._known(name)
            if not service.has_sidecar:
                return self._fails(invariant, (), f"{name} has no sidecar, so nobody enforces policy there")
            for cell in self._cells(service, *_policies(claim)):
                in_scope = cell.decisions[_SCOPE].permitted
                seen = seen or in_scope
                if in_scope and _breaks(claim, cell):
                    return self._fails(invariant, (_hop(cell),), _why(claim))
        if isinstance(claim, Permitted) and not seen:
            return self._fails(invariant, (), "there is no such call: nothing that its services take is in its scope")
        return Answer(invariant=invariant, holds=True, cells=self._count)

    def _answer_no_path(self, invariant: Invariant, claim: NoPath) -> Answer:
        targets, through = frozenset(invariant.services), frozenset(claim.through)
        steps = self._steps(claim.callers, targets | through)
        way = ways_to(self._world, steps, targets, through)
        if way is None:
            return Answer(invariant=invariant, holds=True, cells=self._count)
        return self._fails(invariant, tuple(_hop_of(step) for step in way), "there is a way")

    def _steps(self, origins: tuple[Callers, ...], apart: frozenset[str]) -> list[Step]:
        """Who may call which service; where a way may begin is said with each.

        A way begins in none of the services ``apart``. So these are kept from callers that rules cannot tell from them:
        such a service must not stand for others, with which a way may begin.
        """
        found: list[Step] = []
        policies = [_only(Rule(name="origin", callers=origins))]
        identities = [service.spiffe_id for service in self._world.services if service.full_name in apart]
        if identities:
            exact = (SpiffeIdPattern(trust_domain=one.trust_domain, segments=one.segments) for one in identities)
            policies.append(_only(Rule(name="apart", callers=tuple(exact))))
        for service in self._world.services:
            # Without a sidecar anybody may call it, as far as anybody knows.
            judged = service.has_sidecar
            for cell in self._cells(replace(service, has_sidecar=True), *policies, focus=None):
                if cell.decisions[0].permitted or not judged:
                    begins = cell.decisions[_SCOPE].permitted
                    found += [Step(service.full_name, one, begins, cell, judged) for one in cell.callers]
        return found

    def _cells(self, service: WorldService, *others: PolicySet, focus: int | None = _SCOPE) -> Iterator[Cell]:
        policy = replace(service.policy, observe_until=None) if self._assuming.enforced else service.policy
        known = [Identity(one.spiffe_id, one.full_name) for one in self._world.services]
        sides = [Side(trust_domain=self._world.trust_domain, service=service, policy=one) for one in (policy, *others)]
        for cell in cells(service.full_name, sides, Looking(known=known, now=self._assuming.now, focus=focus)):
            self._count += 1
            yield cell

    def _known(self, name: str) -> WorldService:
        service = self._world.service(name)
        if service is None:
            raise AssertionError(f"an invariant about {name}, which the world does not have")
        return service

    def _fails(self, invariant: Invariant, hops: Sequence[Hop], why: str) -> Answer:
        return Answer(invariant=invariant, holds=False, cells=self._count, counterexample=tuple(hops), why=why)


def _policies(claim: Claim) -> Iterator[PolicySet]:
    """The scope, and what a call in it must be, as policies that permit just that."""
    if isinstance(claim, NoPath):
        return
    yield _only(claim.scope)
    if isinstance(claim, Requires):
        yield _only(Rule(name="must", callers=claim.callers, token=claim.token))
    elif isinstance(claim, Only):
        yield _only(Rule(name="must", callers=claim.callers))


def _only(rule: Rule) -> PolicySet:
    return PolicySet(allowlists=(Allowlist(namespace="invariant", name=rule.name, rules=(rule,)),))


def _breaks(claim: Claim, cell: Cell) -> bool:
    permitted = cell.decisions[0].permitted
    if isinstance(claim, Permitted):
        return not permitted
    if isinstance(claim, Denied):
        return permitted
    return permitted and not cell.decisions[_MUST].permitted


def _why(claim: Claim) -> str:
    match claim:
        case Permitted():
            return "a call is denied"
        case Requires(token=token):
            return "a call is permitted without " + ("such a token" if token is not None else "an identity")
        case Only():
            return "another caller is permitted"
    return "a call is permitted"


def _hop(cell: Cell) -> Hop:
    return Hop(call=cell.call, decision=cell.decisions[0], conditions=cell.conditions)


def _hop_of(step: Step) -> Hop:
    call = replace(step.cell.call, caller=step.caller.spiffe_id)
    if not step.judged:
        return Hop(call=call, decision=None)
    return Hop(call=call, decision=step.cell.decisions[0], conditions=step.cell.conditions)


def prove_all(world: World, invariants: Iterable[Invariant], assuming: Assuming) -> list[Answer]:
    """The answers, in the order of ``invariants``."""
    return [prove(world, invariant, assuming) for invariant in invariants]
