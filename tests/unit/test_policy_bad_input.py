"""The bad input that authors of policy bring, one test each; what a schema can say the published one refuses, too.

What costs time or memory (ten megabytes, deep nesting, anchor bombs) has its sharper tests in ``tests/adversarial``.
"""

from __future__ import annotations

import pytest

from ringfence.policy.documents import read_documents
from tests.policy_texts import allowlist, denylist, document, schema_refuses, told

HEAD = "apiVersion: ringfence.io/v1alpha1\nkind: Allowlist\nmetadata: {name: a, namespace: shop}\nspec:\n"


def refused(text: str, *said: str) -> None:
    """``text`` is refused with one problem, in which all of ``said`` is, and by the schema."""
    (problem,) = told(text)
    for words in said:
        assert words in problem
    assert schema_refuses(text)


def refused_by_reader(text: str, *said: str) -> None:
    """As ``refused``, for what no schema can say."""
    (problem,) = told(text)
    for words in said:
        assert words in problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (allowlist("from: [web], To: {ports: [80]}"), "'To' in item of rules (did you mean to?)"),
        (allowlist("from: [web], to: {ports: [1], header: []}"), "'header' in to (did you mean headers?)"),
        (allowlist("from: [{namespace: a, cidr: [10.0.0.0/8]}]"), "'cidr' in item of from (did you mean cidrs?)"),
        (allowlist("from: [web], token: {scope: [a]}"), "'scope' in token (did you mean scopes?)"),
        (allowlist("from: [web], wen: 'true'"), "'wen' in item of rules (did you mean when?)"),
        (denylist("from: [web], too: {ports: [80]}"), "'too' in item of rules (did you mean to?)"),
        (
            document("Role", "permissions: [{name: a, ports: [1], path: [/a]}]"),
            "'path' in item of permissions (did you mean paths?)",
        ),
        (document("CallerSet", "callers: [a], caller: [b]"), "'caller' in spec (did you mean callers?)"),
        (document("RoleBinding", "service: a, roles: [b], from: [c], role: d"), "'role' in spec (did you mean roles?)"),
        (
            document("Posture", "service: a, posture: observe, until: 2027-01-01T00:00:00Z, untill: x"),
            "'untill' in spec (did you mean until?)",
        ),
        (
            document("TokenIssuer", "issuer: i, audiences: [a], jwks: {url: 'https://a.b/k', urls: x}"),
            "'urls' in jwks (did you mean url?)",
        ),
    ],
)
def test_unknown_fields_are_told_with_the_nearest_known_name(text: str, message: str) -> None:
    refused(text, f"unknown field {message}")


@pytest.mark.parametrize("kind", ["allowlist", "Alowlist", "Denylists", "RoleBindings", "Tokenissuer"])
def test_an_unknown_kind_is_told_with_the_nearest_known_one(kind: str) -> None:
    refused(document(kind, "rules: []"), f"kind '{kind}' is not known here (did you mean ")


@pytest.mark.parametrize(
    "path",
    [
        "^/orders.*$", "^/orders", "/orders$", "/orders/.*", "/orders/.+", r"/orders/\d+", "/orders/[0-9]+", "/(a|b)/c",
        "/orders(/.*)?", "/(?i)orders", "/orders/[^/]*", "/a|/b",
    ],
)  # fmt: skip
def test_a_regular_expression_in_paths_is_told_as_one(path: str) -> None:
    said = ("regular expression where a path template is meant", "write {name} or * for one segment")
    refused_by_reader(allowlist(f"from: [web], to: {{paths: ['{path}']}}"), *said)
    refused_by_reader(document("Role", f"permissions: [{{name: a, paths: ['{path}']}}]"), *said)


@pytest.mark.parametrize("path", ["^/orders.*$", "^/orders", "/orders$", "/orders/.*", "/orders/[^/]*", r"/orders/\d+"])
def test_the_schema_knows_a_regular_expression_in_paths(path: str) -> None:
    assert schema_refuses(allowlist(f"from: [web], to: {{paths: ['{path}']}}"))


