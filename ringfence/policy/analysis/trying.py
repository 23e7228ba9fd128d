"""Tries cases in a world: which came out as expected, and which rules none of them spoke to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ringfence.policy.analysis.calls import Call, Judge, UnknownServiceError
from ringfence.policy.analysis.cases import TestCase, Verdict
from ringfence.policy.analysis.matching import Matcher
from ringfence.policy.analysis.naming import WordError, call_of, choose_among
from ringfence.policy.analysis.world import NamedRule, World, rules_of
from ringfence.policy.decision import Decision, Permit
from ringfence.policy.problems import Place, Problem, shown
from ringfence.policy.reasons import DenyReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a case; ``rule`` is the one that decided, or came nearest, by its full name."""

    case: TestCase
    call: Call
    decision: Decision
    verdict: Verdict
    reason: DenyReason | None
    rule: str | None
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """A rule, where it stands, and how many cases it speaks of; one that stands at several services counts once."""

    named: NamedRule
    place: Place | None
    cases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """All outcomes in the order of the cases, and all rules of the world by name."""

    outcomes: tuple[Outcome, ...]
    exercises: tuple[Exercise, ...]

    @property
    def failed(self) -> int:
        """How many cases did not come out as expected."""
        return sum(not outcome.passed for outcome in self.outcomes)

    @property
    def exercised(self) -> int:
        """How many rules some case speaks to."""
        return sum(exercise.cases > 0 for exercise in self.exercises)

    def covers(self, percent: int) -> bool:
        """Whether at least ``percent`` of all rules are exercised; of no rules all are."""
        return self.exercised * 100 >= percent * len(self.exercises)


def try_cases(cases: Iterable[TestCase], world: World) -> tuple[Trial, list[Problem]]:
    """Judge each case; a problem for each that names what is not there, and then the trial is good for nothing."""
    problems: list[Problem] = []
    judge = Judge(world)
    matchers = {service.full_name: Matcher(world, service) for service in world.services if service.has_sidecar}
    rules = {name: rules_of(matcher.service.policy) for name, matcher in matchers.items()}
    known = {one.full_name for named in rules.values() for one in named}
    spoken: dict[NamedRule, int] = {one: 0 for named in rules.values() for one in named}
    outcomes: list[Outcome] = []
    for case in cases:
        wanted = case.expect.rule
        if wanted is not None and wanted not in known:
            mend = choose_among(wanted, sorted(known)) or "there are no rules"
            problems.append(case.places["rule"].problem(f"there is no rule {shown(wanted)}", mend))
        try:
            call = call_of(case.words, world)
            decision = judge.judge(call)
        except WordError as error:
            problems.append(case.places.get(error.part, case.place).problem(error.message, error.mend))
            continue
        except UnknownServiceError as error:
            problems.append(case.places["service"].problem(str(error), "try a service that has one"))
            continue
        outcomes.append(_outcome(case, call, decision))
        matcher = matchers[call.service]
        for one in rules[call.service]:
            spoken[one] += matcher.matches(one, call)
    exercises = [Exercise(named=one, place=world.place(one), cases=cases) for one, cases in spoken.items()]
    exercises.sort(key=lambda exercise: (exercise.named.full_name, exercise.named.effect))
    return Trial(outcomes=tuple(outcomes), exercises=_joined(exercises)), sorted(problems)


def _joined(exercises: Sequence[Exercise]) -> tuple[Exercise, ...]:
    """One for each name and effect: a rule that stands at several services may have been resolved to several."""
    found: dict[tuple[str, str], Exercise] = {}
    for one in exercises:
        key = one.named.full_name, one.named.effect
        held = found.get(key)
        cases = one.cases + (held.cases if held is not None else 0)
        found[key] = Exercise(named=one.named, place=one.place, cases=cases)
    return tuple(found.values())


def _outcome(case: TestCase, call: Call, decision: Decision) -> Outcome:
    reason: DenyReason | None = None
    if not isinstance(decision, Permit):
        verdict, rule, reason = Verdict.DENY, decision.nearest, decision.reason
    elif decision.would_deny is not None:
        verdict, rule, reason = Verdict.WOULD_DENY, decision.nearest, decision.would_deny
    else:
        verdict, rule = Verdict.PERMIT, decision.rule_name
    expect = case.expect
    passed = expect.verdict is verdict and expect.reason in (None, reason) and expect.rule in (None, rule)
    return Outcome(case=case, call=call, decision=decision, verdict=verdict, reason=reason, rule=rule, passed=passed)
