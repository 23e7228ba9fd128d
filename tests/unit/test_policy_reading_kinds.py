"""Selectors, modes, and the kinds of documents that are no list of rules."""

from __future__ import annotations

import pytest

from ringfence.policy.labels import Labels
from ringfence.policy.model import Introspection, TokenIssuer
from ringfence.policy.written import (
    AllowlistDocument,
    DenylistDocument,
    MeshSelector,
    Mode,
    NamespaceSelector,
    PostureDocument,
    RoleBindingDocument,
    RoleDocument,
    Selector,
    ServiceReference,
    ServiceSelector,
    TokenIssuerDocument,
)
from tests.policy_texts import document, read_one, schema_refuses, told

LABELS: Labels = (("a", "b"),)
SELECTORS: list[tuple[str, Selector]] = [
    ("service: orders", ServiceSelector(service="orders")),
    ("labels: {a: b}", NamespaceSelector(labels=LABELS)),
    ("scope: namespace", NamespaceSelector()),
    ("scope: mesh", MeshSelector()),
    ("scope: mesh, labels: {a: b}", MeshSelector(labels=LABELS)),
]
BAD_SELECTORS = [
    "service: orders, scope: namespace", "service: orders, labels: {a: b}", "scope: namespace, labels: {a: b}",
    "scope: mesh, service: orders", "scope: world", "scope: Mesh", "service: shop/orders", "service: '*'",
    "service: [orders]", "labels: {}", "labels: a", "labels: {a: '*'}", "selector: {service: orders}",
    "service: orders, mode: Enforce", "service: orders, mode: off", "service: orders, mode: ''",
]  # fmt: skip


@pytest.mark.parametrize(("words", "selector"), SELECTORS)
def test_a_selector_has_one_of_its_forms(words: str, selector: Selector) -> None:
    for kind, found in (("Allowlist", AllowlistDocument), ("Denylist", DenylistDocument)):
        text = document(kind, f"{words}, rules: []")
        read = read_one(text, found)
        assert isinstance(read, AllowlistDocument | DenylistDocument)
        assert (read.selector.value, read.mode) == (selector, Mode.ENFORCE)
        assert schema_refuses(text) == []


@pytest.mark.parametrize("words", ["mode: enforce", *BAD_SELECTORS])
def test_what_selects_in_two_ways_or_none_is_refused(words: str) -> None:
    for text in (
        document("Allowlist", f"{words}, rules: []"),
        document("RoleBinding", f"{words}, roles: [a], from: [b]"),
        document("Posture", f"{words}, posture: observe, until: 2027-01-01T00:00:00Z"),
    ):
        assert told(text)
        assert schema_refuses(text)


def test_a_shadow_is_told_by_its_mode() -> None:
    assert read_one(document("Denylist", "service: a, mode: shadow, rules: []"), DenylistDocument).mode is Mode.SHADOW
    (problem,) = told(document("Denylist", "service: a, mode: shadows, rules: []"))
    assert "'shadows' is not known (did you mean shadow?)" in problem


def test_a_role_is_a_set_of_permissions() -> None:
    text = document(
        "Role", "permissions: [{name: a, methods: [GET], when: source.authenticated}, {name: b, ports: [1]}]"
    )
    first, second = read_one(text, RoleDocument).permissions
    assert (first.name, [method.value for method in first.words.methods]) == ("a", ["GET"])
    assert (second.name, [port.value for port in second.words.ports]) == ("b", [1])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("permissions: []", "permissions is empty (add one, or remove the role)"),
        ("", "spec lacks permissions"),
        ("permissions: [{name: a}]", "permission says nothing, so that it would permit everything"),
        ("permissions: [{ports: [1]}]", "item of permissions lacks name"),
        ("permissions: [{name: a, ports: [1]}, {name: a, ports: [2]}]", "duplicate permission name 'a'"),
        ("permissions: [{name: a, to: {ports: [1]}}]", "unknown field 'to' in item of permissions"),
        ("permissions: [{name: a, ports: [1], from: [b]}]", "unknown field 'from' in item of permissions"),
        ("service: a, permissions: [{name: a, ports: [1]}]", "unknown field 'service' in spec"),
    ],
)
def test_what_is_no_role_is_refused(spec: str, said: str) -> None:
    problems = told(document("Role", spec))
    assert any(said in problem for problem in problems)


def test_a_role_binding_brings_roles_and_callers_together() -> None:
    text = document("RoleBinding", "labels: {a: b}, mode: shadow, roles: [reader, bank/auditor], from: [web]")
    found = read_one(text, RoleBindingDocument)
    assert found.selector.value == NamespaceSelector(labels=LABELS)
    assert found.mode is Mode.SHADOW
    assert [role.value for role in found.roles] == ["shop/reader", "bank/auditor"]
    assert [item.value.origin for item in found.callers] == [ServiceReference(service="shop/web")]


