"""Texts of policy documents for tests, and what is said of them by the reader and by the published schema."""

from __future__ import annotations

import re
from functools import cache
from typing import TypeVar

from jsonschema import Draft7Validator

from ringfence.policy.documents import read_documents
from ringfence.policy.schema.json_schema import json_schema
from ringfence.policy.written import PolicyDocument
from ringfence.policy.yamltree import MappingNode, Node, ScalarNode, SequenceNode, load_yaml

D = TypeVar("D")


def document(kind: str, spec: str, namespace: str = "shop") -> str:
    """A document of that kind; ``spec`` in YAML's flow style, without its braces."""
    head = f"apiVersion: ringfence.io/v1alpha1\nkind: {kind}\nmetadata: {{name: one, namespace: {namespace}}}\n"
    return f"{head}spec: {{{spec}}}\n"


def allowlist(rule: str) -> str:
    """An allowlist with one rule, of which ``rule`` says all but the name."""
    return document("Allowlist", f"service: orders, rules: [{{name: r, {rule}}}]")


def denylist(rule: str) -> str:
    """A denylist with one rule, of which ``rule`` says all but the name."""
    return document("Denylist", f"service: orders, rules: [{{name: r, {rule}}}]")


def told(text: str) -> list[str]:
    """What the reader says of a text: message and mend of each problem, without the place."""
    return [f"{problem.message} ({problem.mend})" for problem in read_documents(text, "p.yaml")[1]]


def read_one(text: str, kind: type[D]) -> D:
    """The one document of ``text``, in which nothing is wrong."""
    documents: list[PolicyDocument]
    documents, problems = read_documents(text, "p.yaml")
    assert [str(problem) for problem in problems] == []
    (found,) = documents
    assert isinstance(found, kind)
    return found


def schema_refuses(text: str) -> list[str]:
    """What the published schema says of the documents in ``text``, as an editor would; nothing of good ones."""
    nodes = load_yaml(text, "p.yaml", [])
    assert nodes
    return [error.message for node in nodes for error in _validator().iter_errors(plain(node))]


@cache
def _validator() -> Draft7Validator:
    schema = json_schema()
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def plain(node: Node) -> object:
    """A node as an editor hands it to a schema (YAML 1.2, core schema)."""
    match node:
        case MappingNode():
            return {key.text: plain(value) for key, value in node.entries}
        case SequenceNode():
            return [plain(item) for item in node.items]
        case ScalarNode(plain=True, text="true" | "false"):
            return node.text == "true"
        case ScalarNode(plain=True, text="null" | "~" | ""):
            return None
        case ScalarNode(plain=True) if re.fullmatch(r"-?[0-9]+", node.text):
            return int(node.text)
        case ScalarNode():
            return node.text
        case _:
            return None
