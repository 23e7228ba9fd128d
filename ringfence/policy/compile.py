"""Model to decision table. Pure.

Raises ``PolicyError`` for what cannot be enforced as it stands: a sidecar that is told such a rule must refuse the
whole snapshot rather than drop a part of it in silence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from ringfence.policy.callers import PatternError, format_spiffe_id_pattern, parse_spiffe_id_pattern
from ringfence.policy.decide import DecisionTable, Positions
from ringfence.policy.decision import Permit
from ringfence.policy.model import (
    AuthenticatedCallers,
    Callers,
    NamespaceCallers,
    NarrowedCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TokenIssuer,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.paths import PathTemplate, TemplateError, parse_template
from ringfence.policy.tables import CompiledRule
from ringfence.policy.trie import Trie
from ringfence.spiffe import TrustDomain

# RFC 9110 section 5.6.2, without lower case: methods are case-sensitive, and a "get" would never match.
_METHOD: Final = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~-]+")


class PolicyError(ValueError):
    """A policy that cannot be enforced; the message names the allowlist and the rule."""


def compile_policy(
    policy: PolicySet,
    *,
    trust_domain: TrustDomain,
    http_ports: Collection[int],
    service: str = "",
    labels: Iterable[tuple[str, str]] = (),
    issuers: Iterable[TokenIssuer] = (),
) -> DecisionTable:
    """The decision table of the workload that ``policy`` is about.

    ``trust_domain`` is the mesh's own: what a bare namespace speaks of. ``http_ports`` are the workload's ports whose
    bytes are read as HTTP; on these no connection is permitted unread. ``service`` (``<namespace>/<name>``) and
    ``labels`` are the workload's, for conditions to read; ``issuers`` are those whose tokens it believes.
    """
    if policy.denylists or policy.observe_until is not None:
        raise PolicyError("denylists and observation cannot be enforced yet")
    entries = sorted(
        ((allowlist.full_name, rule) for allowlist in policy.allowlists for rule in allowlist.rules),
        key=lambda entry: (entry[0], entry[1].name),
    )
    # All in one go, so that they lie side by side in memory: each decision touches one.
    permits = [Permit(list_name, rule.name) for list_name, rule in entries]
    words = _Words()
    whole: set[Callers] = set()
    patterns: Trie[str, Positions] = Trie()
    unauthenticated: list[int] = []
    rules = []
    previous: tuple[str, str] | None = None
    for position, (list_name, rule) in enumerate(entries):
        if previous == (list_name, rule.name):
            raise PolicyError(f"rule {rule.name} of allowlist {list_name} is there twice")
        previous = (list_name, rule.name)
        try:
            rules.append(_compile_rule(permits[position], rule, words))
        except (TemplateError, ValueError) as error:
            raise PolicyError(f"rule {rule.name} of allowlist {list_name}: {error}") from error
        for callers in rule.callers:
            if isinstance(callers, UnauthenticatedCallers):
                # Beside the patterns, not among them: whatever an identity looks like, it must not meet these rules.
                if position not in unauthenticated[-1:]:
                    unauthenticated.append(position)
                continue
            if isinstance(callers, AuthenticatedCallers | NarrowedCallers):
                raise PolicyError(f"rule {rule.name} of allowlist {list_name}: {callers!r} cannot be enforced")
            if isinstance(callers, SpiffeIdPattern) and callers not in whole and not _is_whole(callers):
                raise PolicyError(
                    f"rule {rule.name} of allowlist {list_name}: {callers!r} is no pattern of whole segments"
                )
            whole.add(callers)
            segments, rest = _caller_pattern(callers, trust_domain)
            numbers = patterns.insert(segments, rest, Positions(position)).numbers
            if numbers[-1] != position:
                numbers.append(position)
    return DecisionTable(tuple(rules), patterns, frozenset(http_ports), unauthenticated=unauthenticated)


class _Words:
    """Templates and sets of methods, each made once however many rules have it."""

    __slots__ = ("_methods", "_templates")

    def __init__(self) -> None:
        self._methods: dict[tuple[str, ...], frozenset[bytes]] = {}
        self._templates: dict[str, PathTemplate] = {}

    def methods(self, names: tuple[str, ...]) -> frozenset[bytes]:
        if names not in self._methods:
            for name in names:
                if not _METHOD.fullmatch(name):
                    raise PolicyError(f"method {name!a} is no upper-case HTTP method")
            self._methods[names] = frozenset(name.encode("ascii") for name in names)
        return self._methods[names]

    def template(self, text: str) -> PathTemplate:
        if text not in self._templates:
            self._templates[text] = parse_template(text)
        return self._templates[text]


def _is_whole(pattern: SpiffeIdPattern) -> bool:
    """Whether the pattern says what it seems to: a star within a segment would be read as a letter."""
    try:
        return parse_spiffe_id_pattern(format_spiffe_id_pattern(pattern)) == pattern
    except PatternError:
        return False


def _compile_rule(permit: Permit, rule: Rule, words: _Words) -> CompiledRule:
    if rule.hosts or rule.headers or rule.grpc or rule.token is not None or rule.when:
        raise PolicyError("it speaks of what cannot be enforced")
    for port in rule.ports:
        if not 1 <= port <= 65535:
            raise PolicyError(f"port {port} is not from 1 to 65535")
    return CompiledRule(
        permit=permit,
        ports=frozenset(rule.ports),
        methods=words.methods(rule.methods),
        paths=tuple(words.template(text) for text in rule.paths),
    )


def _caller_pattern(
    callers: SpiffeIdPattern | NamespaceCallers | TrustDomainCallers, trust_domain: TrustDomain
) -> tuple[tuple[str | None, ...], bool]:
    """(trust domain, segments…) with None for any one segment, and whether the rest is open."""
    if isinstance(callers, SpiffeIdPattern):
        segments = (None if segment == "*" else segment for segment in callers.segments)
        return (callers.trust_domain.name, *segments), False
    if isinstance(callers, NamespaceCallers):
        return (trust_domain.name, "ns", callers.namespace, "sa", None), False
    return (callers.trust_domain.name,), True