@pytest.mark.parametrize(
    "spec",
    [
        "service: a, roles: [], from: [b]", "service: a, from: [b]", "service: a, roles: [a]",
        "service: a, roles: [A], from: [b]",
        "service: a, roles: [a, a], from: [b]", "service: a, roles: [a], from: []", "service: a, roles: a, from: [b]",
        "service: a, roles: ['*'], from: [b]", "service: a, roles: [a], from: [{anyone: true}]",
        "service: a, roles: [a], from: [b], to: {ports: [1]}",
    ],
)  # fmt: skip
def test_what_is_no_role_binding_is_refused(spec: str) -> None:
    assert told(document("RoleBinding", spec))
    assert schema_refuses(document("RoleBinding", spec))


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        ("2027-01-31T18:00:00Z", 1801418400.0),
        ("2027-01-31T18:00:00.5Z", 1801418400.5),
        ("2027-01-31T20:00:00+02:00", 1801418400.0),
        ("'2027-01-31T13:00:00-05:00'", 1801418400.0),
    ],
)
def test_a_posture_ends_at_a_moment_with_a_zone(until: str, seconds: float) -> None:
    text = document("Posture", f"scope: namespace, posture: observe, until: {until}")
    assert read_one(text, PostureDocument).until.value == seconds
    assert schema_refuses(text) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("posture: observe", "spec lacks until"),
        ("until: 2027-01-31T18:00:00Z", "spec lacks posture"),
        ("posture: open, until: 2027-01-31T18:00:00Z", "is not known"),
        ("posture: observe, until: 2027-01-31T18:00:00", "it has no time zone"),
        ("posture: observe, until: 2027-01-31 18:00:00", "it has no time zone"),
        ("posture: observe, until: 2027-01-31", "it has no time zone"),
        ("posture: observe, until: 2027-01-31 18:00:00Z", "not a moment in RFC 3339"),
        ("posture: observe, until: 2027-01-31T18:00:60Z", "not a moment in RFC 3339"),
        ("posture: observe, until: 2027-02-30T18:00:00Z", "is not valid"),
        ("posture: observe, until: 2027-01-31T25:00:00Z", "is not valid"),
        ("posture: observe, until: 0001-01-01T00:00:00+23:59", "is not valid"),
        ("posture: observe, until: 1969-01-01T00:00:00Z", "it is before 1970"),
        ("posture: observe, until: tomorrow", "not a moment in RFC 3339"),
        ("posture: observe, until: 90d", "not a moment in RFC 3339"),
        ("posture: observe, until: 1801418400", "must be text"),
        ("posture: observe, until: 2027-01-31T18:00:00Z, mode: shadow", "unknown field 'mode' in spec"),
    ],
)
def test_what_is_no_posture_is_refused(words: str, said: str) -> None:
    problems = told(document("Posture", f"service: a, {words}"))
    assert any(said in problem for problem in problems), problems


ISSUER = "issuer: https://login.example, audiences: [orders]"
JWKS = "jwks: {url: 'https://login.example/keys'}"
INTROSPECTION = "introspection: {url: 'https://login.example/i', clientId: orders, secretFile: /run/s}"


def test_a_token_issuer_has_defaults_and_keys_by_url() -> None:
    found = read_one(document("TokenIssuer", f"{ISSUER}, {JWKS}"), TokenIssuerDocument)
    assert found.selector.value == NamespaceSelector()
    assert found.issuer == TokenIssuer(name="shop/one", issuer="https://login.example", audiences=("orders",))
    assert found.jwks_url is not None
    assert found.jwks_url.value == "https://login.example/keys"
    assert found.secret_file is None


def test_all_of_a_token_issuer_is_read() -> None:
    words = "algorithms: [ES256, EdDSA], cookie: session, claimHeaders: {X-User: sub, x-team: a.b}, leeway: 1m"
    text = document("TokenIssuer", f"service: orders, {ISSUER}, {JWKS}, {words}")
    found = read_one(text, TokenIssuerDocument)
    assert schema_refuses(text) == []
    assert found.selector.value == ServiceSelector(service="orders")
    assert found.issuer == TokenIssuer(
        name="shop/one",
        issuer="https://login.example",
        audiences=("orders",),
        algorithms=("ES256", "EdDSA"),
        header="",
        cookie="session",
        claim_headers=(("x-team", "a.b"), ("x-user", "sub")),
        leeway_seconds=60,
    )


