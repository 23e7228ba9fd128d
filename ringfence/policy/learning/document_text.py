"""A proposal as the document that a person reviews: YAML as the control plane takes it, evidence as comments. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from ringfence.policy.callers import format_spiffe_id_pattern
from ringfence.policy.learning.proposal import Evidence, LearnedRule, Proposal
from ringfence.policy.model import (
    Callers,
    HeaderMatch,
    NarrowedCallers,
    Rule,
    SpiffeIdPattern,
    TokenMatch,
    UnauthenticatedCallers,
)

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9/_-]*")
# What YAML 1.1 reads as something else than text.
_READ_AS_OTHER: Final = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])


def document_lines(proposal: Proposal) -> Iterator[str]:
    """The lines of the document, without their ends."""
    calls = sum(flow.count for flow in proposal.learned)
    yield f"# Learned from {_calls(calls)} to {proposal.service}."
    if proposal.learned:
        first = min(flow.first_seen for flow in proposal.learned)
        last = max(flow.last_seen for flow in proposal.learned)
        yield f"# Seen from {moment_words(first)} to {moment_words(last)}."
    if proposal.left_out:
        yield f"# {len(proposal.left_out)} kinds of calls were left out: ask `ringfence policy learn` for them."
    if proposal.unrecorded:
        yield f"# Nothing is known of {_calls(proposal.unrecorded)} more, which no flow counts."
    allowlist = proposal.allowlist
    yield "apiVersion: ringfence.io/v1alpha1"
    yield "kind: Allowlist"
    yield f"metadata: {{name: {_text(allowlist.name)}, namespace: {_text(allowlist.namespace)}}}"
    yield "spec:"
    yield f"  service: {_text(proposal.service.partition('/')[2])}"
    if not allowlist.rules:
        yield "  rules: []"
        return
    yield "  rules:"
    for rule, told in zip(allowlist.rules, proposal.rules, strict=True):
        if told.denied:
            yield "    # WARNING: permits what is refused today. Keep it only if it should never have been refused."
        yield f"    # {evidence_words(told.evidence)}"
        yield from (f"    {line}" for line in _rule(rule, told))


def evidence_words(evidence: Evidence) -> str:
    """Evidence as people read it."""
    first, last = moment_words(evidence.first_seen), moment_words(evidence.last_seen)
    return f"{_calls(evidence.count)}, first seen {first}, last seen {last}"


def moment_words(seconds: float) -> str:
    """Unix seconds as people read them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _calls(count: int) -> str:
    return f"{count} call" if count == 1 else f"{count} calls"


def _rule(rule: Rule, told: LearnedRule) -> Iterator[str]:
    yield f"- name: {_text(rule.name)}"
    yield "  from:"
    for callers in rule.callers:
        yield f"    - {_callers(callers)}"
    yield "  to:"
    yield f"    ports: {_list(rule.ports)}"
    if rule.methods:
        yield f"    methods: {_list(rule.methods)}"
    if rule.hosts:
        yield f"    hosts: {_list(rule.hosts)}"
    if rule.headers:
        yield f"    headers: [{', '.join(_header(header) for header in rule.headers)}]"
    if rule.paths:
        yield "    paths:"
        for path in rule.paths:
            merged = told.merged.get(path)
            of = f", of {merged} paths" if merged else ""
            yield f"      - {json.dumps(path)}  # {_calls(told.words[path].count)}{of}"
    if rule.grpc:
        yield "    grpc:"
        for method in rule.grpc:
            word = f"{method.service}/{method.method}"
            yield f"      - {json.dumps(word)}  # {_calls(told.words[word].count)}"
    if rule.token is not None:
        yield f"  token: {_token(rule.token)}"
    if rule.when:
        yield f"  when: {json.dumps(rule.when)}"


def _callers(callers: Callers) -> str:
    if isinstance(callers, NarrowedCallers):
        return f"{{{_named(callers.callers)}, cidrs: {_list(callers.cidrs)}}}"
    return f"{{{_named(callers)}}}"


def _named(callers: Callers) -> str:
    if isinstance(callers, UnauthenticatedCallers):
        return "unauthenticated: true"
    assert isinstance(callers, SpiffeIdPattern), callers
    return f"spiffeId: {json.dumps(format_spiffe_id_pattern(callers))}"


def _header(header: HeaderMatch) -> str:
    if header.values:
        return f"{{name: {_text(header.name)}, values: {_list(header.values)}}}"
    return f"{{name: {_text(header.name)}, present: {json.dumps(header.present)}}}"


def _token(token: TokenMatch) -> str:
    words: list[str] = []
    for name, values in (("issuers", token.issuers), ("scopes", token.scopes), ("acr", token.acr), ("amr", token.amr)):
        if values:
            words.append(f"{name}: {_list(values)}")
    if token.claims:
        claims = ", ".join(f"{json.dumps(name)}: {_list(values)}" for name, values in token.claims)
        words.append(f"claims: {{{claims}}}")
    if token.max_age_seconds is not None:
        words.append(f"maxAge: {token.max_age_seconds}s")
    return f"{{{', '.join(words)}}}"


def _list(values: Sequence[object]) -> str:
    return f"[{', '.join(str(one) if isinstance(one, int) else _text(str(one)) for one in values)}]"


def _text(text: str) -> str:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _READ_AS_OTHER
    return text if plain else json.dumps(text)
