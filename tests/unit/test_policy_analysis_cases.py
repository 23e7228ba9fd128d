"""PolicyTest documents: what their cases say, what is wrong with them and where, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.policy.analysis.cases import Expectation, TestCase, Verdict, read_cases
from ringfence.policy.analysis.naming import CallWords
from ringfence.policy.analysis.trying import Trial, try_cases
from ringfence.policy.analysis.world import Effect, World, WorldPort, WorldService
from ringfence.policy.model import Allowlist, NamespaceCallers, PolicySet, Rule
from ringfence.policy.problems import Place
from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import SpiffeId, TrustDomain

NOW = 1_000_000.0
HEAD = """\
apiVersion: ringfence.io/v1alpha1
kind: PolicyTest
metadata: {name: orders, namespace: shop}
spec:
  cases:
"""
IN_SHOP = (NamespaceCallers(namespace="shop"),)
READS = Rule(name="reads", callers=IN_SHOP, methods=("GET",), paths=("/orders/{id}",))
HEALTH = Rule(name="health", callers=IN_SHOP, paths=("/healthz",))


def service(name: str, *rules: Rule, has_sidecar: bool = True) -> WorldService:
    return WorldService(
        namespace="shop",
        name=name,
        spiffe_id=SpiffeId.parse(f"spiffe://shop.example/ns/shop/sa/{name}"),
        ports=(WorldPort(port=8080, protocol="http"),),
        policy=PolicySet(allowlists=(Allowlist(namespace="shop", name="callers", rules=rules),)),
        has_sidecar=has_sidecar,
    )


WORLD = World(
    trust_domain=TrustDomain("shop.example"),
    services=(service("orders", READS, HEALTH), service("web", HEALTH), service("stripe", has_sidecar=False)),
    places={(Effect.ALLOW, "shop/callers/health"): Place("orders.yaml", 20, 7)},
)


def read(text: str) -> tuple[list[TestCase], list[str]]:
    cases, problems = read_cases(text, "t.yaml", NOW)
    return cases, [str(problem) for problem in problems]


def one(text: str) -> TestCase:
    cases, problems = read(HEAD + "    - " + "\n      ".join(text.splitlines()) + "\n")
    assert problems == []
    (case,) = cases
    return case


def trial(*cases: str) -> Trial:
    text = HEAD + "".join(f"    - {{name: case {at}, {case}}}\n" for at, case in enumerate(cases))
    read_ones, problems = read_cases(text, "t.yaml", NOW)
    tried, told = try_cases(read_ones, WORLD)
    assert [*problems, *told] == []
    return tried


def test_a_short_case_says_only_who_calls_whom() -> None:
    case = one("name: web reads\ncall: {from: web, to: orders}\nexpect: permit")

    assert case.words == CallWords(caller="web", service="orders", namespace="shop", time=NOW)
    assert case.expect == Expectation(verdict=Verdict.PERMIT)
    assert case.place == Place("t.yaml", 6, 13)


def test_a_full_case_says_all_of_a_call_and_of_its_verdict() -> None:
    case = one(
        "name: all of it\n"
        "call:\n"
        "  from: spiffe://partner.example/x\n"
        "  to: edge/orders\n"
        "  port: 8443\n"
        "  method: PUT\n"
        "  path: /orders/7\n"
        "  host: orders.shop\n"
        "  headers: {x-team: [a, b], x-one: c}\n"
        "  token: {issuer: people, scopes: [r, w], claims: {sub: me, level: 3, admin: true, groups: [a, b]}}\n"
        "  address: 10.0.0.7\n"
        "  time: 2026-03-01T12:00:00+01:00\n"
        "expect: {verdict: deny, reason: token_insufficient, rule: callers/reads}"
    )

    assert case.words == CallWords(
        caller="spiffe://partner.example/x",
        service="edge/orders",
        namespace="shop",
        port=8443,
        method="PUT",
        path="/orders/7",
        host="orders.shop",
        headers=(("x-team", "a"), ("x-team", "b"), ("x-one", "c")),
        issuer="people",
        scopes=("r", "w"),
        claims={"sub": "me", "level": 3, "admin": True, "groups": ["a", "b"]},
        address="10.0.0.7",
        time=1772362800.0,
    )
    assert case.expect == Expectation(
        verdict=Verdict.DENY, reason=DenyReason.TOKEN_INSUFFICIENT, rule="shop/callers/reads"
    )


def test_the_time_of_a_document_is_that_of_its_cases() -> None:
    text = HEAD.replace("  cases:", "  time: 2026-03-01T12:00:00Z\n  cases:")
    cases, problems = read(text + "    - {name: a, call: {from: web, to: orders}, expect: permit}\n")

    assert problems == []
    assert cases[0].words.time == 1772366400.0


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("{name: a, call: {from: web, to: orders}}", "6:7: item of cases lacks expect (add expect)"),
        ("{name: a, call: {from: web, to: orders}, expect: allow}", "verdict 'allow' is not known"),
        (
            "{name: a, call: {from: web, to: orders, pth: /}, expect: deny}",
            "unknown field 'pth' in call (did you mean path?)",
        ),
        ("{name: a, call: {from: web, to: orders, port: 0}, expect: deny}", "port 0 is out of range"),
        ("{name: a, call: {from: web, to: orders, time: today}, expect: deny}", "time 'today' is not valid"),
        ("{name: a, call: {from: web, to: orders, token: {}}, expect: deny}", "token is empty"),
        (
            "{name: a, call: {from: web, to: orders, token: {invalid: true, scopes: [a]}}, expect: deny}",
            "token is invalid and says something",
        ),
        (
            "{name: a, call: {from: web, to: orders, token: {claims: {a: {b: c}}}}, expect: deny}",
            "claim 'a' is a mapping (write its claims with dots: outer.inner)",
        ),
        (
            "{name: a, call: {from: web, to: orders}, expect: {verdict: deny, reason: method_not_alowed}}",
            "reason 'method_not_alowed' is not known (did you mean method_not_allowed?)",
        ),
        (
            "{name: a, call: {from: web, to: orders}, expect: {verdict: permit, reason: denylisted}}",
            "a permitted call has no reason",
        ),
        ("{name: a, call: {from: web, to: orders}, expect: {verdict: deny, rule: reads}}", "'reads' names no rule"),
    ],
)
def test_what_is_wrong_with_a_case_is_told_with_its_place(case: str, told: str) -> None:
    cases, problems = read(f"{HEAD}    - {case}\n")

    assert cases == []
    assert len(problems) == 1
    assert problems[0].startswith("t.yaml:6:")
    assert told in problems[0]


def test_two_cases_of_one_name_and_documents_without_cases_are_refused() -> None:
    case = "{name: a, call: {from: web, to: orders}, expect: permit}"

    assert read(f"{HEAD}    - {case}\n    - {case}\n")[1] == [
        "t.yaml:7:14: duplicate case 'a' (first used on line 6: rename one)"
    ]
    assert "cases is empty" in read(HEAD.replace("cases:", "cases: []"))[1][0]
    assert "kind 'Allowlist' is not known here" in read(HEAD.replace("PolicyTest", "Allowlist"))[1][0]


def test_a_case_passes_when_all_that_it_expects_is_so() -> None:
    tried = trial(
        "call: {from: web, to: orders, path: /orders/7}, expect: permit",
        "call: {from: web, to: orders, path: /orders/7}, expect: {verdict: permit, rule: callers/reads}",
        "call: {from: web, to: orders, path: /orders/7}, expect: {verdict: permit, rule: callers/health}",
        "call: {from: web, to: orders, path: /orders/7}, expect: deny",
        "call: {from: web, to: orders}, expect: {verdict: deny, reason: path_not_allowed}",
        "call: {from: web, to: orders}, expect: {verdict: deny, reason: caller_not_allowed}",
        "call: {from: web, to: orders}, expect: would_deny",
        "call: {from: unauthenticated, to: orders}, expect: {verdict: deny, reason: plaintext_refused}",
    )

    assert [outcome.passed for outcome in tried.outcomes] == [True, True, False, False, True, False, False, True]
    assert tried.failed == 4


def test_rules_that_no_case_speaks_to_are_counted_once_however_many_services_have_them() -> None:
    tried = trial("call: {from: web, to: orders, path: /orders/7}, expect: permit")

    assert [(one.named.full_name, one.is_exercised) for one in tried.exercises] == [
        ("shop/callers/health", False),
        ("shop/callers/reads", True),
    ]
    assert tried.exercises[0].place == Place("orders.yaml", 20, 7)
    assert (tried.covers(50), tried.covers(51)) == (True, False)
    both = trial(
        "call: {from: web, to: web, path: /healthz}, expect: permit", "call: {from: web, to: orders}, expect: deny"
    )
    assert [(one.named.full_name, one.is_exercised) for one in both.exercises] == [
        ("shop/callers/health", True),
        ("shop/callers/reads", False),
    ]


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("call: {from: wbe, to: orders}, expect: deny", "t.yaml:6:30: there is no service 'shop/wbe'"),
        ("call: {from: web, to: order}, expect: deny", "t.yaml:6:39: there is no service 'shop/order'"),
        ("call: {from: web, to: stripe}, expect: deny", "has no sidecar"),
        ("call: {from: web, to: orders, path: orders}, expect: deny", "does not start with '/'"),
        ("call: {from: web, to: orders, token: {scopes: [a]}}, expect: deny", "believes 0 token issuers"),
        (
            "call: {from: web, to: orders}, expect: {verdict: permit, rule: callers/read}",
            "there is no rule 'shop/callers/read' (did you mean shop/callers/reads?)",
        ),
    ],
)
def test_a_case_about_what_is_not_there_is_bad_input(case: str, told: str) -> None:
    cases: Any
    cases, problems = read_cases(f"{HEAD}    - {{name: a, {case}}}\n", "t.yaml", NOW)
    assert problems == []
    _, problems = try_cases(cases, WORLD)

    assert len(problems) == 1
    assert told in str(problems[0])


def test_rules_that_lie_above_each_other_are_all_exercised_by_one_case() -> None:
    many = tuple(Rule(name=f"r{at:02}", callers=IN_SHOP) for at in range(60))
    deep = World(trust_domain=WORLD.trust_domain, services=(service("orders", *many), service("web")))
    cases, problems = read_cases(
        HEAD + "    - {name: a, call: {from: web, to: orders}, expect: permit}\n", "t.yaml", NOW
    )
    assert problems == []
    tried, problems = try_cases(cases, deep)

    assert problems == []
    assert (len(tried.exercises), tried.exercised) == (60, 60)
