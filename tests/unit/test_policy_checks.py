"""Rules that could not be enforced, or would never decide: found when bound, with places and mends."""

# ruff: noqa: E501 a problem is one line, and is compared as one

from __future__ import annotations

import pytest

from ringfence.policy.binding.covering import covers
from ringfence.policy.model import (
    AuthenticatedCallers,
    Callers,
    GrpcMethod,
    HeaderMatch,
    NamespaceCallers,
    NarrowedCallers,
    Rule,
    SpiffeIdPattern,
    TokenMatch,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.spiffe import TrustDomain
from tests.policy_documents import OWN, document, told


def listed(
    kind: str, to: str, selector: str = "service: orders", caller: str = "bank/vault", namespace: str = "shop"
) -> str:
    rule = f"{{name: r, from: [{caller}]{', to: ' + to if to else ''}}}"
    return document(kind, "a", f"{{{selector}, rules: [{rule}]}}", namespace)


# ---------------------------------------------------------------------------------------------------------------- ports


@pytest.mark.parametrize("kind", ["Allowlist", "Denylist"])
@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("{ports: [9000], paths: [/a]}", "rule r speaks of HTTP, but port 9000 of shop/orders carries opaque TCP (remove the port, or remove paths from the rule)"),
        ("{ports: [9000], hosts: [a.example]}", "(remove the port, or remove hosts from the rule)"),
        ("{ports: [9000], headers: [{name: x-a, present: true}]}", "(remove the port, or remove headers from the rule)"),
        ("{ports: [9000], grpc: [a.B/C]}", "(remove the port, or remove grpc from the rule)"),
        ("{ports: [8080], grpc: [a.B/C]}", "rule r names gRPC methods, but port 8080 of shop/orders is read as HTTP/1.1 only (give the port protocol: grpc in the mesh file, or remove grpc)"),
        ("{ports: [1]}", "shop/orders has no port 1 (its ports: 8080, 9000, 9090)"),
    ],
)  # fmt: skip
def test_words_that_a_port_cannot_carry_are_errors(kind: str, to: str, expected: str) -> None:
    (line,) = told(listed(kind, to))
    assert expected in line
    assert "warning" not in line


@pytest.mark.parametrize(
    "to", ["", "{ports: [9000]}", "{ports: [8080], paths: [/a]}", "{ports: [9090], grpc: [a.B/C]}", "{grpc: [a.B/*]}"]
)
def test_words_that_a_port_can_carry_are_none(to: str) -> None:
    assert told(listed("Allowlist", to)) == []


def test_grpc_methods_are_at_home_on_http2_with_prior_knowledge_and_nowhere_on_http1() -> None:
    assert told(listed("Allowlist", "{grpc: [a.B/C]}", "service: vault", namespace="bank")) == []
    (line,) = told(listed("Allowlist", "{grpc: [a.B/C]}", "service: web"))
    assert "rule r names gRPC methods, but shop/web has no port that is read as HTTP/2" in line


def test_of_several_services_one_must_be_able_to() -> None:
    wide = "scope: namespace"
    direct = "shop/search: without a sidecar"
    assert [line for line in told(listed("Allowlist", "{ports: [5432]}", wide)) if direct not in line] == []
    (line,) = [line for line in told(listed("Allowlist", "{ports: [5432], paths: [/a]}", wide)) if direct not in line]
    assert "rule r speaks of HTTP, but port 5432 of shop/ledger carries opaque TCP" in line
    (line,) = [line for line in told(listed("Allowlist", "{ports: [1]}", wide)) if direct not in line]
    assert "none of the 3 services selected has port 1 (their ports: 5432, 8080, 9000, 9090)" in line


def test_a_denylist_that_passes_opaque_ports_by_is_a_warning() -> None:
    (line,) = told(listed("Denylist", "{paths: [/admin]}"))
    assert line == (
        "f0.yaml:4:76: warning: rule r speaks of HTTP, so it refuses nothing at port 9000 of shop/orders, opaque TCP "
        "(name the ports that are meant, or refuse by callers alone)"
    )
    assert told(listed("Denylist", "{ports: [8080], paths: [/admin]}")) == []
    assert told(listed("Denylist", "")) == []