@pytest.mark.parametrize(
    "path", ["/v1/$batch", "/orders(7)", "/a+b", "/orders/{id}", "/a.b/*", "/**", "/a/**", "/~u/x-1_2"]
)
def test_a_literal_path_with_unusual_letters_is_no_regular_expression(path: str) -> None:
    text = allowlist(f"from: [web], to: {{paths: ['{path}']}}")
    assert told(text) == []
    assert schema_refuses(text) == []


@pytest.mark.parametrize(
    "host", ["^orders.*$", r"orders\.shop\.example", ".*.shop.example", "(a|b).example", "orders[0-9].example"]
)
def test_a_regular_expression_in_hosts_is_told_as_one(host: str) -> None:
    said = ("regular expression where a host name is meant", "write the name out, or *.NAME for every name below it")
    refused(allowlist(f"from: [web], to: {{hosts: ['{host}']}}"), *said)


@pytest.mark.parametrize(
    "value", ["^blue$", "blue.*", "(blue|green)", "blue|green", "[a-z]+", "[^a]", r"v\d", "blue$", "(?i)blue"]
)
def test_a_regular_expression_in_header_values_is_told_as_one(value: str) -> None:
    text = allowlist(f"from: [web], to: {{headers: [{{name: x-tenant, values: ['{value}']}}]}}")
    refused_by_reader(text, "regular expression where a header value is meant", "write each value out")


@pytest.mark.parametrize(
    "value", ["*/*", "text/html; q=0.8", "a.b.c", "(comment)", 'W/"1"', "[::1]", "1+1", "$1x", "a$b", "v1?"]
)
def test_a_literal_header_value_is_no_regular_expression(value: str) -> None:
    text = allowlist(f"from: [web], to: {{headers: [{{name: x-tenant, values: ['{value}']}}]}}")
    assert told(text) == []
    assert schema_refuses(text) == []


def test_a_wildcard_among_header_values_is_refused() -> None:
    text = allowlist("from: [web], to: {headers: [{name: x-tenant, values: ['*']}]}")
    refused(text, "'*' is a value like any other, not a wildcard (write present: true instead of values)")


@pytest.mark.parametrize(
    "method", ["shop.Orders/.*", "shop.Orders/(Get|List)", "^shop.Orders/Get$", r"shop\.Orders/Get"]
)
def test_a_regular_expression_among_grpc_methods_is_told_as_one(method: str) -> None:
    text = allowlist(f"from: [web], to: {{grpc: ['{method}']}}")
    refused(text, "regular expression where a gRPC method is meant", "shop.Orders/*")


@pytest.mark.parametrize("when", ["1 +", "request.method ==", "'a", "source.namespace = 'a'"])
def test_a_condition_that_does_not_compile_is_refused(when: str) -> None:
    refused_by_reader(allowlist(f'from: [web], when: "{when}"'), "when, at its 1:")


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("request.method", "its value is string"),
        ("request.method == 1", "found no matching overload"),
        ("source.namspace == 'a'", "undeclared reference"),
        ("destination.port == '80'", "found no matching overload"),
    ],
)
def test_a_condition_that_does_not_type_check_is_refused(when: str, said: str) -> None:
    refused_by_reader(allowlist(f'from: [web], when: "{when}"'), "when, at its 1:", said)


def test_a_condition_that_costs_too_much_is_refused() -> None:
    loops = "[1].all(a, [1].all(b, [1].all(c, [1].all(d, a == d))))"
    refused_by_reader(allowlist(f'from: [web], when: "{loops}"'), "loops within each other")
    many = " && ".join(["source.authenticated"] * 300)
    refused(allowlist(f'from: [web], when: "{many}"'), "when has", "at most 4096")


@pytest.mark.parametrize(
    ("one", "other"), [("/a/{x}", "/a/*"), ("/a/{x}", "/a/{y}"), ("/a/{x}/**", "/a/*/**"), ("/a/*", "/%61/{x}")]
)
def test_path_templates_that_overlap_ambiguously_are_refused(one: str, other: str) -> None:
    """They take exactly the same paths, so that which of them spoke could not be told."""
    refused_by_reader(
        allowlist(f"from: [web], to: {{paths: ['{one}', '{other}']}}"), "takes the same paths as", "remove one"
    )
    rules = ", ".join(
        f"{{name: {name}, from: [web, db], to: {{methods: [GET, POST], paths: ['{path}', /{name}]}}}}"
        for name, path in (("first", one), ("second", other))
    )
    said = ("of second takes the same calls as a path of first", "first on line 4: remove one")
    refused_by_reader(document("Allowlist", f"service: orders, rules: [{rules}]"), *said)
    refused_by_reader(document("Denylist", f"service: orders, rules: [{rules}]"), *said)
    permissions = f"{{name: first, paths: ['{one}']}}, {{name: second, paths: ['{other}']}}"
    refused_by_reader(document("Role", f"permissions: [{permissions}]"), *said)