def test_opaque_tokens_are_asked_about() -> None:
    found = read_one(document("TokenIssuer", f"{ISSUER}, {INTROSPECTION}"), TokenIssuerDocument)
    assert found.issuer.introspection == Introspection(
        url="https://login.example/i", client_id="orders", secret="", cache_seconds=60
    )
    assert found.secret_file is not None
    assert found.secret_file.value == "/run/s"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ISSUER, "spec lacks jwks or introspection"),
        (f"{ISSUER}, {JWKS}, {INTROSPECTION}", "spec has jwks and introspection (keep one of them)"),
        (f"issuer: a, {JWKS}", "spec lacks audiences"),
        (f"issuer: a, audiences: [], {JWKS}", "audiences is empty"),
        (f"audiences: [a], {JWKS}", "spec lacks issuer"),
        (f"issuer: ' a', audiences: [a], {JWKS}", "is no word of a token"),
        (f"{ISSUER}, {JWKS}, header: x-a, cookie: b", "spec has header and cookie"),
        (f"{ISSUER}, {JWKS}, header: host", "name it under hosts"),
        (f"{ISSUER}, {JWKS}, header: connection", "belongs to one connection"),
        (f"{ISSUER}, {JWKS}, cookie: 'a;b'", "is not the name of a cookie"),
        (f"{ISSUER}, {JWKS}, leeway: 1h", "is out of range"),
        (f"{ISSUER}, {JWKS}, leeway: 500ms", "leeway has a part of a second"),
        (f"{ISSUER}, {JWKS}, algorithms: []", "algorithms is empty"),
        (f"{ISSUER}, {JWKS}, algorithms: [es256]", "did you mean ES256?"),
        (f"{ISSUER}, {INTROSPECTION}, algorithms: [ES256]", "no signature is checked here"),
        (f"{ISSUER}, {JWKS}, claimHeaders: {{}}", "claimHeaders is empty"),
        (f"{ISSUER}, {JWKS}, claimHeaders: {{x-a: sub, X-A: b}}", "header x-a is there twice"),
        (f"{ISSUER}, {JWKS}, claimHeaders: {{authorization: sub}}", "means something else to the app"),
        (f"{ISSUER}, {JWKS}, claimHeaders: {{X_Forwarded_Client_Cert: sub}}", "means something else to the app"),
        (f"{ISSUER}, {JWKS}, claimHeaders: {{x-forwarded-for: sub}}", "means something else to the app"),
        (f"{ISSUER}, {JWKS}, claimHeaders: {{x-real-ip: sub}}", "means something else to the app"),
        (f"{ISSUER}, {JWKS}, claimHeaders: {{transfer_encoding: sub}}", "means something else to the app"),
        (f"{ISSUER}, {JWKS}, claimHeaders: {{content-length: sub}}", "belongs to one connection"),
        (f"{ISSUER}, {JWKS}, claimHeaders: {{x-forwarded-client-cert: sub}}", "written by the sidecar itself"),
        (f"{ISSUER}, {JWKS}, claimHeaders: {{x-a: 'b c'}}", "is not the name of a claim"),
        (f"{ISSUER}, jwks: {{}}", "jwks lacks inline or url"),
        (f"{ISSUER}, jwks: {{url: 'https://a.example/k', inline: '{{}}'}}", "jwks has inline and url"),
        (f"{ISSUER}, jwks: {{inline: 'no json'}}", ""),
        (f"{ISSUER}, jwks: {{inline: '{{\"keys\": []}}'}}", ""),
        (f"{ISSUER}, jwks: {{url: 'http://login.example/k'}}", "is not over TLS"),
        (f"{ISSUER}, jwks: {{url: 'https://u@login.example/k'}}", "is not a URL"),
        (f"{ISSUER}, jwks: {{url: 'https://login.example:0/k'}}", "has a port out of range"),
        (f"{ISSUER}, jwks: {{url: 'https://10.0.0.1/k'}}", "has no DNS name as its host"),
        (f"{ISSUER}, jwks: {{url: 'https://169.254.169.254/k'}}", "has no DNS name as its host"),
        (f"{ISSUER}, jwks: {{url: 'https://0x7f.1/k'}}", "has no DNS name as its host"),
        (f"{ISSUER}, jwks: {{url: 'file:///etc/passwd'}}", "is not a URL"),
        (f"{ISSUER}, jwks: {{url: 'https://login.example/k#x'}}", "is not a URL"),
        (f"{ISSUER}, jwks: {{url: \"https://login.example/k\\n\"}}", "is not a URL"),
        (f"{ISSUER}, introspection: {{url: 'https://a.example/i', clientId: a}}", "introspection lacks secretFile"),
        (f"{ISSUER}, introspection: {{url: 'https://a.example/i', clientId: a, secret: b}}", "unknown field 'secret'"),
    ],
)  # fmt: skip
def test_what_is_no_token_issuer_is_refused(spec: str, said: str) -> None:
    problems = told(document("TokenIssuer", spec))
    assert any(said in problem for problem in problems), problems


def test_keys_on_this_machine_may_come_without_tls() -> None:
    for url in ("http://127.0.0.1:8080/k", "http://[::1]:8080/k"):
        read_one(document("TokenIssuer", f"{ISSUER}, jwks: {{url: '{url}'}}"), TokenIssuerDocument)
