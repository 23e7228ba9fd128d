"""Allowlist documents: what is read, and every error of a file at once with its place and mend."""

from __future__ import annotations

import textwrap
from typing import TypeVar

import pytest

from ringfence.policy.documents import read_documents
from ringfence.policy.lists import METHODS
from ringfence.policy.model import (
    NamespaceCallers,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.problems import Place
from ringfence.policy.reading.origins import RULE_FORMS
from ringfence.policy.written import (
    AllowlistDocument,
    Mode,
    Placed,
    PolicyDocument,
    ServiceSelector,
    Words,
    WrittenCallers,
    WrittenRule,
)
from ringfence.spiffe import TrustDomain

T = TypeVar("T")
FORMS = " or ".join(RULE_FORMS)

GOOD = """\
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {name: orders-callers, namespace: shop, labels: {team: a}}
spec:
  service: orders
  rules:
    - name: web-reads
      from:
        - spiffeId: spiffe://shop.example/ns/*/sa/web
        - namespace: shop
        - trustDomain: partner.example
        - unauthenticated: true
      to:
        ports: [8080]
        methods: [GET, POST]
        paths: ["/orders/{id}", /orders]
    - name: all
      from: [{namespace: ops}]
"""


def messages(text: str) -> list[str]:
    return [str(problem) for problem in read_documents(textwrap.dedent(text), "p.yaml")[1]]


def with_rule(rule: str) -> str:
    head = GOOD[: GOOD.index("    - name: web-reads")]
    return head + textwrap.indent(textwrap.dedent(rule).strip(), "    ") + "\n"


def rules_of(documents: list[PolicyDocument]) -> list[WrittenRule]:
    return [rule for document in documents if isinstance(document, AllowlistDocument) for rule in document.rules]


def values(parts: tuple[Placed[T], ...]) -> tuple[T, ...]:
    return tuple(part.value for part in parts)


def test_an_allowlist_is_read() -> None:
    documents, problems = read_documents(GOOD, "p.yaml")
    assert problems == []
    (document,) = documents
    assert isinstance(document, AllowlistDocument)
    assert document.header.full_name == "shop/orders-callers"
    assert document.selector.value == ServiceSelector(service="orders")
    assert document.selector.place == Place("p.yaml", 5, 12)
    assert document.mode is Mode.ENFORCE
    first, second = document.rules
    assert (first.name, second.name) == ("web-reads", "all")
    assert values(first.callers) == tuple(
        WrittenCallers(origin=origin)
        for origin in (
            SpiffeIdPattern(trust_domain=TrustDomain("shop.example"), segments=("ns", "*", "sa", "web")),
            NamespaceCallers(namespace="shop"),
            TrustDomainCallers(trust_domain=TrustDomain("partner.example")),
            UnauthenticatedCallers(),
        )
    )
    assert values(second.callers) == (WrittenCallers(origin=NamespaceCallers(namespace="ops")),)
    assert values(first.words.ports) == (8080,)
    assert values(first.words.methods) == ("GET", "POST")
    assert values(first.words.paths) == ("/orders/{id}", "/orders")
    assert second.words == Words()
    assert (first.place.line, first.words.ports[0].place.line, first.callers[3].place.line) == (7, 14, 12)
    assert first.words.http == Place("p.yaml", 15, 19)
    assert second.words.http is None


def test_several_documents_of_one_file_are_read_and_the_namespace_has_a_default() -> None:
    second = GOOD.replace("orders-callers, namespace: shop", "other")
    documents, problems = read_documents(f"---\n{GOOD}---\n# nothing\n---\n{second}", "p.yaml")
    assert problems == []
    assert [document.header.full_name for document in documents] == ["shop/orders-callers", "default/other"]


def test_no_rules_are_written_as_an_empty_list() -> None:
    head = GOOD[: GOOD.index("  rules:")]
    documents, problems = read_documents(head + "  rules: []\n", "p.yaml")
    assert problems == []
    assert rules_of(documents) == []
    assert messages(head) == ["p.yaml:5:3: spec lacks rules (add rules)"]
    assert messages(head + "  rules:\n") == ["p.yaml:6:9: rules must be a list, not nothing"]


def test_templates_are_kept_in_their_one_spelling() -> None:
    documents, _ = read_documents(GOOD.replace("/orders]", "/%6frders]"), "p.yaml")
    assert values(rules_of(documents)[0].words.paths) == ("/orders/{id}", "/orders")


def test_all_errors_of_a_file_are_told_at_once() -> None:
    assert messages(
        """\
        apiVersion: ringfence.io/v1
        kind: Allowlist
        metadata: {nme: x, namespace: Shop}
        spec:
          service: orders!
          rules:
            - name: a
              form: []
            - name: a
              from: [{spiffeID: x}, {}, {namespace: a, trustDomain: b}, [web]]
              to: {ports: [0, x, 8080, 8080], methods: [get], paths: [orders], port: 1}
            - name: b
              from: []
              to: {}
          sevice: x
        status: {}
        ---
        kind: Pod
        """
    ) == [
        "p.yaml:1:13: apiVersion 'ringfence.io/v1' is not known (did you mean ringfence.io/v1alpha1?)",
        "p.yaml:3:11: metadata lacks name (add name)",
        "p.yaml:3:12: unknown field 'nme' in metadata (did you mean name?)",
        "p.yaml:3:31: namespace 'Shop' is not a valid name "
        "(use lower-case letters, digits and '-', at most 63, a letter or digit at both ends)",
        "p.yaml:5:12: service 'orders!' is not a valid name "
        "(use lower-case letters, digits and '-', at most 63, a letter or digit at both ends)",
        "p.yaml:7:7: item of rules lacks from (add from)",
        "p.yaml:8:7: unknown field 'form' in item of rules (did you mean from?)",
        "p.yaml:9:13: duplicate rule name 'a' (first used on line 7: rename one)",
        f"p.yaml:10:14: item of from lacks {FORMS} (add one of them)",
        "p.yaml:10:15: unknown field 'spiffeID' in item of from (did you mean spiffeId?)",
        f"p.yaml:10:29: item of from lacks {FORMS} (add one of them)",
        "p.yaml:10:61: item of from has namespace and trustDomain (keep one of them)",
        "p.yaml:10:65: item of from must be the name of a service or a mapping, not a list",
        "p.yaml:11:20: item of ports 0 is out of range (from 1 to 65535)",
        "p.yaml:11:23: item of ports must be a whole number, not 'x' (write a decimal number from 1 to 65535)",
        "p.yaml:11:32: item of ports is there twice (first on line 11: remove one)",
        "p.yaml:11:49: method 'get' is not known (did you mean GET?)",
        "p.yaml:11:63: path template does not start with '/': 'orders' (write /orders)",
        "p.yaml:11:72: unknown field 'port' in to (did you mean ports?)",
        "p.yaml:13:13: from is empty (name a caller)",
        "p.yaml:14:11: to is empty (remove it to leave all open, or add ports, methods or paths)",
        "p.yaml:15:3: unknown field 'sevice' in spec (did you mean service?)",
        "p.yaml:16:1: unknown field 'status' in document (use one of apiVersion, kind, metadata, spec)",
        "p.yaml:18:1: document lacks apiVersion (add apiVersion)",
        "p.yaml:18:7: kind 'Pod' is not known here "
        "(use Allowlist or Denylist or Role or CallerSet or RoleBinding or Posture or TokenIssuer or Egress)",
    ]


@pytest.mark.parametrize("key", ["ports", "methods", "paths"])
def test_an_empty_list_never_means_everything(key: str) -> None:
    rule = f"- {{name: r, from: [{{namespace: shop}}], to: {{{key}: []}}}}"
    documents, problems = read_documents(with_rule(rule), "p.yaml")
    assert [problem.message for problem in problems] == [f"{key} is empty"]
    assert rules_of(documents) == []


@pytest.mark.parametrize(
    "part", ["ports: [x]", "methods: [x]", "paths: [x]", "paths: [/a, b]", "extra: 1", "ports: 80"]
)
def test_a_rule_with_an_error_is_left_out_whole(part: str) -> None:
    rule = f"- {{name: r, from: [{{namespace: shop}}], to: {{{part}}}}}\n- {{name: s, from: [{{namespace: shop}}]}}"
    documents, problems = read_documents(with_rule(rule), "p.yaml")
    assert problems
    assert [rule.name for rule in rules_of(documents)] == ["s"]


def test_too_many_items_are_refused() -> None:
    callers = ", ".join(f"{{namespace: n{number}}}" for number in range(1001))
    assert messages(with_rule(f"- {{name: r, from: [{callers}]}}")) == [
        "p.yaml:7:23: from has 1001 items (at most 1000: split the list)"
    ]


def test_the_methods_are_those_that_the_engine_serves() -> None:
    from sidecar.http1.lines import METHODS as SERVED

    assert {method.encode() for method in METHODS} == SERVED
