"""What policy tools say is what the engine does: the verdict, and that what is shown as enough is enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.differing import Dimension, NearRule
from ringfence.policy.analysis.explain import explain
from ringfence.policy.analysis.world import World, WorldPort, WorldService
from ringfence.policy.compile import compile_policy
from ringfence.policy.decision import Decision, Permit
from ringfence.policy.model import (
    Allowlist,
    Callers,
    NamespaceCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.spiffe import SpiffeId, TrustDomain

OWN, OTHER = TrustDomain("own.example"), TrustDomain("other.example")
NAMED: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        lambda domain, name, account: SpiffeIdPattern(trust_domain=domain, segments=("ns", name, "sa", account)),
        st.sampled_from([OWN, OTHER]),
        st.sampled_from("nm*"),
        st.sampled_from("st*"),
    ),
    st.builds(NamespaceCallers, namespace=st.sampled_from("nm")),
    st.builds(TrustDomainCallers, trust_domain=st.sampled_from([OWN, OTHER])),
    st.builds(UnauthenticatedCallers),
)
CALLERS: st.SearchStrategy[Callers] = NAMED
PATHS = ("/", "/a", "/a/", "/a/{x}", "/*/b", "/b/**", "/a/b;v=1")
PORTS = (
    WorldPort(port=80, protocol="http"),
    WorldPort(port=81, protocol="grpc", permissive=True),
    WorldPort(port=90, protocol="tcp"),
    WorldPort(port=91, protocol="tcp", permissive=True),
    WorldPort(port=95, protocol="auto"),
)


def some(values: Any, least: int = 0) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=least, max_size=2, unique=True).map(tuple)


def rules(name: str) -> st.SearchStrategy[Rule]:
    return st.builds(
        Rule,
        name=st.just(name),
        callers=some(CALLERS, 1),
        ports=some(st.sampled_from([80, 81, 90, 91, 95, 99])),
        methods=some(st.sampled_from(["GET", "POST", "PUT"])),
        paths=some(st.sampled_from(PATHS)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    allowlists = tuple(
        Allowlist(
            namespace="n", name=name, rules=tuple(draw(rules(word)) for word in draw(some(st.sampled_from("abcd"))))
        )
        for name in draw(some(st.sampled_from("pqr")))
    )
    policy = PolicySet(allowlists=allowlists)
    ports = draw(st.lists(st.sampled_from(PORTS), unique=True, max_size=4).map(tuple))
    spiffe_id = SpiffeId.parse("spiffe://own.example/ns/n/sa/s")
    service = WorldService(namespace="n", name="s", spiffe_id=spiffe_id, ports=ports, policy=policy)
    return World(trust_domain=OWN, services=(service,))


CALLS = st.builds(
    Call,
    caller=st.sampled_from(
        [
            None,
            *(
                SpiffeId.parse(f"spiffe://{domain}{path}")
                for domain in ("own.example", "other.example", "third.example")
                for path in ("/ns/n/sa/s", "/ns/m/sa/t", "/ns/n", "/x")
            ),
        ]
    ),
    service=st.just("n/s"),
    port=st.sampled_from([80, 81, 90, 91, 95, 99]),
    method=st.sampled_from(["GET", "PUT", "DELETE", "OPTIONS"]),
    path=st.sampled_from(["/", "/a", "/a/b", "/a//b", "/a/../b", "/b/c/d?q", "*", "/ü"]),
    opaque=st.booleans(),
)


def by_engine(world: World, policy: PolicySet, call: Call) -> Decision | None:
    """The engine's own word; None where a sidecar would not ask it."""
    (service,) = world.services
    port = next((port for port in service.ports if port.port == call.port), None)
    if port is None or (call.caller is None and not port.permissive):
        return None
    http_ports = [port.port for port in service.ports if port.protocol in ("http", "grpc")]
    view = compile_policy(
        policy, trust_domain=OWN, http_ports=http_ports, service="n/s", issuers=service.token_issuers
    ).caller(call.caller, call.address)
    if call.opaque or port.protocol == "tcp":
        return view.connection(call.port, replace(call, opaque=True).facts)
    return view.request(call.port, call.method.encode(), call.path.encode(), call.facts)


def can_be_mended(world: World, rule: Rule) -> bool:
    """Whether some call exists of which the rule speaks, and no condition hides which."""
    if rule.when:
        return False
    (service,) = world.services
    for port in service.ports:
        fits = (not rule.ports or port.port in rule.ports) and (port.protocol != "tcp" or not rule.speaks_http)
        identified = any(not isinstance(one, UnauthenticatedCallers) for one in rule.callers)
        if fits and (port.permissive or identified):
            return True
    return False


@given(world=worlds(), call=CALLS)
def test_what_is_explained_is_the_verdict_of_the_engine(world: World, call: Call) -> None:
    (service,) = world.services
    explanation = explain(world, call)

    expected = by_engine(world, service.policy, call)
    assert explanation.decision.permitted == (expected is not None and expected.permitted)
    if expected is not None:
        assert explanation.decision == expected
    if isinstance(expected, Permit):
        assert explanation.rule is not None and explanation.rule.named.full_name == expected.rule_name
    assert bool(explanation.nearest) == (
        not explanation.decision.permitted and any(a.rules for a in service.policy.allowlists)
    )


@given(world=worlds(), call=CALLS)
def test_the_differences_shown_are_enough_for_the_rule_to_permit(world: World, call: Call) -> None:
    for near in explain(world, call).nearest:
        assert near.differences
        if near.mended is None:
            assert not can_be_mended(world, near.named.rule)
            continue
        alone = PolicySet(allowlists=(Allowlist(namespace="n", name="alone", rules=(near.named.rule,)),))
        expected = by_engine(world, alone, near.mended)
        assert expected is not None and expected.permitted
        assert only_what_is_told_differs(near, call)


def only_what_is_told_differs(near: NearRule, call: Call) -> bool:
    mended = near.mended
    assert mended is not None
    told = {difference.dimension for difference in near.differences}
    same = {
        Dimension.CALLER: mended.caller == call.caller,
        Dimension.ADDRESS: mended.address == call.address,
        Dimension.PORT: mended.port == call.port,
        Dimension.HOST: mended.host == call.host,
        Dimension.TOKEN: mended.token == call.token,
    }
    if not near.named.rule.grpc:
        same[Dimension.METHOD] = mended.method == call.method
        same[Dimension.HEADER] = mended.headers == call.headers
    same[Dimension.PATH] = mended.path == call.path
    return all(unchanged or dimension in told for dimension, unchanged in same.items())
