"""Tries cases in a world: which came out as expected, and which rules none of them spoke to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ringfence.policy.analysis.calls import Call, Judge, UnknownServiceError
from ringfence.policy.analysis.cases import TestCase, Verdict
from ringfence.policy.analysis.coverage import spoken_to
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
    """A rule, where it stands, and whether it speaks of some case; one that stands at several services counts once."""

    named: NamedRule
    place: Place | None
    is_exercised: bool


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
        return sum(exercise.is_exercised for exercise in self.exercises)

    def covers(self, percent: int) -> bool:
        """Whether at least ``percent`` of all rules are exercised; of no rules all are."""
        return self.exercised * 100 >= percent * len(self.exercises)


def try_cases(cases: Iterable[TestCase], world: World) -> tuple[Trial, list[Problem]]:
    """Judge each case; a problem for each that names what is not there, and then the trial is good for nothing."""
    problems: list[Problem] = []
    judge = Judge(world)
    matchers = {service.full_name: Matcher(world, service) for service in world.services if service.has_sidecar}
    known = {one.full_name for matcher in matchers.values() for one in rules_of(matcher.service.policy)}
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
    return Trial(outcomes=tuple(outcomes), exercises=_exercises(world, matchers, outcomes)), sorted(problems)


def _exercises(world: World, matchers: Mapping[str, Matcher], outcomes: Iterable[Outcome]) -> tuple[Exercise, ...]:
    """All rules in order of their names; one of several services may have been resolved differently at each."""
    calls: dict[str, list[Call]] = {}
    for outcome in outcomes:
        calls.setdefault(outcome.call.service, []).append(outcome.call)
    spoken = {key for service, made in calls.items() for key in spoken_to(matchers[service], made)}
    named = {
        (one.full_name, one.effect): one for matcher in matchers.values() for one in rules_of(matcher.service.policy)
    }
    return tuple(
        Exercise(named=one, place=world.place(one), is_exercised=(effect, name) in spoken)
        for (name, effect), one in sorted(named.items(), key=lambda item: item[0])
    )


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