@pytest.mark.parametrize(
    "second",
    [
        "from: [web], to: {methods: [GET], paths: ['/a/c/{y}']}",
        "from: [db], to: {methods: [GET], paths: ['/a/*/b']}",
        "from: [web], to: {methods: [POST], paths: ['/a/*/b']}",
        "from: [web], to: {methods: [GET], ports: [80], paths: ['/a/*/b']}",
        "from: [web], to: {methods: [GET], paths: ['/a/*/b']}, when: source.authenticated",
        "from: [web], to: {methods: [GET], paths: ['/a/*/b']}, token: {scopes: [a]}",
        "from: [web], to: {methods: [GET], hosts: [a.example], paths: ['/a/*/b']}",
        "from: [web], to: {methods: [GET], paths: ['/a/**']}",
    ],
)
def test_path_templates_that_merely_overlap_are_no_ambiguity(second: str) -> None:
    first = "name: one, from: [web], to: {methods: [GET], paths: ['/a/{x}/b']}"
    assert told(document("Allowlist", f"service: orders, rules: [{{{first}}}, {{name: two, {second}}}]")) == []


def test_one_parameter_twice_in_a_path_template_is_refused() -> None:
    text = allowlist("from: [web], to: {paths: ['/a/{x}/b/{x}']}")
    refused_by_reader(text, "path template uses a name twice", "give each {name} its own name")


@pytest.mark.parametrize(
    "caller",
    [
        "{spiffeId: 'spiffe://shop.example/ns/shop/sa/web*'}", "{spiffeId: 'spiffe://shop.example/ns/sh*/sa/web'}",
        "{spiffeId: 'spiffe://*.example/ns/shop/sa/web'}", "{spiffeId: 'spiffe://shop.example/**'}",
        "{trustDomain: '*'}", "{namespace: '*'}", "{service: 'web*'}", "{service: '*/web'}", "web*", "'*'", "shop/*",
        "{callerSet: 'a*'}", "{serviceLabels: {tier: '*'}}",
    ],
)  # fmt: skip
def test_wildcards_inside_identities_are_refused(caller: str) -> None:
    refused(allowlist(f"from: [{caller}]"))


@pytest.mark.parametrize(
    "caller",
    [
        'spiffeId: "spiffe://shop.example/ns/shop/sa/w\\u0435b"', 'spiffeId: "spiffe://sh\\u043ep.example/ns/shop/sa/web"',
        'spiffeId: "spiffe://shop.example/ns/shop/sa/web\\u200b"', 'trustDomain: "sh\\u043ep.example"',
        'namespace: "sh\\u043ep"', 'service: "w\\u0435b"', 'callerSet: "\\uff41"', 'serviceLabels: {t: "\\u0435"}',
    ],
)  # fmt: skip
def test_unicode_look_alikes_in_identities_are_refused(caller: str) -> None:
    (problem,) = told(allowlist(f"from: [{{{caller}}}]"))
    assert problem.isascii()
    assert "\\u" in problem
    assert schema_refuses(allowlist(f"from: [{{{caller}}}]"))


