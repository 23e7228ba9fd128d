"""Binds policy documents to the services they protect, and finds what cannot be enforced there. Pure.

``binding`` does it, a module a question. Whatever could never be enforced is an error here rather than silence later,
and what is surely not meant is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ringfence.policy.binding.callers import CallerResolver
from ringfence.policy.binding.catalog import catalogue
from ringfence.policy.binding.checks import Targets, check_list
from ringfence.policy.binding.egress import bind_egress
from ringfence.policy.binding.futility import contradicted, shadowed
from ringfence.policy.binding.issuers import bind_issuers, check_token_rules
from ringfence.policy.binding.lists import FlatList, ListResolver
from ringfence.policy.binding.postures import bind_postures
from ringfence.policy.binding.selection import Selection
from ringfence.policy.bound import ALLOW, DENY, Binding, BoundPolicy, PartlyDenied
from ringfence.policy.bounds import LIST_LIMIT, RULE_LIMIT
from ringfence.policy.model import Allowlist, Denylist, EgressRule, PolicySet, TokenIssuer
from ringfence.policy.problems import Absences, Place, Problem, errors
from ringfence.policy.services import MeshService, Services, labels_beside
from ringfence.policy.written import Mode, PolicyDocument, labels_of
from ringfence.spiffe import TrustDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What documents are bound to, and when: ``now`` in Unix seconds, for postures alone.

    ``services``: those that documents may speak of. ``callers``: those that they may name as callers; None: the same.
    ``lenient``: what is not there, or not as a document has it, may come by itself, and is a warning until then.
    """

    services: Services
    callers: Services | None = None
    lenient: bool = False
    trust_domain: TrustDomain | None = None
    root_namespace: str = "ringfence-system"
    now: float = 0.0


def bind(documents: Iterable[PolicyDocument], surroundings: Surroundings) -> Binding:
    """The policy of each service that has any, with all problems between documents and services.

    The order of ``documents`` does not matter. With any error nothing is bound.
    """
    problems: list[Problem] = []
    services, trust_domain = surroundings.services, surroundings.trust_domain
    absences = Absences(problems, lenient=surroundings.lenient)
    catalog = catalogue(documents, problems)
    named = surroundings.callers if surroundings.callers is not None else services
    callers, denied = (
        CallerResolver(named, catalog.caller_sets, trust_domain, problems, lenient=surroundings.lenient, partly=partly)
        for partly in (False, True)
    )
    callers.check_sets()
    lists = ListResolver(catalog, callers, denied, problems).resolve()
    selection = Selection(services, surroundings.root_namespace, problems, lenient=surroundings.lenient)
    issuers = bind_issuers(catalog, selection, surroundings.root_namespace, problems)
    postures = bind_postures(catalog, selection, surroundings.now, problems)
    egress = bind_egress(catalog, selection, surroundings.root_namespace, problems)
    selected = [(one, selection.select(one.header, one.selector, one.what)) for one in lists]
    partly = {id(one): selection.partly(one.header, one.selector) for one in lists if one.denies}
    wherever = [(one, (*names, *partly.get(id(one), ()))) for one, names in selected]
    targets: dict[tuple[str, ...], Targets] = {}
    for flat, names in wherever:
        if names:
            if names not in targets:
                targets[names] = Targets(names, services)
            absences.extend(check_list(flat, targets[names]))
            absences.extend(check_token_rules(flat, names, issuers, catalog.issuers))
    root = surroundings.root_namespace
    ranked = sorted(wherever, key=lambda one: (one[0].header.namespace != root, not one[0].denies))
    problems.extend(_too_many(ranked))
    for flat in lists:
        problems.extend(shadowed(flat, trust_domain))
    sets = {names: frozenset(names) for _, names in selected}
    problems.extend(contradicted([(flat, sets[names]) for flat, names in selected], trust_domain))
    told = tuple(sorted(set(problems)))
    if errors(told):
        return Binding(policies={}, problems=told)
    some = [(one, tuple((name, services[name]) for name in partly.get(id(one), ()))) for one in lists]
    return Binding(
        policies=_policies(selected, issuers, postures, egress, _partly(some)), problems=told, places=_places(lists)
    )


