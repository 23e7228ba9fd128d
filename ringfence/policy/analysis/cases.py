"""``PolicyTest`` documents: calls, and the verdict that each should get. Pure; next stop ``trying``.

    apiVersion: ringfence.io/v1alpha1
    kind: PolicyTest
    metadata: {name: orders, namespace: shop}
    spec:
      time: 2026-03-01T12:00:00Z            # when the calls are made; absent: now
      cases:
        - name: web reads an order
          call: {from: web, to: orders, path: /orders/7}       # bare names: of metadata.namespace
          expect: permit                                       # by a rule
        - name: a stranger is refused
          call:
            from: spiffe://partner.example/ns/shop/sa/web      # or shop/web, or unauthenticated
            to: orders
            port: 8080                                         # absent: the only one
            method: GET                                        # GET
            path: /orders/7                                    # /
            host: orders.shop
            headers: {x-team: [a, b]}                          # each value a header of its own
            token: {issuer: people, scopes: [read], claims: {acr: mfa}}
            address: 10.0.0.7
            time: 2026-03-01T12:00:00Z
          expect: {verdict: deny, reason: caller_not_allowed, rule: orders-callers/web-reads}

``grpc: pkg.Service/Method`` stands in place of method and path, ``opaque: true`` for a connection that is no HTTP, and
``token: {invalid: true}`` for a token that is not to be believed. ``rule`` is the one that permits or denies, or came
nearest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringfence.policy.analysis.moments import MEND, parse_moment
from ringfence.policy.analysis.naming import CallWords
from ringfence.policy.envelope import Envelope, read_kinds
from ringfence.policy.lists import read_items
from ringfence.policy.problems import Place, Problem, choose_from, shown
from ringfence.policy.reasons import DenyReason
from ringfence.policy.yamlnodes import MappingReader, ValueReader
from ringfence.policy.yamltree import MappingNode, ScalarNode, SequenceNode

KIND: Final = "PolicyTest"
LIMIT_CASES: Final = 10_000


class Verdict(StrEnum):
    """What a call can come to: by a rule, against all rules, or only because its service is observed."""

    PERMIT = "permit"
    DENY = "deny"
    WOULD_DENY = "would_deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What is expected; what is None may be anything. ``rule`` is a full name."""

    verdict: Verdict
    reason: DenyReason | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCase:
    """One case as written; ``places``: where each part of ``words`` stands, by its name there, and ``rule``."""

    __test__ = False

    name: str
    words: CallWords
    expect: Expectation
    place: Place
    places: Mapping[str, Place]


def read_cases(text: str | bytes, file: str, now: float) -> tuple[list[TestCase], list[Problem]]:
    """The cases of one file and all that is wrong with it; ``now`` is when calls are made that name no time."""

    def read(envelope: Envelope, problems: list[Problem]) -> list[TestCase]:
        return _read_document(envelope, problems, now)

    documents, problems = read_kinds(text, file, {KIND: read})
    return [case for document in documents for case in document], problems


def _read_document(envelope: Envelope, problems: list[Problem], now: float) -> list[TestCase]:
    spec = envelope.spec
    time = _read_time(spec, now)
    cases: list[TestCase] = []
    seen: dict[str, Place] = {}
    items = read_items(spec, "cases", LIMIT_CASES)
    if not items and "cases" in spec:
        spec.problem("cases is empty", "add a case, or remove the document", key="cases")
    for item in items:
        before = len(problems)
        reader = item.mapping()
        name = reader.text("name")
        place = reader.place("name")
        if name and seen.setdefault(name, place) is not place:
            mend = f"first used on line {seen[name].line}: rename one"
            reader.problem(f"duplicate case {shown(name)}", mend, key="name")
        call = reader.mapping("call")
        words, places = _read_call(call, envelope.namespace, time)
        call.finish()
        expect = reader.mapping("expect", short="verdict")
        expectation = _read_expectation(expect, envelope.namespace)
        if "rule" in expect:
            places["rule"] = expect.place("rule")
        expect.finish()
        reader.finish()
        if len(problems) == before:
            cases.append(TestCase(name=name, words=words, expect=expectation, place=place, places=places))
    return cases


