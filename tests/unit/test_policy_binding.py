"""Binding: selectors, callers, roles, postures and issuers become the policy of each service, or a problem."""

# ruff: noqa: E501 what is written and what comes of it stand in one line

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.bounds import CALLER_LIMIT, ISSUER_LIMIT
from ringfence.policy.documents import read_documents
from ringfence.policy.model import (
    AuthenticatedCallers,
    NamespaceCallers,
    NarrowedCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TokenMatch,
    UnauthenticatedCallers,
)
from tests.policy_documents import NOW, OWN, SERVICES, bound, document, service, told


def identity(name: str) -> SpiffeIdPattern:
    namespace, _, short = name.partition("/")
    return SpiffeIdPattern(trust_domain=OWN, segments=("ns", namespace, "sa", short))


def allow(name: str, selector: str, rules: str = "[{name: r, from: [web]}]", **more: str) -> str:
    return document("Allowlist", name, f"{{{selector}, rules: {rules}}}", **more)


def rules_of(text: str, name: str = "shop/orders", *others: str) -> tuple[Rule, ...]:
    binding = bound(text, *others)
    assert binding.errors == []
    (one,) = binding.policies[name].policy.allowlists
    return one.rules


# ------------------------------------------------------------------------------------------------------------ selectors


@pytest.mark.parametrize(
    ("selector", "namespace", "expected"),
    [
        ("service: orders", "shop", {"shop/orders"}),
        ("labels: {data: pii}", "shop", {"shop/orders", "shop/ledger"}),
        ("labels: {data: pii, tier: back}", "shop", {"shop/orders"}),
        ("scope: namespace", "bank", {"bank/vault"}),
        ("scope: namespace", "shop", {"shop/web", "shop/orders", "shop/ledger"}),
        ("scope: mesh", "ringfence-system", {"shop/web", "shop/orders", "shop/ledger", "bank/vault"}),
        ("scope: mesh, labels: {tier: edge}", "ringfence-system", {"shop/web"}),
    ],
)
def test_a_selector_chooses_services_with_sidecars(selector: str, namespace: str, expected: set[str]) -> None:
    rules = "[{name: r, from: [{namespace: shop}]}]"
    binding = bound(allow("a", selector, rules, namespace=namespace))
    assert binding.errors == []
    assert binding.policies.keys() == expected


@pytest.mark.parametrize(
    ("selector", "namespace", "expected"),
    [
        ("labels: {data: pi}", "shop", "has the labels {data: pi} (did you mean pii?)"),
        ("labels: {dat: pii}", "shop", "has the labels {dat: pii} (did you mean data?)"),
        ("labels: {data: pii, tier: edge}", "shop", "(no service has all of them at once: name fewer)"),
        ("labels: {data: pii}", "bank", "no service of namespace bank has the labels"),
        ("scope: namespace", "void", "no service of the mesh is in namespace void (choose another scope)"),
    ],
)
def test_a_selector_that_selects_nothing_is_a_warning(selector: str, namespace: str, expected: str) -> None:
    (line,) = told(allow("a", selector, "[{name: r, from: [shop/web]}]", namespace=namespace))
    assert line.startswith("f0.yaml:4:")
    assert "warning: selects nothing: " in line
    assert expected in line


def test_only_the_root_namespace_speaks_of_the_mesh() -> None:
    assert told(allow("a", "scope: mesh")) == [
        "f0.yaml:4:15: scope mesh in namespace shop "
        "(only documents of the root namespace ringfence-system speak of all namespaces)"
    ]


def test_services_without_a_sidecar_are_told_where_nobody_enforces() -> None:
    assert told(allow("a", "labels: {kind: direct}")) == [
        "f0.yaml:4:16: shop/search has no sidecar, so that nobody would enforce this allowlist "
        "(remove it, as the service judges its callers itself, or give the service a sidecar)"
    ]
    assert told(allow("a", "labels: {tier: back}")) == [
        "f0.yaml:4:16: warning: shop/search: without a sidecar, so that nobody enforces this allowlist there "
        "(such a service judges its callers itself)"
    ]


# -------------------------------------------------------------------------------------------------------------- callers


