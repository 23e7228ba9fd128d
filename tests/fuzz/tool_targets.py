"""What authors bring to the tools of policy: cases of calls, invariants, and policies of others."""

from __future__ import annotations

import json

from ringfence.policy.analysis.cases import read_cases
from ringfence.policy.analysis.explain import explain
from ringfence.policy.analysis.explained import explanation_document, printable, told
from ringfence.policy.analysis.invariants import read_invariants
from ringfence.policy.analysis.proving import Assuming, prove
from ringfence.policy.analysis.told_answers import answers_document, told_answers
from ringfence.policy.analysis.trying import try_cases
from ringfence.policy.documents import read_documents
from ringfence.policy.importing.reading import Circumstances, Files, Origin, import_objects
from ringfence.policy.model import (
    AuthenticatedCallers,
    HeaderMatch,
    NamespaceCallers,
    NarrowedCallers,
    Rule,
    TokenMatch,
    UnauthenticatedCallers,
)
from ringfence.policy.problems import Problem
from tests.fuzz.target import Target, expect
from tests.learning_shop import service_of, world_of

_IN_SHOP = NamespaceCallers(namespace="shop")
_RULES = (
    Rule(name="reads", callers=(_IN_SHOP,), methods=("GET",), paths=("/orders/{id}", "/orders/**")),
    Rule(name="near", callers=(NarrowedCallers(callers=_IN_SHOP, cidrs=("10.0.0.0/8",)),), hosts=("*.shop",)),
    Rule(name="token", callers=(AuthenticatedCallers(),), token=TokenMatch(scopes=("r",), claims=(("a.b", ("c",)),))),
    Rule(name="odd", callers=(UnauthenticatedCallers(),), headers=(HeaderMatch(name="x-a", values=("1",)),)),
    Rule(name="when", callers=(_IN_SHOP,), when='request.headers["x-a"] == "b" && token.subject != source.spiffe_id'),
)
_WORLD = world_of(service_of(*_RULES))


def _one_line(problems: list[Problem], file: str) -> None:
    for problem in problems:
        line = str(problem)
        expect(line.startswith(f"{file}:") and line.isprintable() and problem.line >= 1, line)


def policy_test(data: bytes) -> None:
    """Cases are read or refused with places; each that is read can be explained, and the mended call is permitted."""
    cases, problems = read_cases(data, "t.yaml", 1_700_000_000.0)
    _one_line(problems, "t.yaml")
    trial, problems = try_cases(cases, _WORLD)
    _one_line(problems, "t.yaml")
    for outcome in trial.outcomes:
        explanation = explain(_WORLD, outcome.call)
        expect(explanation.decision == outcome.decision, "two verdicts on one call")
        expect(all(line.isprintable() for line in told(explanation, _WORLD)), "a line that is more than one")
        json.dumps(explanation_document(explanation, _WORLD))
        for near in explanation.nearest:
            if near.mended is not None:
                expect(explain(_WORLD, near.mended).decision.permitted, f"mended, and yet denied: {near.mended}")


def policy_import(data: bytes) -> None:
    """What is said is read like any document; what is not is listed in one line each."""
    files = Files()
    files.read(data, "k.yaml")
    _one_line(files.problems, "k.yaml")
    for origin in Origin:
        again = Files()
        again.read(data, "k.yaml")
        made = import_objects(again.objects, origin, Circumstances(trust_domain="shop.example"))
        for one in made.unsaid:
            expect(str(one).startswith("k.yaml:") and str(one).isprintable(), str(one))
        for document in made.documents:
            _, problems = read_documents(document.as_yaml(), "f.yaml")
            expect(not problems, f"{problems[:1]} in {document.as_yaml()}")


def policy_prove(data: bytes) -> None:
    """Invariants are read or refused with places; each that is read is answered, and a counterexample can be told."""
    invariants, problems = read_invariants(data, "i.yaml", _WORLD)
    _one_line(problems, "i.yaml")
    for invariant in invariants:
        answer = prove(_WORLD, invariant, Assuming(now=1_700_000_000.0))
        expect(answer.holds != bool(answer.why), "an answer that is neither")
        json.dumps(answers_document([answer], _WORLD))
        for line in told_answers([answer], _WORLD):
            expect(printable(line).isprintable(), "a line that is more than one")


TARGETS = (
    Target(name="policy_test", run=policy_test),
    Target(name="policy_import", run=policy_import),
    Target(name="policy_prove", run=policy_prove),
)