def test_unauthenticated_callers_where_no_port_takes_them() -> None:
    nobody = "{unauthenticated: true}"
    assert told(listed("Allowlist", "", "service: web", nobody)) == []
    (line,) = told(listed("Allowlist", "", "service: orders", nobody))
    assert "permits unauthenticated callers, but no port of shop/orders is permissive" in line
    assert "warning" not in line
    (line,) = told(listed("Denylist", "", "service: orders", nobody))
    assert "warning: rule r refuses unauthenticated callers, but no port of shop/orders is permissive" in line
    assert told(listed("Denylist", "", "service: orders", "{anyone: true}")) == []


# ------------------------------------------------------------------------------------------------------------- covering

WEB = SpiffeIdPattern(trust_domain=OWN, segments=("ns", "shop", "sa", "web"))
ANY_SA = SpiffeIdPattern(trust_domain=OWN, segments=("ns", "*", "sa", "*"))
SHOP = NamespaceCallers(namespace="shop")
PARTNER = TrustDomainCallers(trust_domain=TrustDomain("partner.example"))


def narrowed(callers: SpiffeIdPattern | NamespaceCallers | UnauthenticatedCallers, *cidrs: str) -> NarrowedCallers:
    return NarrowedCallers(callers=callers, cidrs=cidrs)


def rule(*callers: Callers, **words: object) -> Rule:
    return Rule(name="r", callers=callers or (WEB,), **words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (rule(SHOP), rule(WEB)),
        (rule(ANY_SA), rule(SHOP)),
        (rule(TrustDomainCallers(trust_domain=OWN)), rule(SHOP)),
        (rule(AuthenticatedCallers()), rule(PARTNER)),
        (rule(SHOP, PARTNER), rule(WEB)),
        (rule(WEB), rule(narrowed(WEB, "10.0.0.0/8"))),
        (rule(narrowed(SHOP, "10.0.0.0/8", "fd00::/8")), rule(narrowed(WEB, "10.1.0.0/16"))),
        (rule(), rule(ports=(80,))),
        (rule(ports=(80, 81)), rule(ports=(80,))),
        (rule(methods=("GET",)), rule(methods=("GET",), paths=("/a",))),
        (rule(paths=("/a/{x}",)), rule(paths=("/a/b",))),
        (rule(paths=("/a/{x}",)), rule(paths=("/a/*",))),
        (rule(paths=("/a/**",)), rule(paths=("/a", "/a/b/**", "/a/{x}/c"))),
        (rule(paths=("/**",)), rule(paths=("/**",), grpc=())),
        (rule(grpc=(GrpcMethod(service="a.B"),)), rule(grpc=(GrpcMethod(service="a.B", method="C"),))),
        (rule(hosts=("*.a.example",)), rule(hosts=("b.a.example", "*.b.a.example"))),
        (rule(headers=(HeaderMatch(name="x"),)), rule(headers=(HeaderMatch(name="x", values=("1",)),))),
        (rule(), rule(when="true")),
        (rule(when="true"), rule(when="true")),
        (rule(), rule(token=TokenMatch())),
        (rule(token=TokenMatch()), rule(token=TokenMatch(scopes=("a",)))),
        (rule(token=TokenMatch(max_age_seconds=60)), rule(token=TokenMatch(max_age_seconds=59))),
    ],
)
def test_what_covers_does_not_cover_the_other_way_round(wide: Rule, narrow: Rule) -> None:
    assert covers(wide, narrow, OWN)
    assert (
        wide == narrow or not covers(narrow, wide, OWN) or wide.when == narrow.when != "" or wide.paths == ("/a/{x}",)
    )


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (rule(WEB), rule(WEB, SHOP)),
        (rule(AuthenticatedCallers()), rule(UnauthenticatedCallers())),
        (rule(UnauthenticatedCallers()), rule(WEB)),
        (rule(TrustDomainCallers(trust_domain=OWN)), rule(AuthenticatedCallers())),
        (rule(SHOP), rule(ANY_SA)),
        (rule(narrowed(WEB, "10.0.0.0/8")), rule(narrowed(WEB, "10.0.0.0/8", "fd00::/8"))),
        (rule(ports=(80,)), rule()),
        (rule(paths=("/a",)), rule()),
        (rule(paths=("/a",)), rule(paths=("/a",), grpc=(GrpcMethod(service="a.B"),))),
        (rule(paths=("/a/**",)), rule(paths=("/**",))),
        (rule(paths=("/a/{x}/**",)), rule(paths=("/a/**",))),
        (rule(paths=("/a/{x}",)), rule(paths=("/a/b/c",))),
        (rule(hosts=("*.a.example",)), rule(hosts=("a.example",))),
        (rule(hosts=("*.a.example",)), rule(hosts=("ba.example",))),
        (rule(headers=(HeaderMatch(name="x", present=False),)), rule(headers=(HeaderMatch(name="x"),))),
        (rule(when="true"), rule()),
        (rule(when="true"), rule(when="1 == 1")),
        (rule(token=TokenMatch()), rule()),
        (rule(token=TokenMatch(acr=("a",))), rule(token=TokenMatch())),
    ],
)
def test_what_does_not_cover(wide: Rule, narrow: Rule) -> None:
    assert not covers(wide, narrow, OWN)