@pytest.mark.parametrize(
    ("callers", "expected"),
    [
        ("[web]", (identity("shop/web"),)),
        ("[bank/vault, search]", (identity("bank/vault"), identity("shop/search"))),
        ("[{service: web, cidrs: [10.0.0.0/8]}]", (NarrowedCallers(callers=identity("shop/web"), cidrs=("10.0.0.0/8",)),)),
        ("[{serviceLabels: {data: pii}}]", (identity("shop/ledger"), identity("shop/orders"))),
        ("[{serviceLabels: {tier: edge}, namespace: shop}, web]", (identity("shop/web"),)),
        ("[{namespace: bank}]", (NamespaceCallers(namespace="bank"),)),
        ("[{authenticated: true}]", (AuthenticatedCallers(),)),
        ("[{callerSet: front}]", (identity("shop/web"), NarrowedCallers(callers=NamespaceCallers(namespace="bank"), cidrs=("10.1.0.0/16",)))),
        ("[{callerSet: front, cidrs: [10.0.0.0/8]}]", (NarrowedCallers(callers=identity("shop/web"), cidrs=("10.0.0.0/8",)), NarrowedCallers(callers=NamespaceCallers(namespace="bank"), cidrs=("10.1.0.0/16",)))),
        ("[{callerSet: front, cidrs: [10.1.2.0/24, 10.2.0.0/16]}]", (NarrowedCallers(callers=identity("shop/web"), cidrs=("10.1.2.0/24", "10.2.0.0/16")), NarrowedCallers(callers=NamespaceCallers(namespace="bank"), cidrs=("10.1.2.0/24",)))),
        ("[{callerSet: front, cidrs: [192.0.2.0/24]}]", (NarrowedCallers(callers=identity("shop/web"), cidrs=("192.0.2.0/24",)),)),
    ],
)  # fmt: skip
def test_callers_are_resolved_to_identities(callers: str, expected: tuple[object, ...]) -> None:
    front = document("CallerSet", "front", "{callers: [web, {namespace: bank, cidrs: [10.1.0.0/16]}]}")
    (rule,) = rules_of(allow("a", "service: orders", f"[{{name: r, from: {callers}}}]"), "shop/orders", front)
    assert rule.callers == expected


def test_anyone_is_everybody_with_and_without_an_identity() -> None:
    deny = document(
        "Denylist", "d", "{service: orders, rules: [{name: r, from: [{anyone: true, cidrs: [10.0.0.0/8]}]}]}"
    )
    (rule,) = bound(deny).policies["shop/orders"].policy.denylists[0].rules
    assert rule.callers == tuple(
        NarrowedCallers(callers=one, cidrs=("10.0.0.0/8",))
        for one in (AuthenticatedCallers(), UnauthenticatedCallers())
    )


@pytest.mark.parametrize(
    ("callers", "expected"),
    [
        ("[wbe]", "f0.yaml:4:50: there is no service 'shop/wbe' (did you mean shop/web?)"),
        ("[vault]", "f0.yaml:4:50: there is no service 'shop/vault' (did you mean bank/vault?)"),
        ("[{service: bank/web}]", "there is no service 'bank/web' (did you mean shop/web?)"),
        ("[{serviceLabels: {tier: middle}}]", "matches nobody: no service of namespace shop has the labels {tier: middle}"),
        ("[{serviceLabels: {tier: edge}, namespace: bank}]", "matches nobody: no service of namespace bank has the labels"),
        ("[{callerSet: fronts}]", "there is no caller set 'shop/fronts' (did you mean shop/front?)"),
        ("[{callerSet: bank/front}]", "there is no caller set 'bank/front' (did you mean shop/front?)"),
        ("[{callerSet: narrow, cidrs: [192.0.2.0/24]}]", "matches nobody: the callers of shop/narrow come from none of these networks"),
    ],
)  # fmt: skip
def test_callers_that_there_are_not_are_errors_with_the_nearest(callers: str, expected: str) -> None:
    sets = (
        document("CallerSet", "front", "{callers: [web]}"),
        document("CallerSet", "narrow", "{callers: [{service: web, cidrs: [10.0.0.0/8]}]}"),
    )
    (line,) = told(allow("a", "service: orders", f"[{{name: r, from: {callers}}}]"), *sets)
    assert expected in line
    assert "warning" not in line


