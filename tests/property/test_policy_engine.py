"""The engine against a second judge, over policies of every word of the model; and what must hold of any policy."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ringfence.policy.decide import Deny, DenyReason, Permit
from ringfence.policy.facts import NO_FACTS, KnownFacts
from ringfence.policy.model import Allowlist, Denylist, PolicySet, Rule
from tests.policy_worlds import NOW, POLICIES, ask, calls, compiled, meaning
from tests.reference_policy import Asked, agrees

MANY = calls(60)
# Without shrinking: that takes minutes here, and a failure names the one call that it is about.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=300, deadline=None, phases=PHASES)
@given(POLICIES, MANY)
def test_the_engine_agrees_with_a_second_judge(policy: PolicySet, many: list[Asked]) -> None:
    """Every call twice: fresh, and as remembered."""
    table, reference = compiled(policy), meaning(policy)
    for asked in many:
        expected = reference.decide(asked)
        found = ask(table, asked)
        assert agrees(found, expected), (asked, found, expected)
        assert ask(table, asked) == found


@settings(max_examples=30, deadline=None, phases=PHASES)
@given(POLICIES, MANY)
def test_what_is_remembered_is_what_would_be_said_afresh(policy: PolicySet, many: list[Asked]) -> None:
    table = compiled(policy)
    for asked in many:
        ask(table, asked)
    for asked in many[:12]:
        # The same place with other facts, and the same facts at another place: none may answer for the other.
        for other in many[12:16]:
            mixed = replace(asked, facts=other.facts, address=other.address)
            assert ask(table, mixed) == ask(compiled(policy), mixed), mixed


@settings(max_examples=30, deadline=None, phases=PHASES)
@given(POLICIES, MANY, st.integers(0, 2**32).map(random.Random))
def test_no_order_can_be_seen(policy: PolicySet, many: list[Asked], dice: random.Random) -> None:
    def shuffled(values: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(dice.sample(values, len(values)))

    def any_rule(rule: Rule) -> Rule:
        parts = ("callers", "ports", "methods", "paths", "hosts", "headers", "grpc")
        return replace(rule, **{part: shuffled(getattr(rule, part)) for part in parts})

    def any_list(each: Allowlist | Denylist) -> Allowlist | Denylist:
        return replace(each, rules=shuffled(tuple(map(any_rule, each.rules))))  # type: ignore[arg-type]

    other = replace(
        policy,
        allowlists=shuffled(tuple(map(any_list, policy.allowlists))),
        denylists=shuffled(tuple(map(any_list, policy.denylists))),
    )
    one, two = compiled(policy), compiled(other)
    answers = {number: ask(two, many[number]) for number in shuffled(tuple(range(len(many))))}  # type: ignore[index]
    assert [ask(one, asked) for asked in many] == [answers[number] for number in range(len(many))]


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(POLICIES, POLICIES, MANY)
def test_deny_beats_allow_whatever_is_allowed(policy: PolicySet, more: PolicySet, many: list[Asked]) -> None:
    """What a denylist refuses stays refused under whatever further rules permit, and by the same rule."""
    added = tuple(replace(each, name=f"more-{each.name}") for each in more.allowlists)
    before, after = compiled(policy), compiled(replace(policy, allowlists=policy.allowlists + added))
    for asked in many:
        found = ask(before, asked)
        if isinstance(found, Deny) and found.reason is DenyReason.DENYLISTED:
            assert ask(after, asked) == found, asked
        elif isinstance(found, Permit) and found.would_deny is None:
            assert ask(after, asked).permitted, "and an allow rule more refuses nothing"


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(POLICIES, POLICIES, MANY)
def test_a_deny_rule_more_permits_nothing_more(policy: PolicySet, more: PolicySet, many: list[Asked]) -> None:
    added = tuple(replace(each, name=f"more-{each.name}") for each in more.denylists)
    before, after = compiled(policy), compiled(replace(policy, denylists=policy.denylists + added))
    for asked in many:
        if not ask(before, asked).permitted:
            assert not ask(after, asked).permitted, asked


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(POLICIES, MANY)
def test_nothing_is_permitted_by_a_fact_that_is_missing(policy: PolicySet, many: list[Asked]) -> None:
    """Without any facts no rule permits that asks for a host, a value of a header or a token, and nothing is observed.

    What rules permit that ask for the absence of something may well be permitted, so these are left out.
    """
    permits = {f"{each.full_name}/{rule.name}": rule for each in policy.allowlists for rule in each.rules}
    table = compiled(policy)
    for asked in many:
        found = ask(table, replace(asked, facts=NO_FACTS, address=""))
        if isinstance(found, Permit):
            assert found.would_deny is None
            rule = permits[found.rule_name]
            assert not rule.hosts
            assert rule.token is None
            assert not any(match.values or match.present for match in rule.headers)
            assert "now" not in rule.when
            assert "source.address ==" not in rule.when or asked.method == "GET"


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(POLICIES, MANY)
def test_views_that_read_no_facts_say_the_same_under_all(policy: PolicySet, many: list[Asked]) -> None:
    table = compiled(policy)
    for asked in many:
        view = table.caller(asked.caller, asked.address)
        if not view.reads_facts or not table.reads_facts(asked.port):
            assert ask(table, asked) == ask(table, replace(asked, facts=NO_FACTS)), asked


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(POLICIES, MANY)
def test_who_may_send_nothing_is_permitted_nothing(policy: PolicySet, many: list[Asked]) -> None:
    table = compiled(policy)
    for asked in many:
        if ask(table, asked).permitted:
            assert table.caller(asked.caller, asked.address).may_send(asked.port), asked


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(POLICIES, MANY)
def test_only_time_that_is_told_of_changes_a_verdict(policy: PolicySet, many: list[Asked]) -> None:
    table = compiled(policy)
    at = table.changes_at(NOW)
    assert at == policy.observe_until
    if not table.uses_time:
        for asked in many:
            facts = asked.facts
            assert isinstance(facts, KnownFacts)
            until = at if at is not None else NOW + 1e6
            earlier, later = (replace(asked, facts=replace(facts, now=now)) for now in (NOW, until - 1))
            assert ask(table, earlier) == ask(table, later), asked
