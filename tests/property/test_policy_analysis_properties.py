"""What policy tools say is what the engine does: the verdict, and that what is shown as enough is enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.coverage import spoken_to
from ringfence.policy.analysis.differing import Dimension, NearRule
from ringfence.policy.analysis.explain import explain
from ringfence.policy.analysis.graph import graph_of
from ringfence.policy.analysis.matching import Matcher
from ringfence.policy.analysis.nearest import near_rule
from ringfence.policy.analysis.world import World, WorldPort, WorldService, rules_of
from ringfence.policy.compile import compile_policy
from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.facts import TokenRefused, VerifiedToken
from ringfence.policy.model import (
    Allowlist,
    AuthenticatedCallers,
    Callers,
    Denylist,
    GrpcMethod,
    HeaderMatch,
    NamespaceCallers,
    NarrowedCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TokenIssuer,
    TokenMatch,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import SpiffeId, TrustDomain

OWN, OTHER = TrustDomain("own.example"), TrustDomain("other.example")
IDENTITY = SpiffeId.parse("spiffe://own.example/ns/n/sa/s")
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
CALLERS: st.SearchStrategy[Callers] = st.one_of(
    NAMED,
    st.builds(AuthenticatedCallers),
    st.builds(NarrowedCallers, callers=NAMED, cidrs=st.sampled_from([("10.0.0.0/8",), ("10.1.0.0/16", "fd00::/8")])),
)
HEADERS = (
    HeaderMatch(name="x-a", values=("1", "2")),
    HeaderMatch(name="x-a"),
    HeaderMatch(name="x-b", present=False),
)
GRPC = (GrpcMethod(service="p.S"), GrpcMethod(service="p.S", method="M"))
TOKENS = st.builds(
    TokenMatch,
    issuers=st.sampled_from([(), ("n/people",)]),
    scopes=st.sampled_from([(), ("r",), ("r", "w")]),
    claims=st.sampled_from([(), (("a.b", ("1", "x")),), (("sub", ("me",)),)]),
    acr=st.sampled_from([(), ("mfa",)]),
    amr=st.sampled_from([(), ("otp", "pwd")]),
    max_age_seconds=st.sampled_from([None, 60]),
)
ISSUERS = tuple(
    TokenIssuer(name=f"n/{name}", issuer=f"https://{name}", audiences=("a",)) for name in ("people", "robots")
)
CONDITIONS = ("request.path == '/a'", "source.namespace == 'n'", "source.address != ''", "token.subject == 'me'")
NOW = 1000.0
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


def rarely(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(()), st.just(()), st.just(()), values)


def rules(name: str, *, token: bool = True) -> st.SearchStrategy[Rule]:
    return st.builds(
        Rule,
        name=st.just(name),
        callers=some(CALLERS, 1),
        ports=some(st.sampled_from([80, 81, 90, 91, 95, 99])),
        methods=some(st.sampled_from(["GET", "POST", "PUT"])),
        paths=some(st.sampled_from(PATHS)),
        hosts=rarely(st.sampled_from([("h",), ("*.h", "k.l")])),
        headers=rarely(
            some(st.sampled_from(HEADERS)).filter(lambda them: len({one.name for one in them}) == len(them))
        ),
        grpc=rarely(some(st.sampled_from(GRPC))),
        token=st.one_of(st.none(), st.none(), st.none(), TOKENS) if token else st.none(),
        when=st.sampled_from(["", "", "", "", *CONDITIONS]),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    allowlists = tuple(
        Allowlist(
            namespace="n", name=name, rules=tuple(draw(rules(word)) for word in draw(some(st.sampled_from("abcd"))))
        )
        for name in draw(some(st.sampled_from("pqr")))
    )
    denylists = tuple(
        Denylist(namespace="n", name=name, rules=(draw(rules("d", token=False)),))
        for name in draw(some(st.sampled_from("pqr")))
    )
    until = draw(st.sampled_from([None, None, NOW - 1, NOW + 1]))
    policy = PolicySet(allowlists=allowlists, denylists=denylists, observe_until=until)
    ports = draw(st.lists(st.sampled_from(PORTS), unique=True, max_size=4).map(tuple))
    service = WorldService(
        namespace="n", name="s", spiffe_id=IDENTITY, ports=ports, policy=policy, token_issuers=ISSUERS
    )
    caller = WorldService(namespace="m", name="t", spiffe_id=SpiffeId.parse("spiffe://own.example/ns/m/sa/t"))
    return World(trust_domain=OWN, services=(service, caller))


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
    path=st.sampled_from(["/", "/a", "/a/b", "/a//b", "/a/../b", "/b/c/d?q", "*", "/ü", "/p.S/M"]),
    address=st.sampled_from(["", "10.0.0.1", "10.1.2.3", "fd00::1", "::ffff:10.1.0.9", "192.0.2.1"]),
    host=st.sampled_from(["", "h", "x.H", "k.l"]),
    headers=st.sampled_from([(), (("X-A", "1"),), (("x-a", "1"), ("x-a", "3")), (("x-b", "1"),)]),
    token=st.one_of(
        st.none(),
        st.just(TokenRefused("bad")),
        st.builds(
            VerifiedToken,
            issuer=st.sampled_from([one.name for one in ISSUERS]),
            claims=st.sampled_from(
                [
                    {},
                    {"scope": "r", "sub": "me", "acr": "mfa"},
                    {"scp": ["w"], "a": {"b": 1}, "amr": ["otp"], "auth_time": 990},
                    {"a.b": "y", "amr": "otp", "auth_time": 1},
                ]
            ),
            expires=st.sampled_from([NOW - 1, NOW + 1]),
        ),
    ),
    time=st.just(NOW),
    opaque=st.booleans(),
)


def by_engine(world: World, policy: PolicySet, call: Call) -> Decision | None:
    """The engine's own word; None where a sidecar would not ask it."""
    service = world.services[0]
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