def _read_call(call: MappingReader, namespace: str, time: float) -> tuple[CallWords, dict[str, Place]]:
    token = call.mapping("token", default=None)
    invalid = token.boolean("invalid", default=False)
    words = CallWords(
        caller=call.text("from"),
        service=call.text("to"),
        namespace=namespace,
        port=call.integer("port", 1, 65535, default=None),
        method=call.text("method", default=None),
        path=call.text("path", default=None),
        grpc=call.text("grpc", default=None),
        host=call.text("host", default=""),
        headers=_read_headers(call.mapping("headers", default=None)),
        address=call.text("address", default=""),
        time=_read_time(call, time),
        opaque=call.boolean("opaque", default=False),
        issuer=token.text("issuer", default=None),
        scopes=token.texts("scopes", default=()),
        claims=_read_claims(token.mapping("claims", default=None)),
        invalid_token=invalid,
    )
    if token.present and not list(token):
        call.problem("token is empty", "say what it has: issuer, scopes or claims, or invalid: true", key="token")
    if invalid and len(list(token)) > 1:
        call.problem("token is invalid and says something", "remove all but invalid", key="token")
    token.finish()
    named = {"caller": "from", "service": "to"} | {
        part: part for part in ("port", "method", "path", "grpc", "host", "headers", "address")
    }
    places = {part: call.place(key) for part, key in named.items()}
    places["issuer"] = token.place("issuer") if token.present else call.place()
    return words, places


def _read_headers(reader: MappingReader) -> tuple[tuple[str, str], ...]:
    """The headers in their order; a list gives a header once for each value."""
    found: list[tuple[str, str]] = []
    for name in reader:
        value = reader.value(name)
        if value is not None:
            found += [(name, one.text()) for one in _one_or_more(value)]
    return tuple(found)


def _read_claims(reader: MappingReader) -> dict[str, object]:
    claims: dict[str, object] = {}
    for name in reader:
        value = reader.value(name)
        if value is None:
            continue
        node = value.node
        if isinstance(node, MappingNode):
            value.problem(f"claim {shown(name)} is a mapping", "write its claims with dots: outer.inner")
        elif isinstance(node, SequenceNode):
            claims[name] = [_read_claim(one) for one in value.items()]
        else:
            claims[name] = _read_claim(value)
    return claims


def _read_claim(value: ValueReader) -> object:
    node = value.node
    if isinstance(node, ScalarNode) and node.plain:
        if node.text in ("true", "false"):
            return value.boolean()
        if node.text.lstrip("-").isdecimal():
            return value.integer(-(10**18), 10**18)
    return value.text()


def _one_or_more(value: ValueReader) -> list[ValueReader]:
    return value.items() if isinstance(value.node, SequenceNode) else [value]


def _read_time(reader: MappingReader, otherwise: float) -> float:
    found = reader.parsed("time", parse_moment, mend=MEND, default=None)
    return otherwise if found is None else found


def _read_expectation(reader: MappingReader, namespace: str) -> Expectation:
    verdict = Verdict(reader.choice("verdict", Verdict))
    text = reader.text("reason", default=None)
    reason: DenyReason | None = None
    if text is not None:
        known = {one.value: one for one in DenyReason}
        if verdict is Verdict.PERMIT:
            reader.problem("a permitted call has no reason", "remove it", key="reason")
        elif text in known:
            reason = known[text]
        elif text:
            reader.problem(f"reason {shown(text)} is not known", choose_from(text, known), key="reason")
    rule = reader.text("rule", default=None)
    if rule is not None and rule.count("/") == 1:
        rule = f"{namespace}/{rule}"
    elif rule and rule.count("/") != 2:
        reader.problem(
            f"{shown(rule)} names no rule", "write it like allowlist/rule or namespace/allowlist/rule", key="rule"
        )
    return Expectation(verdict=verdict, reason=reason, rule=rule)
