"""Rules that ask for facts: what each word permits and refuses, which rule is named, what is kept, what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ringfence.policy.compile import PolicyError, compile_policy
from ringfence.policy.decide import DecisionTable, Deny, DenyReason, KnownCaller, Limits, Permit
from ringfence.policy.decision import Decision, StepUp
from ringfence.policy.facts import KnownFacts, TokenRefused, VerifiedToken
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
    TokenMatch,
    UnauthenticatedCallers,
)
from ringfence.policy.views import FactView
from ringfence.spiffe import SpiffeId
from tests.unit.test_policy_decide import SHOP, STRANGER, WEB, lines_run

ANYONE = (AuthenticatedCallers(), UnauthenticatedCallers())
NOW = 1_800_000_000.0
FACTS = KnownFacts(now=NOW, host=b"orders.example")


def rule(name: str, *callers: Callers, **parts: Any) -> Rule:
    return Rule(name=name, callers=callers or (AuthenticatedCallers(),), **parts)


def table(*rules: Rule, deny: Sequence[Rule] = (), observe_until: float | None = None, **options: Any) -> DecisionTable:
    policy = PolicySet(
        allowlists=(Allowlist(namespace="shop", name="in", rules=rules),),
        denylists=(Denylist(namespace="shop", name="out", rules=tuple(deny)),) if deny else (),
        observe_until=observe_until,
    )
    options = {"trust_domain": SHOP, "http_ports": [80], "service": "shop/orders", **options}
    return compile_policy(policy, **options)


def get(policy: DecisionTable, facts: KnownFacts = FACTS, target: bytes = b"/", method: bytes = b"GET") -> Decision:
    return policy.caller(WEB, "10.0.0.1").request(80, method, target, facts)


def reason(decision: Decision) -> str:
    return "permit" if isinstance(decision, Permit) else decision.reason.value


def header(*values: bytes) -> KnownFacts:
    return replace(FACTS, headers={b"x-team": values} if values else {})


def token(**claims: object) -> KnownFacts:
    return replace(FACTS, known_token=VerifiedToken(issuer="shop/idp", claims=claims, expires=NOW + 60))


# ------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"orders.example", "permit"),
        (b"a.wild.example", "permit"),
        (b"a.b.wild.example", "permit"),
        (b"wild.example", "host_not_allowed"),
        (b".wild.example", "host_not_allowed"),
        (b"awild.example", "host_not_allowed"),
        (b"orders.example.", "host_not_allowed"),
        (b"orders.example.evil", "host_not_allowed"),
        (b"." * 5000 + b"x", "host_not_allowed"),
        (b"", "host_not_allowed"),
    ],
)
def test_hosts(host: bytes, expected: str) -> None:
    policy = table(rule("r", hosts=("orders.example", "*.wild.example")))
    assert reason(get(policy, replace(FACTS, host=host))) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"orders.example", "denylisted"),
        (b"orders.example.", "denylisted"),
        (b"a.wild.example", "denylisted"),
        (b"", "denylisted"),
        (b".", "denylisted"),
        (b"other.example", "permit"),
    ],
)
def test_a_denied_host_is_not_evaded_by_a_dot_or_by_none(host: bytes, expected: str) -> None:
    policy = table(rule("all"), deny=[rule("no", *ANYONE, hosts=("orders.example", "*.wild.example"))])
    assert reason(get(policy, replace(FACTS, host=host))) == expected


@pytest.mark.parametrize(
    ("match", "permitted", "refused"),
    [
        (
            HeaderMatch(name="x-team", values=("a", "b")),
            [header(b"a"), header(b"b")],
            [header(), header(b"c"), header(b"a", b"a"), header(b"a", b"c"), header(b"a,b"), header(b"A")],
        ),
        (HeaderMatch(name="x-team"), [header(b""), header(b"a"), header(b"a", b"b")], [header()]),
        (HeaderMatch(name="x-team", present=False), [header()], [header(b""), header(b"a", b"b")]),
    ],
)
def test_headers(match: HeaderMatch, permitted: list[KnownFacts], refused: list[KnownFacts]) -> None:
    policy = table(rule("r", headers=(match,)))
    assert {reason(get(policy, facts)) for facts in permitted} == {"permit"}
    assert {reason(get(policy, facts)) for facts in refused} == {"header_not_allowed"}


def test_a_denied_header_is_not_evaded_by_a_second_one() -> None:
    policy = table(rule("all"), deny=[rule("no", *ANYONE, headers=(HeaderMatch(name="x-team", values=("bad",)),))])
    for facts in (header(b"bad"), header(b"good", b"bad"), header(b"bad", b"good")):
        assert get(policy, facts) == Deny(DenyReason.DENYLISTED, "shop/out/no")
    assert get(policy, header(b"good", b"fine")).permitted
    assert get(policy, header()).permitted


@pytest.mark.parametrize(
    ("target", "method", "expected"),
    [
        (b"/shop.Orders/Get", b"POST", "permit"),
        (b"/shop.Orders/Get", b"GET", "method_not_allowed"),
        (b"/shop.Orders/Delete", b"POST", "path_not_allowed"),
        (b"/shop.Orders", b"POST", "path_not_allowed"),
        (b"/shop.Orders/Get/x", b"POST", "path_not_allowed"),
        (b"/shop.Stock/Anything", b"POST", "permit"),
        (b"/shop.Stock/", b"POST", "path_not_allowed"),
        (b"/shop.stock/Anything", b"POST", "path_not_allowed"),
        (b"/plain", b"GET", "permit"),
    ],
)
def test_grpc(target: bytes, method: bytes, expected: str) -> None:
    methods = (GrpcMethod(service="shop.Orders", method="Get"), GrpcMethod(service="shop.Stock"))
    assert reason(get(table(rule("r", grpc=methods, paths=("/plain",))), FACTS, target, method)) == expected


def test_a_grpc_rule_whose_methods_leave_out_post_permits_no_call() -> None:
    policy = table(rule("r", grpc=(GrpcMethod(service="shop.Orders"),), methods=("GET",)))
    for method in (b"GET", b"POST", b""):
        assert reason(get(policy, FACTS, b"/shop.Orders/Get", method)) == "method_not_allowed"


@pytest.mark.parametrize(
    ("match", "facts", "expected"),
    [
        (TokenMatch(), FACTS, "token_missing"),
        (TokenMatch(), replace(FACTS, known_token=TokenRefused("bad")), "token_invalid"),
        (TokenMatch(), token(), "permit"),
        (TokenMatch(), replace(token(), now=NOW + 61), "token_invalid"),
        (TokenMatch(issuers=("shop/other",)), token(), "token_insufficient"),
        (TokenMatch(scopes=("a", "b")), token(scope="b a"), "permit"),
        (TokenMatch(scopes=("a", "b")), token(scope="a", scp=["b"]), "permit"),
        (TokenMatch(scopes=("a", "b")), token(scope="ab"), "token_insufficient"),
        (TokenMatch(scopes=("a",)), token(scope=["a b"]), "token_insufficient"),
        (TokenMatch(claims=(("org.unit", ("x",)),)), token(org={"unit": ["y", "x"]}), "permit"),
        (TokenMatch(claims=(("org.unit", ("x",)),)), token(org="unit"), "token_insufficient"),
        (TokenMatch(claims=(("org.unit", ("x",)),)), token(**{"org.unit": "x", "org": {"unit": "y"}}), "permit"),
        (TokenMatch(claims=(("admin", ("true",)),)), token(admin=True), "permit"),
        (TokenMatch(claims=(("admin", ("true",)),)), token(admin=1), "token_insufficient"),
        (TokenMatch(claims=(("level", ("1",)),)), token(level=1), "permit"),
        (TokenMatch(claims=(("level", ("1",)),)), token(level=True), "token_insufficient"),
        (TokenMatch(acr=("gold",)), token(acr="gold"), "permit"),
        (TokenMatch(acr=("gold",)), token(acr=["gold"]), "step_up_required"),
        (TokenMatch(amr=("otp", "pwd")), token(amr=["pwd", "otp", "x"]), "permit"),
        (TokenMatch(amr=("otp", "pwd")), token(amr=["pwd"]), "step_up_required"),
        (TokenMatch(amr=("otp",)), token(amr="otp"), "step_up_required"),
        (TokenMatch(max_age_seconds=60), token(auth_time=NOW - 60), "permit"),
        (TokenMatch(max_age_seconds=60), token(auth_time=NOW - 61), "step_up_required"),
        (TokenMatch(max_age_seconds=60), token(auth_time=NOW + 30), "permit"),
        (TokenMatch(max_age_seconds=60), token(auth_time=NOW + 31), "step_up_required"),
        (TokenMatch(max_age_seconds=60), token(), "step_up_required"),
        (TokenMatch(max_age_seconds=60), token(auth_time=True), "step_up_required"),
        (TokenMatch(max_age_seconds=60), replace(token(auth_time=NOW), now=0.0), "step_up_required"),
    ],
)
def test_tokens(match: TokenMatch, facts: KnownFacts, expected: str) -> None:
    assert reason(get(table(rule("r", token=match)), facts)) == expected


def test_a_step_up_says_what_would_do() -> None:
    policy = table(rule("r", token=TokenMatch(acr=("gold", "silver"), max_age_seconds=60)))
    expected = Deny(DenyReason.STEP_UP_REQUIRED, "shop/in/r", StepUp(("gold", "silver"), 60))
    assert get(policy, token(acr="bronze")) == expected


def test_a_bad_token_is_no_matter_where_a_rule_without_one_permits() -> None:
    policy = table(rule("a-user", token=TokenMatch()), rule("b-open", methods=("GET",)))
    bad = replace(FACTS, known_token=TokenRefused("bad"))
    assert get(policy, bad) == Permit("shop/in", "b-open")
    assert reason(get(policy, bad, method=b"POST")) == "token_invalid"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source.spiffe_id == 'spiffe://shop.example/ns/shop/sa/web' && source.service_account == 'web'", "permit"),
        ("source.address == '10.0.0.1' && source.namespace == 'shop'", "permit"),
        ("destination.service == 'orders' && destination.namespace == 'shop' && destination.port == 80", "permit"),
        ("destination.labels.data == 'pii'", "permit"),
        ("destination.labels.other == 'pii'", "condition_not_met"),
        ("request.path == '/' && request.method == 'GET' && request.host == 'orders.example'", "permit"),
        ("request.headers['x-team'] == 'a'", "condition_not_met"),
        ("token == null", "permit"),
        ("token.claims.a == 1", "condition_not_met"),
        ("now < timestamp('2100-01-01T00:00:00Z')", "permit"),
        ("now > timestamp('2100-01-01T00:00:00Z')", "condition_not_met"),
    ],
)
def test_conditions(text: str, expected: str) -> None:
    assert reason(get(table(rule("r", when=text), labels=(("data", "pii"),)))) == expected


def test_a_condition_that_fails_permits_nothing_refuses_in_a_denylist_and_is_counted() -> None:
    failed: list[str] = []
    text = "request.headers['x-team'] == 'bad'"
    policy = table(
        rule("a", paths=("/a",), when=text), rule("b", paths=("/b",)),
        deny=[rule("no", *ANYONE, paths=("/b",), when=text)], condition_failed=failed.append,
    )  # fmt: skip
    assert reason(get(policy, header(), b"/a")) == "condition_not_met"
    assert failed == ["shop/in/a"]
    assert get(policy, header(), b"/b") == Deny(DenyReason.DENYLISTED, "shop/out/no")
    assert failed == ["shop/in/a", "shop/out/no"]
    assert get(policy, header(b"good"), b"/b").permitted
    assert reason(get(policy, header(b"\xff"), b"/b")) == "denylisted"
    assert failed == ["shop/in/a", "shop/out/no", "shop/out/no"]


def test_a_condition_over_more_than_it_was_reckoned_with_fails() -> None:
    policy = table(rule("r", when="token.claims.rows.exists(row, row == 255) || token.scopes.exists(s, s == 's')"))
    assert get(policy, token(rows=list(range(256)))).permitted
    assert reason(get(policy, token(rows=list(range(257))))) == "condition_not_met"
    assert reason(get(policy, token(rows=[255], deep={"deeper": [0] * 257}))) == "condition_not_met"


# ------------------------------------------------------------------------------------------------- callers


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", "permit"),
        ("::ffff:10.1.2.3", "permit"),
        ("fd00::7", "permit"),
        ("fd00::7%eth0", "permit"),
        ("11.0.0.1", "address_not_allowed"),
        ("", "address_not_allowed"),
        ("10.1.2.3:80", "address_not_allowed"),
        ("localhost", "address_not_allowed"),
    ],
)
def test_callers_narrowed_to_networks(address: str, expected: str) -> None:
    narrowed = NarrowedCallers(callers=NamespaceCallers(namespace="shop"), cidrs=("10.0.0.0/8", "fd00::/8"))
    policy = table(rule("r", narrowed))
    decision = policy.caller(WEB, address).request(80, b"GET", b"/")
    assert reason(decision) == expected
    assert isinstance(decision, Permit) or decision.nearest == "shop/in/r"
    assert reason(policy.caller(None, address).request(80, b"GET", b"/")) == "unauthenticated"


def test_a_denylist_for_networks_speaks_of_callers_whose_address_is_not_known() -> None:
    policy = table(
        rule("all"), deny=[rule("no", NarrowedCallers(callers=AuthenticatedCallers(), cidrs=("10.0.0.0/8",)))]
    )
    assert policy.caller(WEB, "192.0.2.1").request(80, b"GET", b"/").permitted
    for address in ("10.0.0.1", "", "unknown"):
        assert reason(policy.caller(WEB, address).request(80, b"GET", b"/")) == "denylisted"


def test_callers_without_identity_may_be_narrowed_too() -> None:
    policy = table(rule("r", NarrowedCallers(callers=UnauthenticatedCallers(), cidrs=("10.0.0.0/8",))))
    assert policy.caller(None, "10.0.0.1").request(80, b"GET", b"/").permitted
    assert reason(policy.caller(None, "11.0.0.1").request(80, b"GET", b"/")) == "address_not_allowed"
    assert reason(policy.caller(WEB, "10.0.0.1").request(80, b"GET", b"/")) == "caller_not_allowed"


@pytest.mark.parametrize("callers", [(WEB,), (None,), (WEB, STRANGER, None)])
def test_the_views_held_by_address_are_bounded_over_all_callers(callers: tuple[SpiffeId | None, ...]) -> None:
    cidrs = ("10.0.0.0/8",)
    policy = table(
        rule("r", *(NarrowedCallers(callers=callers, cidrs=cidrs) for callers in ANYONE)),
        limits=Limits(by_address=10),
    )
    found = []
    for number in range(100):
        for caller in callers:
            assert policy.caller(caller, f"10.0.0.{number}").request(80, b"GET", b"/").permitted
        held = [*policy._callers.values(), policy._unauthenticated]
        found.append(sum(len(each.views) for each in held))  # type: ignore[union-attr]
    assert 5 < max(found) <= 10


def test_a_list_of_networks_for_everybody_is_indexed_once() -> None:
    narrowed = NarrowedCallers(callers=AuthenticatedCallers(), cidrs=("10.0.0.0/8",))
    policy = table(rule("all"), deny=[rule("no", narrowed)])
    for caller in (WEB, STRANGER):
        assert reason(policy.caller(caller, "10.0.0.1").request(80, b"GET", b"/")) == "denylisted"
    one, two = (policy._deny.callers.named(caller) for caller in (WEB, STRANGER))
    assert one is two


def test_whom_a_condition_tells_apart_share_rules_but_no_verdict() -> None:
    policy = table(rule("r", when="source.service_account == 'web'"))
    assert policy.caller(WEB).request(80, b"GET", b"/", FACTS).permitted
    assert reason(policy.caller(STRANGER).request(80, b"GET", b"/", FACTS)) == "condition_not_met"


# ------------------------------------------------------------------------------------------------- order and names


def test_the_order_of_reasons() -> None:
    """Each step mends what the last one was refused for."""
    policy = table(
        rule(
            "r", NarrowedCallers(callers=NamespaceCallers(namespace="shop"), cidrs=("10.0.0.0/8",)), ports=(80,),
            paths=("/a",), methods=("GET",), hosts=("orders.example",), headers=(HeaderMatch(name="x-team"),),
            token=TokenMatch(scopes=("s",), acr=("gold",)), when="request.headers['x-team'] == 'a'",
        ),
        deny=[rule("no", *ANYONE, paths=("/admin",))],
    )  # fmt: skip
    other = SpiffeId.parse("spiffe://shop.example/ns/other/sa/x")
    refused = replace(FACTS, headers={b"x-team": (b"b",)}, known_token=TokenRefused("bad"))
    weak, strong = ({"scope": "s"}, {"scope": "s", "acr": "gold"})
    steps: list[tuple[SpiffeId | None, str, int, bytes, bytes, KnownFacts]] = [
        (None, "", 81, b"PUT", b"//", KnownFacts()),
        (other, "", 81, b"PUT", b"//", KnownFacts()),
        (other, "", 81, b"PUT", b"/admin", KnownFacts()),
        (other, "", 81, b"PUT", b"/b", KnownFacts()),
        (WEB, "11.0.0.1", 81, b"PUT", b"/b", KnownFacts()),
        (WEB, "10.0.0.1", 81, b"PUT", b"/b", KnownFacts()),
        (WEB, "10.0.0.1", 80, b"PUT", b"/b", KnownFacts()),
        (WEB, "10.0.0.1", 80, b"PUT", b"/a", KnownFacts()),
        (WEB, "10.0.0.1", 80, b"GET", b"/a", KnownFacts()),
        (WEB, "10.0.0.1", 80, b"GET", b"/a", FACTS),
        (WEB, "10.0.0.1", 80, b"GET", b"/a", replace(refused, known_token=None)),
        (WEB, "10.0.0.1", 80, b"GET", b"/a", refused),
        (WEB, "10.0.0.1", 80, b"GET", b"/a", replace(refused, known_token=token().known_token)),
        (WEB, "10.0.0.1", 80, b"GET", b"/a", replace(refused, known_token=token(**weak).known_token)),
        (WEB, "10.0.0.1", 80, b"GET", b"/a", replace(refused, known_token=token(**strong).known_token)),
        (WEB, "10.0.0.1", 80, b"GET", b"/a", replace(header(b"a"), known_token=token(**strong).known_token)),
    ]
    told = [
        reason(policy.caller(who, at).request(port, method, path, facts))
        for who, at, port, method, path, facts in steps
    ]
    judged = [each.value for each in DenyReason][: len(told)]
    judged.remove("not_http")  # of connections
    assert told == [*judged[: len(told) - 1], "permit"]


def test_a_plain_rule_is_named_before_one_that_asks_for_facts() -> None:
    policy = table(rule("a", paths=("/x",), headers=(HeaderMatch(name="x-team"),)), rule("z", paths=("/**",)))
    assert get(policy, header(b"a"), b"/x") == Permit("shop/in", "z")


def test_the_rule_that_came_furthest_is_the_nearest() -> None:
    policy = table(
        rule("a", paths=("/x",), hosts=("orders.example",), headers=(HeaderMatch(name="x-team"),)),
        rule("b", paths=("/*",), when="false"),
        rule("c", paths=("/x",), hosts=("orders.example",), token=TokenMatch()),
        rule("d", paths=("/x",), when="false"),
        rule("e", paths=("/x",), hosts=("other.example",), when="false"),
    )
    assert get(policy, FACTS, b"/x") == Deny(DenyReason.CONDITION_NOT_MET, "shop/in/d")
    assert get(policy, FACTS, b"/y") == Deny(DenyReason.CONDITION_NOT_MET, "shop/in/b")


def test_denylists_refuse_strangers_and_callers_without_identity_in_their_order() -> None:
    policy = table(rule("web", SpiffeIdPattern(trust_domain=SHOP, segments=WEB.segments)), deny=[rule("no", *ANYONE)])
    for who, expected in ((WEB, "denylisted"), (STRANGER, "denylisted"), (None, "unauthenticated")):
        assert reason(policy.caller(who).request(80, b"GET", b"/")) == expected
        assert reason(policy.caller(who).connection(5432)) == expected
    assert reason(policy.caller(STRANGER).request(80, b"GET", b"//")) == "path_ambiguous"


def test_a_deny_rule_of_http_says_nothing_of_opaque_tcp() -> None:
    policy = table(rule("all"), deny=[rule("no", *ANYONE, methods=("DELETE",)), rule("port", *ANYONE, ports=(5433,))])
    assert policy.caller(WEB).connection(5432).permitted
    assert policy.caller(WEB).connection(5433) == Deny(DenyReason.DENYLISTED, "shop/out/port")


def test_what_a_condition_reads_of_a_request_permits_no_opaque_tcp() -> None:
    policy = table(
        rule("a", ports=(1,), when="request.method != 'DELETE'"),
        rule("b", ports=(2,), when="token == null"),
        rule("c", ports=(3,), when="source.authenticated"),
        rule("d", ports=(4,), when="!source.authenticated"),
    )
    told = [reason(policy.caller(WEB).connection(port, FACTS)) for port in (1, 2, 3, 4)]
    assert told == ["not_http", "not_http", "permit", "condition_not_met"]


# ------------------------------------------------------------------------------------------------- observation


def test_what_is_only_observed_passes_until_its_end_and_no_longer() -> None:
    policy = table(
        rule("r", SpiffeIdPattern(trust_domain=SHOP, segments=WEB.segments), paths=("/a",)),
        deny=[rule("no", *ANYONE, paths=("/admin",))],
        observe_until=NOW + 1,
    )
    web, stranger, nobody = (policy.caller(who) for who in (WEB, STRANGER, None))
    passed = Permit("", "", would_deny=DenyReason.PATH_NOT_ALLOWED, nearest="shop/in/r")
    assert web.request(80, b"GET", b"/b", FACTS) == passed
    assert web.request(80, b"GET", b"/a", FACTS) == Permit("shop/in", "r")
    for view, would_deny in ((stranger, DenyReason.CALLER_NOT_ALLOWED), (nobody, DenyReason.UNAUTHENTICATED)):
        decision = view.request(80, b"GET", b"/a", FACTS)
        assert isinstance(decision, Permit)
        assert decision.would_deny is would_deny
        assert reason(view.request(80, b"GET", b"/../a", FACTS)) == "path_ambiguous"
        assert reason(view.request(80, b"GET", b"/admin", FACTS)) == "denylisted"
        assert view.connection(5432, FACTS).permitted
        assert reason(view.connection(80, FACTS)) == "not_http", "bytes that nobody reads would pass unjudged"
        for now in (NOW + 1, NOW + 2, 0.0, -1.0):
            later = replace(FACTS, now=now)
            assert reason(view.request(80, b"GET", b"/a", later)) == would_deny.value
            assert not view.connection(5432, later).permitted
    assert reason(policy.caller(SpiffeId(SHOP, "")).request(80, b"GET", b"/a", FACTS)) == "unauthenticated"
    assert policy.changes_at(NOW) == NOW + 1
    assert policy.changes_at(NOW + 1) is None
    assert policy.reads_facts(80)


# ------------------------------------------------------------------------------------------------- memory and cost


def test_callers_whose_rules_ask_for_no_facts_pay_nothing_for_others() -> None:
    policy = table(
        rule("plain", SpiffeIdPattern(trust_domain=SHOP, segments=WEB.segments), ports=(80,)),
        rule("asks", NamespaceCallers(namespace="other"), ports=(81,), headers=(HeaderMatch(name="x-team"),)),
    )
    assert type(policy.caller(WEB)) is KnownCaller
    assert type(policy.caller(SpiffeId.parse("spiffe://shop.example/ns/other/sa/x"))) is FactView
    assert [policy.reads_facts(port) for port in (80, 81)] == [False, True]
    assert not policy.uses_time


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"when": "now > timestamp('2020-01-01T00:00:00Z')"}, True),
        ({"when": "token == null"}, True),
        ({"token": TokenMatch()}, True),
        ({"when": "source.authenticated", "hosts": ("a",)}, False),
    ],
)
def test_time_is_used_by_the_clock_and_by_tokens(parts: dict[str, Any], expected: bool) -> None:
    assert table(rule("r", **parts)).uses_time is expected


def steps_of(policy: DecisionTable, target: bytes, facts: KnownFacts) -> list[int]:
    view = policy.caller(WEB, "10.0.0.1")
    view.request(80, b"GET", b"/nowhere", facts)  # makes the tables, once a caller and port
    view.request(80, b"GET", target + b"first", facts)
    return [lines_run(lambda: view.request(80, b"GET", target, facts)) for _ in range(2)]


@pytest.mark.parametrize("denies", [False, True])
@pytest.mark.parametrize(
    ("parts", "target"),
    [
        (lambda n: {"paths": (f"/p{n}/*",), "headers": (HeaderMatch(name="x-team", values=(f"{n}",)),)}, b"/p5/x"),
        (lambda n: {"paths": ("/p/*",), "hosts": (f"h{n}.example",)}, b"/p/x"),
        (lambda n: {"paths": ("/p/*",), "hosts": (f"*.h{n}.example",)}, b"/p/x"),
        (lambda n: {"paths": (f"/p{n}/*",), "when": "request.headers['x-team'] == '5'"}, b"/p5/x"),
        (lambda n: {"ports": (80,), "hosts": (f"h{n}.example",)}, b"/p/x"),
    ],
)
def test_steps_of_rules_that_ask_for_facts_do_not_grow_with_their_number(
    denies: bool, parts: Any, target: bytes
) -> None:
    found = []
    for size in (10, 3000):
        rules = [rule(f"r{number:05}", **parts(number)) for number in range(size)]
        policy = table(rule("all"), deny=rules) if denies else table(*rules)
        facts = replace(header(b"5"), host=b"x.h5.example" if "*" in str(parts(5).get("hosts")) else b"h5.example")
        assert get(policy, facts, target).permitted is not denies
        found.append(steps_of(policy, target, facts))
    assert found[0] == found[1]
    assert max(found[1]) < 200


def test_addresses_are_found_by_the_lengths_of_prefixes_and_not_one_by_one() -> None:
    found = []
    for size in (10, 2000):
        cidrs = tuple(f"10.{number // 256}.{number % 256}.0/24" for number in range(size))
        policy = table(rule("r", NarrowedCallers(callers=AuthenticatedCallers(), cidrs=cidrs)))
        policy.caller(WEB, "10.0.1.1"), policy.caller(WEB, "10.0.200.1")
        found.append(lines_run(lambda policy=policy: policy.caller(WEB, "10.0.2.1")))  # type: ignore[misc]
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"hosts": ("Orders.example",)}, "host"),
        ({"hosts": ("orders.example:80",)}, "host"),
        ({"hosts": ("a*.example",)}, "host"),
        ({"hosts": ("*",)}, "host"),
        ({"headers": (HeaderMatch(name="X-Team"),)}, "header"),
        ({"headers": (HeaderMatch(name="x team"),)}, "header"),
        ({"headers": (HeaderMatch(name="x-team", values=("a",), present=False),)}, "header"),
        ({"grpc": (GrpcMethod(service="a/b"),)}, "gRPC"),
        ({"grpc": (GrpcMethod(service="a", method="*"),)}, "gRPC"),
        ({"when": "1 +"}, "condition 1:4"),
        ({"when": "source.nobody == ''"}, "condition 1:7"),
        ({"when": "token.scopes.all(a, token.scopes.all(b, a == b))"}, "steps"),
        ({"callers": (NarrowedCallers(callers=AuthenticatedCallers(), cidrs=("10.0.0.1/8",)),)}, "10.0.0.1/8"),
        ({"callers": (NarrowedCallers(callers=AuthenticatedCallers(), cidrs=("::ffff:10.0.0.0/104",)),)}, "IPv4"),
        ({"callers": (NarrowedCallers(callers=AuthenticatedCallers(), cidrs=()),)}, "no network"),
    ],
)
@pytest.mark.parametrize("kind", ["allowlist shop/in", "denylist shop/out"])
def test_what_cannot_be_enforced_is_refused_with_its_names(parts: dict[str, Any], told: str, kind: str) -> None:
    bad = Rule(**{"name": "bad", "callers": ANYONE, **parts})
    with pytest.raises(PolicyError, match=f"rule bad of {kind}: .*{told}"):
        table(bad) if kind.startswith("allow") else table(deny=[bad])


def test_a_denylist_asks_for_no_token() -> None:
    with pytest.raises(PolicyError, match="rule bad of denylist shop/out: a denylist cannot ask for a token"):
        table(deny=[rule("bad", token=TokenMatch())])


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("request.path.startsWith('/admin')", "not_http"),
        ("request.method == 'DELETE'", "not_http"),
        ("token != null && token.subject == 'mallory'", "not_http"),
        ("source.namespace == 'elsewhere'", "permit"),
    ],
)
def test_bytes_that_nobody_reads_evade_no_denied_request_by_its_condition(when: str, expected: str) -> None:
    denied = (rule("bad", when=when),)
    auto = table(rule("all"), deny=denied, http_ports=(), maybe_http_ports=(90,))
    assert reason(auto.caller(WEB, "10.0.0.1").connection(90, FACTS)) == expected
    # Where there are no requests at all, there is nothing to evade.
    tcp = table(rule("all"), deny=denied, http_ports=())
    assert reason(tcp.caller(WEB, "10.0.0.1").connection(90, FACTS)) == "permit"


@pytest.mark.parametrize(
    "target", [b"/admin", b"/admin;v=1", b"/admin%3bv=1", b"/admin;v=1?q", b"/admin;", b"/%61dmin;x"]
)
@pytest.mark.parametrize("words", [{"paths": ("/admin",)}, {"when": "request.path == '/admin'"}])
def test_a_denied_path_is_not_evaded_by_parameters_that_servers_cut_off(target: bytes, words: dict[str, Any]) -> None:
    guarded = {**words, "headers": (HeaderMatch(name="x-a", present=False),)}
    for parts in (words, guarded):
        assert reason(get(table(rule("all"), deny=[rule("bad", **parts)]), target=target)) == "denylisted"
        assert reason(get(table(rule("all"), deny=[rule("bad", **parts)]), target=b"/admins;v=1")) == "permit"
    allowed = table(rule("only", paths=("/admin",)))
    assert reason(get(allowed, target=target)) == (
        "permit" if b";" not in target and b"%3b" not in target else "path_not_allowed"
    )


def test_a_denied_host_is_not_evaded_by_many_dots() -> None:
    policy = table(rule("all"), deny=[rule("bad", hosts=("orders.example",))])
    assert reason(get(policy, replace(FACTS, host=b"orders.example..."))) == "denylisted"


@pytest.mark.parametrize("values", [(b"prod",), (b"prod", b"x"), (b"x", b"prod"), (b"prod", b"prod")])
def test_a_condition_of_a_denylist_is_not_evaded_by_a_second_header(values: tuple[bytes, ...]) -> None:
    when = "'x-env' in request.headers && request.headers['x-env'] == 'prod'"
    policy = table(rule("all"), deny=[rule("bad", when=when)])
    assert reason(get(policy, replace(FACTS, headers={b"x-env": values}))) == "denylisted"
    assert reason(get(policy, replace(FACTS, headers={b"x-env": (b"x", b"y")}))) == "permit"
    both = table(rule("all"), deny=[rule("bad", when=f"{when} && request.path == '/admin'")])
    assert reason(get(both, replace(FACTS, headers={b"x-env": values}), target=b"/admin;v")) == "denylisted"
