"""Model to decision table. Pure.

Raises ``PolicyError`` for what cannot be enforced as it stands: a sidecar that is told such a rule must refuse the
whole snapshot rather than drop a part of it in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ringfence.policy.caller_index import CallerIndex
from ringfence.policy.conditions import Conditions
from ringfence.policy.decide import LIMITS, CompiledList, DecisionTable, Limits
from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.guards import Guard, HeaderGuard
from ringfence.policy.model import Allowlist, Denylist, GrpcMethod, HeaderMatch, PolicySet, Rule, TokenIssuer
from ringfence.policy.paths import PathTemplate, Variable, parse_template
from ringfence.policy.reasons import DenyReason
from ringfence.policy.tables import CompiledRule
from ringfence.policy.views import Scope
from ringfence.spiffe import TrustDomain

# RFC 9110 section 5.6.2, without lower case: methods are case-sensitive, and a "get" would never match.
_METHOD: Final = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~-]+")
_HEADER: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
_GRPC: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_GRPC_METHODS: Final = frozenset((b"POST",))
_NO_METHOD: Final[frozenset[bytes]] = frozenset((object(),))  # type: ignore[arg-type]  # what no bytes are equal to


class PolicyError(ValueError):
    """A policy that cannot be enforced; the message names the list and the rule."""


def compile_policy(
    policy: PolicySet,
    *,
    trust_domain: TrustDomain,
    http_ports: Collection[int],
    maybe_http_ports: Collection[int] = (),
    service: str = "",
    labels: Iterable[tuple[str, str]] = (),
    issuers: Iterable[TokenIssuer] = (),
    condition_failed: Callable[[str], None] = lambda _: None,
    limits: Limits = LIMITS,
) -> DecisionTable:
    """The decision table of the workload that ``policy`` is about.

    ``trust_domain`` is the mesh's own: what a bare namespace speaks of. ``http_ports`` are the workload's ports whose
    bytes are read as HTTP; on these no connection is permitted unread. On ``maybe_http_ports``, where that is found out
    for each connection, none is where a deny rule speaks of requests. ``service`` (``<namespace>/<name>``) and
    ``labels`` are the workload's, for conditions to read; ``issuers`` are those whose tokens it believes.
    ``condition_failed`` is told of each rule whose condition could not be evaluated on a call, by its full name.
    """
    namespace, _, name = service.rpartition("/")
    words = _Words({issuer.name: issuer.leeway_seconds for issuer in issuers})
    scope = Scope(
        destination={
            "destination.service": name,
            "destination.namespace": namespace,
            "destination.labels": dict(labels),
        },
        http_ports=frozenset(http_ports),
        maybe_http_ports=frozenset(maybe_http_ports),
        observe_until=policy.observe_until,
        condition_failed=condition_failed,
    )
    allow = _compile_lists(policy.allowlists, words, trust_domain)
    deny = _compile_lists(policy.denylists, words, trust_domain)
    return DecisionTable(allow, deny, scope, limits)


def _compile_lists(lists: Collection[Allowlist | Denylist], words: _Words, trust_domain: TrustDomain) -> CompiledList:
    entries = sorted(
        ((each, rule) for each in lists for rule in each.rules), key=lambda entry: (entry[0].full_name, entry[1].name)
    )
    # All in one go, so that they lie side by side in memory: each decision touches one.
    answers = [_answer(each, rule) for each, rule in entries]
    callers = CallerIndex(trust_domain)
    rules = []
    previous: tuple[str, str] | None = None
    for number, (each, rule) in enumerate(entries):
        kind = "denylist" if isinstance(each, Denylist) else "allowlist"
        if previous == (each.full_name, rule.name):
            raise PolicyError(f"rule {rule.name} of {kind} {each.full_name} is there twice")
        previous = (each.full_name, rule.name)
        try:
            if isinstance(each, Denylist) and rule.token is not None:
                raise ValueError("a denylist cannot ask for a token")
            rules.append(_compile_rule(_Entry(number, answers[number], f"{each.full_name}/{rule.name}"), rule, words))
            for named in rule.callers:
                callers.add(named, number)
        except ValueError as error:
            raise PolicyError(f"rule {rule.name} of {kind} {each.full_name}: {error}") from error
    return CompiledList(rules=tuple(rules), callers=callers)


def _answer(each: Allowlist | Denylist, rule: Rule) -> Decision:
    if isinstance(each, Denylist):
        return Deny(DenyReason.DENYLISTED, f"{each.full_name}/{rule.name}")
    return Permit(each.full_name, rule.name)


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    answer: Decision
    full_name: str


class _Words:
    """Templates, sets of methods and conditions, each made once however many rules have it."""

    __slots__ = ("_methods", "_templates", "conditions", "leeways")

    def __init__(self, leeways: Mapping[str, int]) -> None:
        self._methods: dict[tuple[str, ...], frozenset[bytes]] = {}
        self._templates: dict[str, PathTemplate] = {}
        self.conditions = Conditions()
        self.leeways = leeways

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


def _compile_rule(entry: _Entry, rule: Rule, words: _Words) -> CompiledRule:
    for port in rule.ports:
        if not 1 <= port <= 65535:
            raise PolicyError(f"port {port} is not from 1 to 65535")
    for host in rule.hosts:
        if not _HOST.fullmatch(host):
            raise PolicyError(f"host {host!a} is no lower-case name without a port")
    methods = words.methods(rule.methods)
    places = [(words.template(text), methods) for text in rule.paths]
    # A set without POST never meets a gRPC call; an empty one would be open to all methods.
    posts = (methods & _GRPC_METHODS or _NO_METHOD) if methods else _GRPC_METHODS
    places += [(_grpc_template(grpc), posts) for grpc in rule.grpc]
    guard = _guard(entry.full_name, rule, words)
    reads_call = guard is not None and guard.condition is not None and guard.condition.reads_call
    return CompiledRule(
        number=entry.number,
        answer=entry.answer,
        ports=frozenset(rule.ports),
        methods=methods,
        places=tuple(places),
        hosts=rule.hosts,
        guard=guard,
        # What a condition reads of a request is empty on opaque TCP, which must not make it permit that.
        opaque=not rule.speaks_http and not (reads_call and isinstance(entry.answer, Permit)),
        requests=rule.speaks_http or reads_call,
    )


def _grpc_template(grpc: GrpcMethod) -> PathTemplate:
    for name in (grpc.service, *([grpc.method] if grpc.method is not None else [])):
        if not _GRPC.fullmatch(name):
            raise PolicyError(f"{name!a} is no name of a gRPC service or method")
    method = grpc.method.encode("ascii") if grpc.method is not None else Variable()
    return PathTemplate((grpc.service.encode("ascii"), method))


def _guard(name: str, rule: Rule, words: _Words) -> Guard | None:
    """What the rule asks of facts; None for a plain one."""
    if not (rule.hosts or rule.headers or rule.token is not None or rule.when):
        return None
    return Guard(
        name=name,
        headers=tuple(map(_header, rule.headers)),
        token=rule.token,
        condition=words.conditions.compile(rule.when) if rule.when else None,
        leeways=words.leeways,
    )


def _header(match: HeaderMatch) -> HeaderGuard:
    if not _HEADER.fullmatch(match.name):
        raise PolicyError(f"header {match.name!a} is no lower-case name")
    if match.values and not match.present:
        raise PolicyError(f"header {match.name} is to have a value and not to be there")
    values = frozenset(value.encode() for value in match.values)
    return HeaderGuard(name=match.name.encode("ascii"), values=values, present=match.present)