def _policies(
    selected: Iterable[tuple[FlatList, tuple[str, ...]]],
    issuers: Mapping[str, tuple[TokenIssuer, ...]],
    postures: Mapping[str, float],
    egress: Mapping[str, tuple[EgressRule, ...]],
    partly: Mapping[str, tuple[PartlyDenied, ...]],
) -> dict[str, BoundPolicy]:
    """By service; each list is one value, however many services share it."""
    in_force: dict[str, list[Allowlist | Denylist]] = {}
    beside: dict[str, list[Allowlist | Denylist]] = {}
    for flat, names in selected:
        made = _made(flat)
        held = beside if flat.mode is Mode.SHADOW else in_force
        for name in names:
            held.setdefault(name, []).append(made)
    found: dict[str, BoundPolicy] = {}
    for name in sorted({*in_force, *beside, *issuers, *postures, *egress, *partly}):
        own, more = in_force.get(name, []), beside.get(name, [])
        policy = replace(_set(own), observe_until=postures.get(name))
        shadow = replace(_set([*own, *more]), observe_until=postures.get(name)) if more else None
        found[name] = BoundPolicy(
            policy=policy,
            shadow=shadow,
            issuers=issuers.get(name, ()),
            egress=egress.get(name, ()),
            partly=partly.get(name, ()),
        )
    return found


def _partly(
    selected: Iterable[tuple[FlatList, tuple[tuple[str, MeshService], ...]]],
) -> dict[str, tuple[PartlyDenied, ...]]:
    """By service, the denylists that hold at some of its workloads."""
    found: dict[str, list[PartlyDenied]] = {}
    for flat, services in selected:
        made = _made(flat) if services else None
        for name, service in services:
            if isinstance(made, Denylist):
                labels = labels_beside(service, labels_of(flat.selector.value))
                one = PartlyDenied(labels=labels, listed=made, shadow=flat.mode is Mode.SHADOW)
                found.setdefault(name, []).append(one)
    return {name: tuple(sorted(held, key=lambda one: one.listed.full_name)) for name, held in found.items()}


def _made(flat: FlatList) -> Allowlist | Denylist:
    kind = Denylist if flat.denies else Allowlist
    # Whose callers are not there yet speaks of nobody; to a sidecar no callers are a mistake.
    return kind(
        namespace=flat.header.namespace,
        name=flat.header.name,
        rules=tuple(one.rule for one in flat.rules if one.rule.callers),
    )


def _set(lists: Iterable[Allowlist | Denylist]) -> PolicySet:
    ordered = sorted(lists, key=lambda one: one.full_name)
    return PolicySet(
        allowlists=tuple(one for one in ordered if isinstance(one, Allowlist)),
        denylists=tuple(one for one in ordered if isinstance(one, Denylist)),
    )


def _places(lists: Iterable[FlatList]) -> dict[tuple[str, str], Place]:
    return {
        (DENY if flat.denies else ALLOW, f"{flat.header.full_name}/{one.rule.name}"): one.place
        for flat in lists
        for one in flat.rules
    }


def _too_many(selected: Iterable[tuple[FlatList, tuple[str, ...]]]) -> Iterable[Problem]:
    """More than one sidecar can be told, at the document with which it becomes too much: first come those of the root
    namespace, then what refuses, so that nobody's allowlist makes another's denylist the one that is too much."""
    rules: dict[str, int] = {}
    lists: dict[str, int] = {}
    for flat, names in selected:
        over: str | None = None
        for name in names:
            rules[name] = rules.get(name, 0) + len(flat.rules)
            lists[name] = lists.get(name, 0) + 1
            if rules[name] > RULE_LIMIT or lists[name] > LIST_LIMIT:
                over = name
        if over is not None:
            message = f"{over} has {rules[over]} rules in {lists[over]} lists with this one"
            yield flat.header.place.problem(message, f"at most {RULE_LIMIT} in {LIST_LIMIT}: remove some")
