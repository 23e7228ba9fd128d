"""Egress documents: what is read, what is refused, and whose apps they are for."""

from __future__ import annotations

import pytest

from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.bounds import EGRESS_LIMIT
from ringfence.policy.documents import read_documents
from ringfence.policy.model import EgressRule
from ringfence.policy.services import MeshService
from ringfence.policy.written import EgressDocument, PolicyDocument

SERVICES = {
    "shop/orders": MeshService(ports={8080: "http"}, labels=(("tier", "edge"),)),
    "shop/web": MeshService(ports={}),
    "bank/vault": MeshService(ports={443: "http"}),
    "shop/search": MeshService(ports={8443: "http"}, has_sidecar=False),
}


def text(spec: str, name: str = "out", namespace: str = "shop") -> str:
    head = f"apiVersion: ringfence.io/v1alpha1\nkind: Egress\nmetadata: {{name: {name}, namespace: {namespace}}}"
    return f"{head}\nspec: {spec}\n"


def read(*texts: str) -> list[PolicyDocument]:
    documents: list[PolicyDocument] = []
    for number, one in enumerate(texts):
        found, problems = read_documents(one, f"{number}.yaml")
        assert not problems, problems
        documents.extend(found)
    return documents


def bound(*texts: str) -> tuple[dict[str, list[str]], list[str]]:
    """The names of the rules at each service, and all problems."""
    binding = bind(read(*texts), Surroundings(services=SERVICES))
    told = {name: [rule.name for rule in one.egress] for name, one in binding.policies.items() if one.egress}
    return told, [str(problem) for problem in binding.problems]


def test_a_rule_has_the_words_of_the_mesh_file_and_its_full_name() -> None:
    (document,) = read(
        text(
            '{service: orders, rules: [{name: a, hosts: [api.example.org, "*.cdn.example"], '
            "cidrs: [10.0.0.0/8], ports: [443]}]}"
        )
    )
    assert isinstance(document, EgressDocument)
    assert [one.value for one in document.rules] == [
        EgressRule(name="shop/out/a", hosts=("api.example.org", "*.cdn.example"), cidrs=("10.0.0.0/8",), ports=(443,))
    ]


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("{service: orders, rules: []}", "rules is empty (add one, or remove the document)"),
        ("{service: orders}", "spec lacks rules"),
        ("{service: orders, rules: [{name: a}]}", "egress rule names no destination (add hosts or cidrs)"),
        ("{service: orders, rules: [{name: a, ports: [443]}]}", "egress rule names no destination"),
        ("{service: orders, rules: [{name: a, hosts: []}]}", "hosts is empty"),
        ("{service: orders, rules: [{name: a, hosts: [API.example]}]}", "capitals in 'API.example'"),
        ("{service: orders, rules: [{name: a, hosts: ['*']}]}", "wildcard in '*'"),
        ("{service: orders, rules: [{name: a, hosts: [10.0.0.1]}]}", "list addresses under cidrs"),
        ("{service: orders, rules: [{name: a, cidrs: [10.0.0.1/8]}]}", "10.0.0.1/8"),
        ("{service: orders, rules: [{name: a, cidrs: [10.0.0.1]}]}", "has no prefix length"),
        ("{service: orders, rules: [{name: a, cidrs: [10.0.0.0/8], ports: [0]}]}", "ports"),
        ("{service: orders, rules: [{name: a, cidrs: [10.0.0.0/8], port: [1]}]}", "unknown field 'port'"),
        ("{service: orders, rules: [{name: A, cidrs: [10.0.0.0/8]}]}", "name 'A' is not a valid name"),
        (
            "{service: orders, rules: [{name: a, cidrs: [10.0.0.0/8]}, {name: a, hosts: [b.example]}]}",
            "duplicate rule name 'a' (first used on line 4: rename one)",
        ),
        ("{rules: [{name: a, cidrs: [10.0.0.0/8]}]}", "service"),
        ("{service: orders, mode: shadow, rules: [{name: a, cidrs: [10.0.0.0/8]}]}", "unknown field 'mode'"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_of_the_rule_is_kept(spec: str, line: str) -> None:
    documents, problems = read_documents(text(spec), "out.yaml")
    assert any(line in str(problem) for problem in problems), problems
    for document in documents:
        assert isinstance(document, EgressDocument)
        assert len(document.rules) <= spec.count("10.0.0.0/8")
        assert all(one.value.hosts or one.value.cidrs for one in document.rules)


def test_a_name_that_no_sidecar_would_take_is_refused() -> None:
    _, problems = read_documents(
        text("{service: orders, rules: [{name: a, cidrs: [10.0.0.0/8]}]}", ".".join(["n" * 62] * 4)), "o.yaml"
    )
    assert "at most 253: shorten the name" in str(problems[0])


def test_rules_are_for_the_services_selected_and_united() -> None:
    told, problems = bound(
        text("{service: orders, rules: [{name: a, hosts: [a.example]}]}"),
        text("{labels: {tier: edge}, rules: [{name: b, hosts: [b.example]}]}", "by-label"),
        text("{scope: namespace, rules: [{name: c, hosts: [c.example]}]}", "all"),
        text("{scope: mesh, rules: [{name: d, hosts: [d.example]}]}", "mesh", "ringfence-system"),
    )
    assert not problems
    assert told == {
        "shop/orders": ["ringfence-system/mesh/d", "shop/all/c", "shop/by-label/b", "shop/out/a"],
        "shop/web": ["ringfence-system/mesh/d", "shop/all/c"],
        "bank/vault": ["ringfence-system/mesh/d"],
    }


def test_a_document_speaks_of_no_other_namespace() -> None:
    told, problems = bound(text("{scope: mesh, rules: [{name: a, hosts: [a.example]}]}"))
    assert not told
    assert "only documents of the root namespace" in problems[0]
    _, problems = bound(text("{service: vault, rules: [{name: a, hosts: [a.example]}]}"))
    assert "an egress stands in the namespace of the service" in problems[0]
    _, problems = bound(text("{service: search, rules: [{name: a, hosts: [a.example]}]}"))
    assert "nobody would enforce this egress" in problems[0]


def test_two_documents_of_one_name_are_one_too_many() -> None:
    rule = "{service: orders, rules: [{name: a, hosts: [a.example]}]}"
    _, problems = bound(text(rule), text(rule))
    assert "duplicate egress 'shop/out'" in problems[0]


def test_more_than_a_sidecar_takes_is_told_at_the_document_that_is_too_much() -> None:
    many = ", ".join(f"{{name: r{number}, hosts: [a.example]}}" for number in range(EGRESS_LIMIT))
    one = text("{service: orders, rules: [{name: a, hosts: [a.example]}]}", "zz")
    _, problems = bound(text(f"{{service: orders, rules: [{many}]}}"), one)
    assert problems[0].startswith("1.yaml:3:")
    assert f"shop/orders has {EGRESS_LIMIT + 1} egress rules" in problems[0]
