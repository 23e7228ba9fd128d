"""``prove`` against brute force: every claim about a small world is answered as all of its calls answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ringfence.policy.analysis.claims import Claim, Denied, Invariant, NoPath, Only, Permitted, Requires
from ringfence.policy.analysis.invariants import EVERYBODY
from ringfence.policy.analysis.proving import Answer, Assuming, Hop, prove
from ringfence.policy.model import (
    Allowlist,
    Callers,
    NamespaceCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TokenMatch,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.problems import Place
from ringfence.spiffe import SpiffeId
from tests.reference_policy import Asked, Reference
from tests.small_world import (
    COMPLETE,
    FOREIGN,
    HEADERS,
    NAMED,
    NAMES,
    NOW,
    OWN,
    TEMPLATES,
    TOKEN_MATCHES,
    WHOLE,
    Brute,
    Language,
    policies,
    some,
    world,
)

WITHOUT_TRACING = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
SERVICES = [f"n/{name}" for name in NAMES]
PLAIN = Language()

WHOM: st.SearchStrategy[tuple[Callers, ...]] = st.just(EVERYBODY) | some(NAMED, least=1)  # type: ignore[assignment]
SCOPES = st.builds(
    lambda callers, ports, methods, paths, headers: Rule(
        name="scope", callers=callers, ports=ports, methods=methods, paths=paths, headers=headers
    ),
    WHOM,
    some(st.sampled_from([80, 90, 95, 99]), 1),
    some(st.sampled_from(["GET", "POST"]), 1),
    some(TEMPLATES, 1),
    st.just(()) | some(HEADERS, 1),
)
CLAIMS: st.SearchStrategy[Claim] = st.one_of(
    st.builds(lambda scope: Denied(scope=scope), SCOPES),
    st.builds(lambda scope: Permitted(scope=scope), SCOPES),
    st.builds(
        lambda scope, callers, token: Requires(scope=scope, callers=callers, token=token),
        SCOPES,
        WHOM,
        st.none() | st.just(TokenMatch()) | TOKEN_MATCHES,
    ),
    st.builds(lambda scope, callers: Only(scope=scope, callers=callers), SCOPES, WHOM),
)


def only(rule: Rule) -> PolicySet:
    return PolicySet(allowlists=(Allowlist(namespace="i", name=rule.name, rules=(rule,)),))


def holds(claim: Claim, policy: PolicySet) -> bool:
    """What all calls to a service say of a claim."""
    assert not isinstance(claim, NoPath)
    must = Rule(name="must", callers=EVERYBODY)
    if isinstance(claim, Requires):
        must = replace(must, callers=claim.callers, token=claim.token)
    elif isinstance(claim, Only):
        must = replace(must, callers=claim.callers)
    brute = Brute([policy, only(claim.scope), only(must)], COMPLETE)
    in_scope = {
        (permitted, as_claimed)
        for caller in COMPLETE.callers
        for permitted, scope, as_claimed in brute.outcomes(caller)
        if scope
    }
    if isinstance(claim, Permitted):
        return bool(in_scope) and all(permitted for permitted, _ in in_scope)
    if isinstance(claim, Denied):
        return not any(permitted for permitted, _ in in_scope)
    return all(as_claimed for permitted, as_claimed in in_scope if permitted)


def answered(claim: Claim, given_policies: Mapping[str, PolicySet], *services: str) -> Answer:
    invariant = Invariant(name="n/i", place=Place("i.yaml", 1, 1), services=services, claim=claim)
    return prove(world(given_policies), invariant, Assuming(now=NOW))


def is_permitted(hop: Hop, policy: PolicySet) -> bool:
    true = frozenset(one.text for one in hop.conditions if one.value)
    return Brute([policy], COMPLETE).one(hop.call, true)[0]


@settings(max_examples=80, deadline=None, phases=WITHOUT_TRACING)
@given(claim=CLAIMS, policy=policies(WHOLE) | policies(PLAIN))
def test_a_claim_about_calls_is_answered_as_all_calls_say(claim: Claim, policy: PolicySet) -> None:
    answer = answered(claim, {"ledger": policy}, "n/ledger")

    assert answer.holds == holds(claim, policy)
    for hop in answer.counterexample:
        assert is_permitted(hop, policy) != isinstance(claim, Permitted)


@settings(max_examples=80, deadline=None, phases=WITHOUT_TRACING)
@given(
    callers=WHOM,
    through=some(st.sampled_from(SERVICES), 2),
    target=st.sampled_from(SERVICES),
    given_policies=st.fixed_dictionaries({name: policies(Language(denylists=False)) for name in NAMES}),
)
def test_a_way_is_found_just_where_calls_make_one(
    callers: tuple[Callers, ...], through: tuple[str, ...], target: str, given_policies: dict[str, PolicySet]
) -> None:
    answer = answered(NoPath(callers=callers, through=through), given_policies, target)

    assert answer.holds == (target not in reached(callers, set(through), target, given_policies))
    ends = [hop.call.service for hop in answer.counterexample]
    assert answer.holds or ends[-1] == target
    assert not set(ends[:-1]) & {*through, target}
    for number, hop in enumerate(answer.counterexample):
        assert is_permitted(hop, given_policies[hop.call.service.removeprefix("n/")])
        if number and hop.call.caller is not None:
            assert hop.call.caller == identity(ends[number - 1])


def test_a_service_does_not_stand_for_others_of_its_account() -> None:
    """Nobody but the target itself is known of these callers; another of them may call it all the same."""
    of_that_account = SpiffeIdPattern(trust_domain=OWN, segments=("ns", "*", "sa", "orders"))
    anybody = only(Rule(name="r", callers=(TrustDomainCallers(trust_domain=OWN),)))
    answer = answered(NoPath(callers=(of_that_account,)), {"orders": anybody}, "n/orders")

    assert [str(hop.call.caller) for hop in answer.counterexample] == ["spiffe://own.example/ns/other/sa/orders"]


def test_whoever_may_be_called_without_an_identity_may_be_called_by_all() -> None:
    nameless = only(Rule(name="r", callers=(UnauthenticatedCallers(),), ports=(90,)))
    answer = answered(NoPath(callers=(NamespaceCallers(namespace="m"),)), {"ledger": nameless}, "n/ledger")

    assert [hop.call.caller for hop in answer.counterexample] == [None]


def test_a_service_without_a_sidecar_permits_everything_as_far_as_anybody_knows() -> None:
    by_orders = only(
        Rule(name="r", callers=(SpiffeIdPattern(trust_domain=OWN, segments=identity("n/orders").segments),))
    )
    one = world({"ledger": by_orders})
    bare = replace(
        one, services=tuple(replace(each, has_sidecar=each.full_name != "n/orders") for each in one.services)
    )
    foreigner = (TrustDomainCallers(trust_domain=FOREIGN),)

    def answer(claim: Claim, service: str) -> Answer:
        invariant = Invariant(name="n/i", place=Place("i.yaml", 1, 1), services=(service,), claim=claim)
        return prove(bare, invariant, Assuming(now=NOW))

    found = answer(NoPath(callers=foreigner), "n/ledger")
    assert [(hop.call.service, hop.decision is None) for hop in found.counterexample] == [
        ("n/orders", True),
        ("n/ledger", False),
    ]
    assert answer(NoPath(callers=foreigner, through=("n/orders",)), "n/ledger").holds
    denied = answer(Denied(scope=Rule(name="scope", callers=EVERYBODY)), "n/orders")
    assert (denied.holds, denied.why) == (False, "n/orders has no sidecar, so nobody enforces policy there")


def identity(service: str) -> SpiffeId:
    return SpiffeId.workload(OWN, "n", service.removeprefix("n/"))


def reached(
    callers: tuple[Callers, ...], through: set[str], target: str, given_policies: Mapping[str, PolicySet]
) -> set[str]:
    """All services to which a way leads that is by way of none of ``through``, by a fixed point."""
    may_call = {
        (caller, f"n/{name}")
        for name, policy in given_policies.items()
        for brute in [Brute([policy], COMPLETE)]
        for caller in COMPLETE.callers
        if any(permitted for (permitted,) in brute.outcomes(caller))
    }
    reference = Reference(policy=PolicySet(), trust_domain=OWN)
    held: set[SpiffeId | None] = {None}
    for caller in COMPLETE.callers:
        asked = Asked(caller=caller, port=0, method=None)
        within = caller is not None and caller in [identity(one) for one in (*through, target)]
        if not within and any(reference.names(one, asked) for one in callers):
            held.add(caller)
    found: set[str] = set()
    while True:
        more = {service for caller, service in may_call if caller in held} - found
        if not more:
            return found
        found |= more
        held |= {identity(service) for service in more if service not in through and service != target}
