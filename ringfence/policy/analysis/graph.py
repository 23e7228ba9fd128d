"""Who may call whom: services and external callers as nodes, what rules grant as edges. Pure; ``drawing`` shows it.

A rule that names many callers is an edge from each service among them, and one from the others, whom the mesh does not
know by name. What a denylist refuses wholly is left out, what it refuses in part is marked with the rule that does; so
an edge says what may pass at most, and what is not there does not pass, unless the service is only observed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from ringfence.policy.analysis.reach import callers_hold, callers_meet, targets, targets_hold, targets_meet
from ringfence.policy.analysis.spelled import spelled_callers
from ringfence.policy.analysis.world import Effect, NamedRule, World, WorldService, rules_of
from ringfence.policy.model import (
    AuthenticatedCallers,
    Named,
    NarrowedCallers,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.policy.problems import Place


class NodeKind(StrEnum):
    """What a node stands for."""

    SERVICE = "service"
    IDENTITIES = "identities"  # of the mesh's own trust domain or another, but of no service
    TRUST_DOMAIN = "trust_domain"
    AUTHENTICATED = "authenticated"
    UNAUTHENTICATED = "unauthenticated"


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """``name``: the full name of a service, or in words who the others are."""

    kind: NodeKind
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one rule grants on an edge: ``ports`` of the target, and the words of ``rule``. ``cidrs``: only from there.
    ``denied_by``: the deny rules that refuse a part of it."""

    named: NamedRule
    place: Place | None
    ports: tuple[int, ...]
    cidrs: tuple[str, ...] = ()
    denied_by: tuple[str, ...] = ()

    @property
    def rule(self) -> Rule:
        return self.named.rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """``source`` may call the service ``target`` by each of ``grants``, in the order of their rules."""

    source: Node
    target: Node
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes and edges in order. ``observed``: services at which anybody passes until then, but for denylists;
    ``unjudged``: services without a sidecar, which judge their callers themselves."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    observed: tuple[tuple[Node, float], ...]
    unjudged: tuple[Node, ...]


def graph_of(world: World, now: float) -> Graph:
    """The graph of the policy in force at ``now`` (Unix seconds)."""
    nodes = {_node(service) for service in world.services}
    grants: dict[tuple[Node, Node], list[Grant]] = {}
    for service in world.services:
        if not service.has_sidecar:
            continue
        rules = rules_of(service.policy)
        denying = [named.rule for named in rules if named.effect is Effect.DENY]
        names = [named.full_name for named in rules if named.effect is Effect.DENY]
        for named in rules:
            if named.effect is Effect.ALLOW:
                for source, callers, grant in _grants(world, service, named):
                    left = _less_denied(world, service, (callers, grant), list(zip(names, denying, strict=True)))
                    held = grants.setdefault((source, _node(service)), [])
                    if left is not None and left not in held:
                        held.append(left)
    edges = [
        Edge(source=source, target=target, grants=tuple(held)) for (source, target), held in grants.items() if held
    ]
    edges.sort(key=lambda edge: (edge.target, edge.source))
    nodes.update(edge.source for edge in edges)
    observed = [
        (_node(service), service.policy.observe_until)
        for service in world.services
        if service.has_sidecar and service.policy.observe_until is not None and service.policy.observe_until > now
    ]
    return Graph(
        nodes=tuple(sorted(nodes)),
        edges=tuple(edges),
        observed=tuple(sorted(observed)),
        unjudged=tuple(sorted(_node(service) for service in world.services if not service.has_sidecar)),
    )


def _node(service: WorldService) -> Node:
    return Node(NodeKind.SERVICE, service.full_name)


def _exactly(service: WorldService) -> SpiffeIdPattern:
    spiffe_id = service.spiffe_id
    return SpiffeIdPattern(trust_domain=spiffe_id.trust_domain, segments=spiffe_id.segments)


def _grants(world: World, service: WorldService, named: NamedRule) -> Iterator[tuple[Node, Named, Grant]]:
    """Each source of a rule, who that is, and what it is granted before any denylist."""
    for item in named.rule.callers:
        callers, cidrs = (item.callers, item.cidrs) if isinstance(item, NarrowedCallers) else (item, ())
        unauthenticated = isinstance(callers, UnauthenticatedCallers)
        ports = tuple(
            sorted(
                port.port
                for port in service.ports
                if (not named.rule.ports or port.port in named.rule.ports)
                and (port.may_be_http or not named.rule.speaks_http)
                and (port.permissive or not unauthenticated)
            )
        )
        if not ports:
            continue
        grant = Grant(named=named, place=world.place(named), ports=ports, cidrs=cidrs)
        known = [one for one in world.services if callers_hold(callers, _exactly(one), world.trust_domain)]
        for one in known:
            yield _node(one), _exactly(one), grant
        if not (known and isinstance(callers, SpiffeIdPattern) and "*" not in callers.segments):
            yield _others(callers), callers, grant


def _others(callers: Named) -> Node:
    match callers:
        case UnauthenticatedCallers():
            return Node(NodeKind.UNAUTHENTICATED, spelled_callers(callers))
        case AuthenticatedCallers():
            return Node(NodeKind.AUTHENTICATED, spelled_callers(callers))
        case TrustDomainCallers():
            return Node(NodeKind.TRUST_DOMAIN, spelled_callers(callers))
    return Node(NodeKind.IDENTITIES, spelled_callers(callers))


def _less_denied(
    world: World, service: WorldService, granted: tuple[Named, Grant], denying: list[tuple[str, Rule]]
) -> Grant | None:
    """The grant with what is refused of it marked; None when all of it is."""
    callers, grant = granted
    marked: list[str] = []
    for name, rule in denying:
        named = [one.callers if isinstance(one, NarrowedCallers) else one for one in rule.callers]
        if not any(callers_meet(one, callers, world.trust_domain) for one in named):
            continue
        ports = _refused_ports(service, rule) & set(grant.ports)
        if not ports or not targets_meet(targets(rule), targets(grant.rule)):
            continue
        whole = [one for one in rule.callers if not isinstance(one, NarrowedCallers)]
        if (
            any(callers_hold(one, callers, world.trust_domain) for one in whole)
            and ports == set(grant.ports)
            and _words_hold(service, rule, grant)
        ):
            return None
        marked.append(name)
    return replace(grant, denied_by=tuple(marked))


def _refused_ports(service: WorldService, rule: Rule) -> set[int]:
    return {
        port.port
        for port in service.ports
        if (not rule.ports or port.port in rule.ports) and (port.may_be_http or not rule.speaks_http)
    }


def _words_hold(service: WorldService, deny: Rule, grant: Grant) -> bool:
    """Whether every request of the grant is one that ``deny`` refuses."""
    allow = grant.rule
    if deny.hosts or deny.headers or deny.when or deny.token is not None:
        return False
    if not deny.speaks_http:
        return True
    opaque = any(not port.is_http for port in service.ports if port.port in grant.ports)
    if opaque and not allow.speaks_http:
        return False  # what turns out to be no HTTP passes the denylist
    return targets_hold(targets(deny), targets(allow))