@pytest.mark.parametrize(
    ("callers", "expected"),
    [
        ("spiffeId: spiffe://shop.example/ns/shop/sa/wbe", "spiffe://shop.example/ns/shop/sa/wbe (did you mean spiffe://shop.example/ns/shop/sa/web?)"),
        ("spiffeId: spiffe://shop.example/ns/*/sa/billing", "no service of the mesh is spiffe://shop.example/ns/*/sa/billing"),
        ("trustDomain: partner.example", "no caller of trust domain partner.example gets past the handshake (name callers of shop.example: bundles of other trust domains cannot be given yet)"),
        ("spiffeId: spiffe://partner.example/ns/shop/sa/web", "no caller of trust domain partner.example gets past the handshake"),
        ("namespace: shopp", "no service of the mesh is in namespace shopp (did you mean shop?)"),
    ],
)  # fmt: skip
def test_an_identity_of_the_mesh_that_no_service_has_is_a_warning(callers: str, expected: str) -> None:
    (line,) = told(allow("a", "service: orders", f"[{{name: r, from: [{{{callers}}}]}}]"))
    assert "warning: matches nobody: " in line
    assert expected in line


@pytest.mark.parametrize(
    "callers",
    [
        "spiffeId: spiffe://shop.example/ns/shop/sa/web",
        "spiffeId: spiffe://shop.example/ns/*/sa/vault",
        "trustDomain: shop.example",
    ],
)
def test_an_identity_that_a_service_has_is_no_problem(callers: str) -> None:
    assert told(allow("a", "service: orders", f"[{{name: r, from: [{{{callers}}}]}}]")) == []


def test_a_broken_caller_set_is_told_once_even_if_nobody_uses_it() -> None:
    broken = document("CallerSet", "front", "{callers: [wbe]}")
    users = (allow(name, "service: orders", "[{name: r, from: [{callerSet: front}]}]") for name in ("a", "b"))
    expected = ["f0.yaml:4:18: there is no service 'shop/wbe' (did you mean shop/web?)"]
    assert told(broken) == expected
    assert told(broken, *users) == expected


def test_more_callers_than_a_rule_may_have_are_an_error() -> None:
    many = dict(service(f"shop/s{number}", {80: "http"}, labels=(("a", "b"),)) for number in range(CALLER_LIMIT + 1))
    text = allow("a", "service: s0", "[{name: r, from: [{serviceLabels: {a: b}}]}]")
    (problem,) = bound(text, services=many).errors
    assert problem.message == f"{CALLER_LIMIT + 1} callers are more than {CALLER_LIMIT}"
    del many["shop/s7"]
    assert bound(text, services=many).errors == []


# ---------------------------------------------------------------------------------------------------------------- roles

READER = document(
    "Role", "reader", "{permissions: [{name: get, methods: [GET], paths: [/orders]}, {name: ping, ports: [9000]}]}"
)


def test_a_role_binding_is_an_allowlist_of_its_name() -> None:
    binding = document("RoleBinding", "web-reads", "{service: orders, roles: [reader], from: [web, {namespace: bank}]}")
    (one,) = bound(READER, binding).policies["shop/orders"].policy.allowlists
    callers = (identity("shop/web"), NamespaceCallers(namespace="bank"))
    assert one.full_name == "shop/web-reads"
    assert one.rules == (
        Rule(name="reader.get", callers=callers, methods=("GET",), paths=("/orders",)),
        Rule(name="reader.ping", callers=callers, ports=(9000,)),
    )


def test_a_rule_with_roles_is_a_rule_for_each_permission() -> None:
    rules = rules_of(
        allow("a", "service: orders", "[{name: r, from: [web], to: {roles: [reader]}}]"), "shop/orders", READER
    )
    assert [rule.name for rule in rules] == ["r.reader.get", "r.reader.ping"]
    assert [rule.ports for rule in rules] == [(), (9000,)]


def test_what_rule_and_permission_ask_of_a_call_must_both_hold() -> None:
    role = document(
        "Role",
        "staff",
        '{permissions: [{name: p, token: {scopes: [a], acr: [x, y], claims: {c: ["1"]}, maxAge: 1h}, when: "1 == 1 // a"}]}',
    )
    rule = '[{name: r, from: [web], to: {roles: [staff]}, token: {scopes: [b], acr: [y], claims: {c: ["2"]}}, when: "2 == 2"}]'
    (one,) = rules_of(allow("a", "service: orders", rule), "shop/orders", role, ISSUER)
    assert one.token == TokenMatch(
        scopes=("a", "b"), acr=("y",), claims=(("c", ("1",)), ("c", ("2",))), max_age_seconds=3600
    )
    assert one.when == "(1 == 1 // a\n) && (2 == 2\n)"


