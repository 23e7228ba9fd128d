"""What is called: hosts, headers, gRPC methods and roles beside ports, methods and paths."""

from __future__ import annotations

import pytest

from ringfence.policy.lists import METHODS
from ringfence.policy.model import GrpcMethod, HeaderMatch
from ringfence.policy.written import AllowlistDocument, Words, WrittenRule
from tests.policy_texts import allowlist, document, read_one, schema_refuses, told


def rule_of(to: str) -> WrittenRule:
    (rule,) = read_one(allowlist(f"from: [web], to: {{{to}}}"), AllowlistDocument).rules
    assert schema_refuses(allowlist(f"from: [web], to: {{{to}}}")) == []
    return rule


def words_of(to: str) -> Words:
    return rule_of(to).words


def refused(to: str) -> str:
    (problem,) = told(allowlist(f"from: [web], to: {{{to}}}"))
    return problem


def test_hosts_are_names_and_all_below_names() -> None:
    words = words_of("hosts: [orders, orders.shop.example, '*.shop.example', xn--bcher-kva.example]")
    assert [host.value for host in words.hosts] == [
        "orders", "orders.shop.example", "*.shop.example", "xn--bcher-kva.example"
    ]  # fmt: skip
    assert words.http == words.hosts[0].place


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (
            "orders.example:8080",
            "port in the host 'orders.example:8080' (write orders.example, and the port under ports)",
        ),
        ("Orders.example", "write it in lower case"),
        ("orders.example.", "dot at the end"),
        ("or*.example", "wildcard in"),
        ("'*'", "wildcard in"),
        ("'a.*.example'", "regular expression where"),
        ("10.0.0.1", "callers ask for a service by name"),
        ("'[::1]'", "regular expression where a host name is meant"),
        ("http://orders", "is not a DNS name"),
        ("or_ders", "is not a DNS name"),
        ('"\\u043erders"', "'\\u043erders' is not a DNS name"),
    ],
)
def test_what_is_no_host_is_refused(host: str, said: str) -> None:
    assert said in refused(f"hosts: [{host}]")


def test_headers_are_asked_for_by_values_or_presence() -> None:
    words = words_of(
        "headers: [{name: X-Tenant, values: [blue, 'a b; c']}, {name: x-debug, present: false}, "
        "{name: authorization, present: true}]"
    )
    assert [header.value for header in words.headers] == [
        HeaderMatch(name="x-tenant", values=("blue", "a b; c")),
        HeaderMatch(name="x-debug", present=False),
        HeaderMatch(name="authorization", present=True),
    ]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("{name: x-a}", "item of headers lacks values or present"),
        ("{values: [a]}", "item of headers lacks name"),
        ("{name: x-a, values: [a], present: true}", "item of headers has values and present (keep one of them)"),
        ("{name: x-a, values: []}", "values is empty (write present: true for any value, or name one)"),
        ("{name: x-a, values: [a, a]}", "is there twice"),
        ("{name: x-a, present: 'true'}", "must be true or false, not text"),
        ("{name: Host, present: true}", "name it under hosts"),
        ("{name: ':authority', present: true}", "name it under hosts"),
        ("{name: ':path', present: true}", "name it under paths"),
        ("{name: ':method', present: true}", "name it under methods"),
        ("{name: 'x a', present: true}", "is not the name of a header"),
        ("{name: 'x-a:', present: true}", "is not the name of a header"),
        ('{name: "x-\\u0430", present: true}', "'x-\\u0430' is not the name of a header"),
        ("{name: transfer-encoding, present: true}", "belongs to one connection"),
        ("{name: X-Forwarded-Client-Cert, present: true}", "name the caller under from"),
        ("{name: x-ringfence-refusal, present: true}", "name the caller under from"),
        ("{name: Authorization, values: [Bearer x]}", "values of header authorization are secrets"),
        ("{name: cookie, values: [a=b]}", "values of header cookie are secrets"),
        ("{name: x-a, values: ['a ']}", "is no value that a header can have"),
        ('{name: x-a, values: ["a\\r\\nb: c"]}', "is no value that a header can have"),
        ("{name: x-a, values: [ü]}", "is no value that a header can have"),
    ],
)
def test_what_asks_for_no_header_is_refused(header: str, said: str) -> None:
    assert said in refused(f"headers: [{header}]")


def test_a_header_is_asked_for_once() -> None:
    problem = refused("headers: [{name: x-a, values: [a]}, {name: X-A, values: [b]}]")
    assert problem == "header x-a is asked for twice (first on line 4: put all values into one)"


def test_grpc_methods_are_one_or_all_of_a_service() -> None:
    words = words_of("grpc: [shop.v1.Orders/Get, 'Search/*']")
    assert [method.value for method in words.grpc] == [
        GrpcMethod(service="shop.v1.Orders", method="Get"),
        GrpcMethod(service="Search"),
    ]
    assert words_of("grpc: [a.B/C], paths: [/healthz], methods: [GET, POST]").http is not None


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("/shop.Orders/Get", "begins with '/' (write shop.Orders/Get)"),
        ("shop.Orders", "names no method (write shop.Orders/METHOD, or shop.Orders/* for each)"),
        ("shop.Orders/", "not a gRPC method"),
        ("shop.Orders/Get/x", "not a gRPC method"),
        ("'shop.*/Get'", "regular expression where"),
        ("'*/*'", "not a gRPC method"),
        ("'shop.Orders/Ge*'", "not a gRPC method"),
        ("'shop.Orders/{m}'", "not a gRPC method"),
        ('"shop.\\u041erders/Get"', "not a gRPC method"),
    ],
)
def test_what_is_no_grpc_method_is_refused(method: str, said: str) -> None:
    assert said in refused(f"grpc: [{method}]")


def test_grpc_beside_methods_that_no_call_has_is_refused() -> None:
    assert "every gRPC call is one" in refused("grpc: [a.B/C], methods: [GET]")


def test_roles_say_what_is_permitted_alone() -> None:
    rule = rule_of("roles: [reader, bank/auditor]")
    assert [role.value for role in rule.roles] == ["shop/reader", "bank/auditor"]
    assert rule.words == Words()
    assert refused("roles: [reader], ports: [80]") == (
        "to has roles and ports (keep one of them, or put it into the role's permissions)"
    )
    assert "roles is empty" in refused("roles: []")


@pytest.mark.parametrize("key", ["ports", "methods", "paths", "hosts", "headers", "grpc", "roles"])
def test_an_empty_list_of_words_is_refused(key: str) -> None:
    assert f"{key} is empty" in refused(f"{key}: []")
    assert schema_refuses(allowlist(f"from: [web], to: {{{key}: []}}"))


def test_every_method_that_is_served_may_be_named() -> None:
    assert [method.value for method in words_of(f"methods: [{', '.join(METHODS)}]").methods] == list(METHODS)


def test_the_words_of_a_permission_are_those_of_a_rule() -> None:
    text = document("Role", "permissions: [{name: a, hosts: ['10.0.0.1']}, {name: b, roles: [c]}]")
    problems = told(text)
    assert "callers ask for a service by name" in problems[0]
    assert "unknown field 'roles' in item of permissions" in problems[1]