# ------------------------------------------------------------------------------------------------------------- futility


def rules(*items: str, kind: str = "Allowlist", name: str = "a", **more: str) -> str:
    selector = more.pop("selector", "service: orders")
    return document(kind, name, f"{{{selector}, rules: [{', '.join(items)}]}}", **more)


def test_a_rule_that_another_of_its_document_covers_is_a_warning_with_both_places() -> None:
    narrow = "{name: one, from: [web], to: {ports: [8080], paths: [/a]}}"
    wide = "{name: all, from: [{namespace: shop}], to: {ports: [8080]}}"
    expected = "warning: rule one never decides: rule all at f0.yaml:4 speaks of all its calls"
    for text in (rules(narrow, wide), rules(wide, narrow)):
        (line,) = told(text)
        assert expected in line
    assert told(rules(narrow), rules(wide, name="b")) == []  # another document is somebody else's
    assert told(rules(narrow, wide.replace("8080", "9090"))) == []


def test_of_two_rules_that_say_the_same_the_second_is_told() -> None:
    (line,) = told(rules("{name: one, from: [web]}", "{name: two, from: [web]}"))
    assert "rule two never decides: rule one at" in line


def test_an_allow_rule_that_a_denylist_refuses_wholly_is_a_warning_with_both_places() -> None:
    deny = rules("{name: none, from: [{namespace: shop}]}", kind="Denylist", name="d")
    (line,) = told(rules("{name: one, from: [web]}"), deny)
    assert line.startswith("f0.yaml:4:40: warning: ")
    assert "rule one never permits anything: rule none of denylist shop/d at f1.yaml:4 refuses all its calls" in line
    assert told(rules("{name: one, from: [bank/vault]}"), deny) == []
    assert told(rules("{name: one, from: [web]}"), deny.replace("service: orders", "service: web")) == []
    # Where the denylist is only judged in shadow the rule permits, unless it is in the shadow, too.
    shadow = deny.replace("service: orders", "service: orders, mode: shadow")
    assert told(rules("{name: one, from: [web]}"), shadow) == []
    assert len(told(rules("{name: one, from: [web]}", selector="service: orders, mode: shadow"), shadow)) == 1


def test_looking_is_bounded_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringfence.policy.binding.futility.PAIR_LIMIT", 3)
    many = [f"{{name: r{number}, from: [{{namespace: shop}}], to: {{paths: [/a/{number}/*]}}}}" for number in range(4)]
    (line,) = told(rules(*many))
    assert "warning: allowlist shop/a has too many wide rules to look at each pair of them" in line


def test_many_rules_with_literal_paths_are_looked_at_without_comparing_each_pair() -> None:
    many = [f"{{name: r{number}, from: [web], to: {{paths: [/a{number}]}}}}" for number in range(900)]
    assert told(rules(*many)) == []
    (line,) = told(rules(*many, "{name: last, from: [web], to: {methods: [GET], paths: [/a7]}}"))
    assert "rule last never decides: rule r7 at" in line