def test_what_rule_and_permission_ask_of_a_token_together_is_no_more_than_a_sidecar_takes() -> None:
    def words(letter: str, count: int) -> str:
        return ", ".join(f"{letter}{number}" for number in range(count))

    role = document("Role", "staff", f"{{permissions: [{{name: p, token: {{scopes: [{words('a', 60)}]}}}}]}}")
    for count, refused in ((40, False), (41, True)):
        rule = f"[{{name: r, from: [web], to: {{roles: [staff]}}, token: {{scopes: [{words('b', count)}]}}}}]"
        lines = told(allow("a", "service: orders", rule), role, ISSUER)
        assert any("more than 100 words of one kind together" in line for line in lines) == refused


def test_tokens_that_no_request_can_have_at_once_are_an_error() -> None:
    role = document("Role", "staff", "{permissions: [{name: p, token: {acr: [x]}}]}")
    rule = "[{name: r, from: [web], to: {roles: [staff]}, token: {acr: [y]}}]"
    line = told(allow("a", "service: orders", rule), role, ISSUER)[-1]
    assert "ask for tokens that no request can have at once" in line


@pytest.mark.parametrize(
    "text",
    [
        document("RoleBinding", "b", "{service: orders, roles: [raeder], from: [web]}"),
        allow("a", "service: orders", "[{name: r, from: [web], to: {roles: [raeder]}}]"),
    ],
)
def test_an_unknown_role_is_an_error_with_the_nearest(text: str) -> None:
    (line,) = told(text, READER)
    assert "there is no role 'shop/raeder' (did you mean shop/reader?)" in line


def test_a_denylist_takes_the_words_of_a_role_but_not_its_token() -> None:
    deny = document("Denylist", "d", "{service: orders, rules: [{name: n, from: [web], to: {roles: [reader]}}]}")
    (one,) = bound(READER, deny).policies["shop/orders"].policy.denylists
    assert [rule.name for rule in one.rules] == ["n.reader.get", "n.reader.ping"]
    asks = document("Role", "reader", "{permissions: [{name: get, token: {scopes: [a]}}]}")
    (line,) = [line for line in told(asks, deny, ISSUER) if "warning: " not in line]
    assert "rule n.reader.get of a denylist would ask for a token, as a permission of this role does" in line


def test_roles_of_one_name_in_two_namespaces_cannot_become_rules_of_one_name() -> None:
    other = document("Role", "reader", "{permissions: [{name: get, methods: [PUT]}]}", namespace="bank")
    (line,) = told(
        READER, other, document("RoleBinding", "b", "{service: orders, roles: [reader, bank/reader], from: [web]}")
    )
    assert "two rules become 'reader.get' (first at f2.yaml:4: rename a role)" in line


# ---------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("kind", ["Allowlist", "Denylist"])
def test_a_name_taken_twice_is_told_at_the_second(kind: str) -> None:
    spec = "{service: orders, rules: [{name: r, from: [web]}]}"
    assert told(document(kind, "a", spec), document(kind, "a", spec)) == [
        f"f1.yaml:3:18: duplicate {kind.lower()} 'shop/a' (first given at f0.yaml:3: rename one)"
    ]


def test_a_role_binding_takes_the_name_of_an_allowlist_and_a_denylist_does_not() -> None:
    binding = document("RoleBinding", "a", "{service: orders, roles: [reader], from: [web]}")
    deny = document("Denylist", "a", "{service: ledger, rules: [{name: r, from: [web]}]}")
    assert told(READER, allow("a", "service: ledger", "[{name: r, from: [orders]}]"), deny) == []
    (line,) = told(READER, allow("a", "service: ledger"), binding)
    assert "f2.yaml:3:18: duplicate role binding 'shop/a'" in line


# --------------------------------------------------------------------------------------------------------------- shadow