@pytest.mark.parametrize(
    "caller",
    [
        'spiffeId: "spiffe://shop.example/ns/shop/sa/web\\n"', 'trustDomain: "shop.example\\n"', 'namespace: "shop\\n"',
        'service: "web\\n"', 'callerSet: "a\\n"', 'serviceLabels: {t: "a\\n"}', 'serviceLabels: {"t\\n": a}',
    ],
)  # fmt: skip
def test_trailing_newlines_in_identities_are_refused(caller: str) -> None:
    (problem,) = told(allowlist(f"from: [{{{caller}}}]"))
    assert "\\n" in problem
    assert schema_refuses(allowlist(f"from: [{{{caller}}}]"))


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("metadata.name", document("Allowlist", "service: a, rules: []").replace("name: one", 'name: "one\\n"')),
        ("metadata.namespace", document("Allowlist", "service: a, rules: []").replace(": shop", ': "sh\\u043ep"')),
        ("spec.service", document("Allowlist", 'service: "orders\\n", rules: []')),
        ("rule", document("Allowlist", 'service: orders, rules: [{name: "r\\n", from: [web]}]')),
        ("role", document("RoleBinding", 'service: orders, roles: ["r\\u0435ader"], from: [web]')),
        ("host", allowlist('from: [web], to: {hosts: ["shop.example\\n"]}')),
        ("header", allowlist('from: [web], to: {headers: [{name: "x-a\\n", present: true}]}')),
        ("header value", allowlist('from: [web], to: {headers: [{name: x-a, values: ["a\\n"]}]}')),
        ("grpc", allowlist('from: [web], to: {grpc: ["a.B/C\\n"]}')),
        ("scope", allowlist('from: [web], token: {scopes: ["a\\n"]}')),
        ("method", allowlist('from: [web], to: {methods: ["GET\\n"]}')),
        ("cidr", allowlist('from: [{namespace: a, cidrs: ["10.0.0.0/8\\n"]}]')),
        ("until", document("Posture", 'service: a, posture: observe, until: "2027-01-01T00:00:00Z\\n"')),
    ],
)  # fmt: skip
def test_look_alikes_and_newlines_in_names_are_refused(place: str, text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    "kind", ["Allowlist", "Denylist", "Role", "CallerSet", "RoleBinding", "Posture", "TokenIssuer", "Egress"]
)
def test_documents_of_ten_megabytes_are_refused_unread(kind: str) -> None:
    text = document(kind, "rules: [" + "{name: a, from: [web]}, " * 430_000 + "]")
    assert len(text) > 10_000_000
    refused_by_reader(text, "file of more than 1048576 bytes", "split it into several files")


def test_deep_yaml_is_refused() -> None:
    refused_by_reader(HEAD + "  rules: " + "[" * 10_000, "nested deeper than 32 levels")
    refused_by_reader(HEAD + "  rules: " + "{a: " * 10_000, "nested deeper than 32 levels")


@pytest.mark.parametrize("key", ["service: other", '"\\x73ervice": other', "mode: shadow, mode: enforce"])
def test_duplicate_keys_are_refused(key: str) -> None:
    refused_by_reader(document("Allowlist", f"service: orders, rules: [], {key}"), "duplicate key", "keep one")
    refused_by_reader(allowlist("from: [web], from: [db]"), "duplicate key 'from'", "keep one")


def test_anchor_bombs_are_refused_at_the_first_anchor() -> None:
    lines = ["  a0: &a0 [lol, lol, lol]"] + [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    problems = read_documents(HEAD + "\n".join(lines), "p.yaml")[1]
    assert any("anchor or alias 'a0'" in problem.message for problem in problems)
    assert len(problems) < 400


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        ("none", "algorithm none signs nothing"),
        ("None", "algorithm none signs nothing"),
        ("HS256", "algorithm 'HS256' has no public key"),
        ("hs512", "algorithm 'hs512' has no public key"),
        ("RS257", "algorithm 'RS257' is not known (did you mean RS256?)"),
    ],
)
def test_algorithms_without_a_public_key_are_refused(algorithm: str, said: str) -> None:
    issuer = "issuer: i, audiences: [a], jwks: {url: 'https://login.example/k'}"
    refused(document("TokenIssuer", f"{issuer}, algorithms: ['{algorithm}']"), said)


def test_a_key_set_of_ten_thousand_keys_is_refused() -> None:
    keys = ", ".join(["{}"] * 10_000)
    text = document("TokenIssuer", f"issuer: i, audiences: [a], jwks: {{inline: '{{\"keys\": [{keys}]}}'}}")
    refused_by_reader(text, "keys")


def test_a_private_key_in_a_key_set_is_refused_and_not_shown() -> None:
    key = '{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "d": "c2VjcmV0"}'
    text = document("TokenIssuer", f"issuer: i, audiences: [a], jwks: {{inline: '{{\"keys\": [{key}]}}'}}")
    (problem,) = told(text)
    assert "c2VjcmV0" not in problem