def unnarrowed(callers: Callers) -> Callers:
    return callers.callers if isinstance(callers, NarrowedCallers) else callers


def can_be_mended(world: World, rule: Rule) -> bool:
    """Whether some call exists of which the rule speaks, and no condition hides which."""
    if rule.when or (rule.grpc and rule.methods and "POST" not in rule.methods and not rule.paths):
        return False
    service = world.services[0]
    for port in service.ports:
        fits = (not rule.ports or port.port in rule.ports) and (port.protocol != "tcp" or not rule.speaks_http)
        identified = any(not isinstance(unnarrowed(one), UnauthenticatedCallers) for one in rule.callers)
        if fits and (port.permissive or identified):
            return True
    return False


@given(world=worlds(), call=CALLS)
def test_what_is_explained_is_the_verdict_of_the_engine(world: World, call: Call) -> None:
    service = world.services[0]
    explanation = explain(world, call)

    expected = by_engine(world, service.policy, call)
    assert explanation.decision.permitted == (expected is not None and expected.permitted)
    if expected is not None:
        assert explanation.decision == expected
    by_rule = isinstance(expected, Permit) and expected.would_deny is None
    if isinstance(expected, Permit) and by_rule:
        assert explanation.rule is not None and explanation.rule.named.full_name == expected.rule_name
    denylisted = isinstance(expected, Deny) and expected.reason is DenyReason.DENYLISTED
    if expected is not None and not (isinstance(expected, Deny) and expected.reason is DenyReason.PATH_AMBIGUOUS):
        assert denylisted <= bool(explanation.denying)
    if not denylisted:
        has_rules = any(one.rules for one in service.policy.allowlists)
        assert bool(explanation.nearest) == (not by_rule and has_rules)


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
    for dimension in (
        Dimension.ISSUER,
        Dimension.SCOPE,
        Dimension.CLAIM,
        Dimension.ACR,
        Dimension.AMR,
        Dimension.AUTH_AGE,
    ):
        same[Dimension.TOKEN] |= dimension in told
    same[Dimension.PATH] = mended.path == call.path
    return all(unchanged or dimension in told for dimension, unchanged in same.items())


@given(world=worlds(), call=CALLS)
def test_what_passes_goes_along_an_edge_of_the_graph(world: World, call: Call) -> None:
    service = world.services[0]
    decision = by_engine(world, service.policy, call)
    graph = graph_of(world, NOW)
    if not isinstance(decision, Permit) or decision.would_deny is not None:
        return
    names = {str(one.spiffe_id): one.full_name for one in world.services}
    known = names.get(str(call.caller))
    granted = [
        grant
        for edge in graph.edges
        if edge.target.name == "n/s" and (edge.source.name == known if known else edge.source.kind != "service")
        for grant in edge.grants
    ]
    assert any(one.named.full_name == decision.rule_name and call.port in one.ports for one in granted)


@given(world=worlds())
def test_an_edge_without_conditions_is_one_that_calls_pass_along(world: World) -> None:
    service = world.services[0]
    for edge in graph_of(world, NOW).edges:
        source = world.service(edge.source.name)
        for grant in edge.grants:
            rule = grant.rule
            if source is None or grant.denied_by or rule.when or rule.token or rule.headers or rule.hosts:
                continue
            for port in grant.ports:
                call = Call(
                    caller=source.spiffe_id, service="n/s", port=port, method="PUT", address="192.0.2.1", time=NOW
                )
                near = near_rule(Matcher(world, service), grant.named, call)
                if near.mended is None or near.mended.port != port or near.mended.caller != source.spiffe_id:
                    continue
                passed = by_engine(world, service.policy, near.mended)
                assert passed is not None and passed.permitted


@given(world=worlds(), calls=st.lists(CALLS, min_size=1, max_size=5))
def test_rules_that_are_counted_as_exercised_are_those_that_speak_of_a_call(world: World, calls: list[Call]) -> None:
    service = world.services[0]
    matcher = Matcher(world, service)

    assert spoken_to(matcher, calls) == {
        (one.effect, one.full_name)
        for one in rules_of(service.policy)
        if any(matcher.matches(one, call) for call in calls)
    }