def test_the_shadow_is_the_whole_policy_as_it_would_be() -> None:
    shadow = allow("b", "service: orders, mode: shadow", "[{name: s, from: [bank/vault]}]")
    deny = document("Denylist", "d", "{scope: namespace, mode: shadow, rules: [{name: n, from: [search]}]}")
    policies = bound(allow("a", "service: orders"), shadow, deny).policies
    orders, web = policies["shop/orders"], policies["shop/web"]
    assert [one.name for one in orders.policy.allowlists] == ["a"]
    assert orders.policy.denylists == ()
    assert orders.shadow is not None
    assert [one.name for one in (*orders.shadow.allowlists, *orders.shadow.denylists)] == ["a", "b", "d"]
    assert (web.policy, web.shadow is not None) == (PolicySet(), True)
    assert "bank/vault" not in policies


def test_without_documents_in_the_shadow_there_is_no_shadow() -> None:
    assert bound(allow("a", "service: orders")).policies["shop/orders"].shadow is None


# ------------------------------------------------------------------------------------------------------------- postures


def posture(name: str, seconds: float, selector: str = "service: orders", namespace: str = "shop") -> str:
    until = datetime.fromtimestamp(NOW + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return document("Posture", name, f'{{{selector}, posture: observe, until: "{until}"}}', namespace)


def test_the_latest_end_of_several_postures_holds() -> None:
    policies = bound(posture("a", 3600), posture("b", 7200), posture("c", 60, "scope: namespace")).policies
    assert policies["shop/orders"].policy == PolicySet(observe_until=NOW + 7200)
    assert policies["shop/ledger"].policy.observe_until == NOW + 60
    assert "bank/vault" not in policies


def test_the_shadow_is_observed_as_long() -> None:
    shadow = allow("b", "service: orders, mode: shadow")
    orders = bound(posture("a", 3600), shadow).policies["shop/orders"]
    assert orders.shadow is not None
    assert orders.shadow.observe_until == orders.policy.observe_until == NOW + 3600


@pytest.mark.parametrize("seconds", [0, -1, -86400])
def test_a_posture_that_has_ended_means_nothing_and_is_a_warning(seconds: float) -> None:
    (line,) = told(posture("a", seconds), posture("b", 60, "service: ledger"))
    assert "warning: this posture has ended, so that it means nothing: default deny is in force" in line
    policies = bound(posture("a", seconds), posture("b", 60, "service: ledger")).policies
    assert policies.keys() == {"shop/ledger"}


def test_a_posture_lasts_ninety_days_at_most() -> None:
    assert told(posture("a", 90 * 86400)) == []
    (line,) = told(posture("a", 90 * 86400 + 1))
    assert line.endswith("this posture ends in 90 days (at most 90 days: set an earlier end)")
    assert "warning" not in line


# -------------------------------------------------------------------------------------------------------------- issuers

ISSUER = document(
    "TokenIssuer",
    "login",
    "{issuer: https://login.example, audiences: [orders], jwks: {url: https://login.example/keys}}",
)
NEEDS = "[{name: r, from: [web], token: {scopes: [a]}}]"


def test_an_issuer_is_for_its_namespace_unless_it_says_otherwise() -> None:
    policies = bound(ISSUER).policies
    assert policies.keys() == {"shop/web", "shop/orders", "shop/ledger"}
    (issuer,) = policies["shop/orders"].issuers
    assert (issuer.name, issuer.issuer, issuer.keys) == ("shop/login", "https://login.example", "")
    assert policies["shop/orders"].policy == PolicySet()


def test_a_rule_that_asks_for_a_token_has_an_issuer_in_force() -> None:
    assert told(ISSUER, allow("a", "service: orders", NEEDS)) == []
    (line,) = told(allow("a", "service: orders", NEEDS))
    assert line.endswith(
        "rule r asks for a token, but no token issuer is in force at shop/orders "
        "(select the service in a TokenIssuer, or remove token)"
    )


def test_a_token_is_asked_for_at_each_service_or_at_none() -> None:
    wide = allow(
        "a",
        "scope: mesh",
        "[{name: r, from: [{namespace: shop}], token: {}}]".replace("{}", "{scopes: [a]}"),
        namespace="ringfence-system",
    )
    (line,) = [line for line in told(ISSUER, wide) if "token issuer" in line]
    assert "no token issuer is in force at bank/vault" in line


def test_an_issuer_that_a_rule_names_is_known_and_in_force_there() -> None:
    only = document(
        "TokenIssuer",
        "staff",
        "{service: web, issuer: https://s.example, audiences: [a], jwks: {url: https://s.example/k}}",
    )

    def named(issuer: str) -> str:
        return allow("a", "service: orders", f"[{{name: r, from: [web], token: {{issuers: [{issuer}]}}}}]")

    assert told(ISSUER, only, named("login")) == []
    assert told(ISSUER, only, named("login, staff")) == []
    (line,) = told(ISSUER, only, named("staff"))
    assert "none of shop/staff is in force at shop/orders" in line
    (line,) = told(ISSUER, only, named("logn"))
    assert "there is no token issuer 'shop/logn' (did you mean shop/login?)" in line


def test_a_condition_on_a_token_that_no_issuer_makes_is_a_warning() -> None:
    reads = allow("a", "service: orders", "[{name: r, from: [web], when: \"token.subject == 'x'\"}]")
    assert told(ISSUER, reads) == []
    (line,) = told(reads)
    assert "warning: rule r reads a token in when, but no token issuer is in force at shop/orders" in line
    assert told(allow("a", "service: orders", '[{name: r, from: [web], when: "token == null"}]')) == []


def test_more_issuers_than_a_service_may_have_are_an_error() -> None:
    texts = [ISSUER.replace("name: login", f"name: i{number}") for number in range(ISSUER_LIMIT + 1)]
    found = bound(*texts).errors
    assert len(found) == 3  # one for each service of the namespace
    assert (
        found[0].message.endswith(f"would have more than {ISSUER_LIMIT} token issuers with shop/i{ISSUER_LIMIT - 1}")
        or found
    )
    assert bound(*texts[1:]).errors == []


# --------------------------------------------------------------------------------------------------------------- places


def test_each_rule_has_its_place() -> None:
    deny = document("Denylist", "d", "{service: orders, rules: [{name: n, from: [search]}]}")
    places = bound(allow("a", "service: orders"), deny).places
    assert {key: place.file for key, place in places.items()} == {
        ("allow", "shop/a/r"): "f0.yaml",
        ("deny", "shop/d/n"): "f1.yaml",
    }


@pytest.mark.parametrize("wrong", ["[{calerSet: front}]", "[]", "[{namespace: Shop}]"])
def test_a_document_that_was_read_in_part_is_still_held_against_the_mesh(wrong: str) -> None:
    # Its author is to see all that is wrong at once.
    text = document("RoleBinding", "b", f"{{service: ordrs, roles: [reader], from: {wrong}}}")
    documents, problems = read_documents(f"{READER}---\n{text}", "f.yaml")
    assert problems
    found = bind(documents, Surroundings(services=SERVICES, trust_domain=OWN))
    assert [problem.message for problem in found.problems] == ["namespace shop has no service 'ordrs'"]


def test_services_of_the_test_have_what_it_says() -> None:
    assert {name for name, one in SERVICES.items() if not one.has_sidecar} == {"shop/search"}


# ----------------------------------------------------------------------------------------------------------- conditions


def test_conditions_that_together_are_too_much_are_an_error_where_the_role_is_named() -> None:
    half = "source.namespace == '" + "a" * 3000 + "'"
    role = document("Role", "staff", f'{{permissions: [{{name: p, when: "{half}"}}]}}')
    rule = '[{name: r, from: [web], to: {roles: [staff]}, when: "%s"}]'
    assert told(role, allow("a", "service: orders", rule % "1 == 1")) == []
    (line,) = told(role, allow("a", "service: orders", rule % half))
    assert "the conditions of the rule and of its role cannot be enforced together: more than 4096 bytes" in line


def test_a_condition_on_the_request_is_at_home_where_there_are_requests() -> None:
    def when(text: str, target: str, to: str = "") -> str:
        return allow("a", f"service: {target}", f'[{{name: r, from: [search]{to}, when: "{text}"}}]')

    reads = "request.path == '/'"
    assert told(when(reads, "orders")) == []
    assert told(when("source.namespace == 'shop'", "ledger")) == []
    (line,) = told(when(reads, "ledger"))
    assert "rule r reads the request in when, but each port of shop/ledger carries opaque TCP" in line
    (line,) = told(when(reads, "orders", ", to: {ports: [9000]}"))
    assert "rule r reads the request in when, but the ports that it names carry opaque TCP" in line
    assert told(when(reads, "orders", ", to: {ports: [9000, 8080]}")) == []
