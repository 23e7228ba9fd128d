"""From flows to the least allowlist that permits them: each caller its methods on its paths, and nothing more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from ringfence.policy.analysis.world import World, WorldService
from ringfence.policy.learning.conditions import Conditions, exactly
from ringfence.policy.learning.flow import Flow, Verdict, caller_words
from ringfence.policy.learning.naming import LIMIT_CHARACTERS, action_name, caller_name, unique
from ringfence.policy.learning.proposal import LearnedRule, Proposal, evidence_of
from ringfence.policy.learning.settings import LearnSettings
from ringfence.policy.learning.sifting import Sifted, sift
from ringfence.policy.learning.templates import Segments, template_text, templates_of, widest
from ringfence.policy.model import Allowlist, GrpcMethod, Rule
from ringfence.spiffe import SpiffeId

RULE_PATHS: Final = 100  # of one rule; more are put into several, which people can still read


@dataclass(frozen=True, slots=True)
class _Group:
    """What the rules of one caller have in common, before methods and paths."""

    denied: bool
    caller: SpiffeId | None
    port: int
    kind: str
    conditions: Conditions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A rule without a name, with what it was learned from by word."""

    rule: Rule
    kind: str
    denied: bool
    caller: SpiffeId | None
    flows: dict[str, list[Flow]]


def propose(
    service: WorldService,
    world: World,
    flows: Iterable[Flow],
    settings: LearnSettings,
    *,
    unrecorded: int = 0,
) -> Proposal:
    """What the flows to ``service`` call for; flows to others are not to be among them."""
    flows = list(flows)
    learned, left_out = sift(flows, service, world, settings)
    groups: dict[_Group, list[Flow]] = {}
    for one in sorted(learned, key=_order):
        groups.setdefault(_group(one), []).append(one.flow)
    drafts = [draft for group, members in groups.items() for draft in _drafts(group, members, settings)]
    drafts.sort(key=lambda draft: (draft.denied, caller_words(draft.caller), draft.kind))
    taken: set[str] = set()
    rules: list[Rule] = []
    told: list[LearnedRule] = []
    for draft in drafts:
        caller = caller_name(draft.caller, service.namespace, world.trust_domain)
        action = action_name(draft.kind, draft.rule.methods)
        name = unique(f"{'refused-' if draft.denied else ''}{caller}-{action}", taken)
        rules.append(replace(draft.rule, name=name))
        told.append(_told(draft, name))
    name = f"{service.name}-learned"[:LIMIT_CHARACTERS].strip("-")
    return Proposal(
        service=service.full_name,
        allowlist=Allowlist(namespace=service.namespace, name=name, rules=tuple(rules)),
        rules=tuple(told),
        learned=tuple(one.flow for one in learned),
        left_out=tuple(left_out),
        unexercised=_unexercised(service, flows),
        unrecorded=unrecorded,
    )


def _order(one: Sifted) -> tuple[object, ...]:
    flow = one.flow
    return flow.verdict is Verdict.DENY, caller_words(flow.caller), flow.port, flow.protocol, flow.path, flow.method


def _group(one: Sifted) -> _Group:
    flow = one.flow
    kind = flow.protocol if flow.protocol in ("tcp", "grpc") else "http"
    return _Group(flow.verdict is Verdict.DENY, flow.caller, flow.port, kind, one.conditions)


def _drafts(group: _Group, flows: list[Flow], settings: LearnSettings) -> Iterator[_Draft]:
    asked = group.conditions
    rule = Rule(
        name="learned",
        callers=(exactly(group.caller, asked.cidrs),),
        ports=(group.port,),
        hosts=asked.hosts,
        headers=asked.headers,
        token=asked.token,
        when=asked.when,
    )

    def draft(rule: Rule, words: dict[str, list[Flow]]) -> _Draft:
        return _Draft(rule=rule, kind=group.kind, denied=group.denied, caller=group.caller, flows=words)

    if group.kind == "tcp":
        yield draft(rule, {f"port {group.port}": flows})
    elif group.kind == "grpc":
        methods: dict[str, list[Flow]] = {}
        for flow in flows:
            methods.setdefault(flow.path[1:], []).append(flow)
        for words in _parts(methods):
            named = tuple(GrpcMethod(service=text.partition("/")[0], method=text.partition("/")[2]) for text in words)
            yield draft(replace(rule, grpc=named), words)
    else:
        for verbs, words in _requests(flows, settings):
            for part in _parts(words):
                yield draft(replace(rule, methods=verbs, paths=tuple(part)), part)


def _requests(flows: list[Flow], settings: LearnSettings) -> Iterator[tuple[tuple[str, ...], dict[str, list[Flow]]]]:
    """For each set of methods the templates on which the caller has used just these, with their flows."""
    template_of = templates_of({_segments(flow) for flow in flows}, settings.merge_above)
    verbs: dict[Segments, set[str]] = {}
    for flow in flows:
        verbs.setdefault(template_of[_segments(flow)], set()).add(flow.method)
    methods = {template: frozenset(names) for template, names in verbs.items()}
    instead = widest(methods)
    found: dict[tuple[str, ...], dict[str, list[Flow]]] = {}
    for flow in flows:
        template = instead[template_of[_segments(flow)]]
        words = found.setdefault(tuple(sorted(methods[template])), {})
        words.setdefault(template_text(template), []).append(flow)
    yield from sorted(found.items())


def _segments(flow: Flow) -> Segments:
    return tuple(flow.path[1:].split("/"))


def _parts(words: dict[str, list[Flow]]) -> Iterator[dict[str, list[Flow]]]:
    names = sorted(words)
    for at in range(0, len(names), RULE_PATHS):
        yield {name: words[name] for name in names[at : at + RULE_PATHS]}


def _told(draft: _Draft, name: str) -> LearnedRule:
    merged = {
        word: len({flow.path for flow in flows})
        for word, flows in draft.flows.items()
        if draft.kind == "http" and len({flow.path for flow in flows}) > 1
    }
    return LearnedRule(
        name=name,
        caller=draft.caller,
        evidence=evidence_of(flow for flows in draft.flows.values() for flow in flows),
        words={word: evidence_of(flows) for word, flows in draft.flows.items()},
        merged=merged,
        denied=draft.denied,
    )


def _unexercised(service: WorldService, flows: list[Flow]) -> tuple[str, ...]:
    used = {flow.rule for flow in flows if flow.verdict is Verdict.PERMIT}
    names = (f"{one.full_name}/{rule.name}" for one in service.policy.allowlists for rule in one.rules)
    return tuple(sorted(name for name in names if name not in used))
