"""Rules that could never be enforced at the ports of the services that they are for. Pure.

A rule that speaks of HTTP on a port that carries opaque TCP would never speak, one for a port that the service does not
have neither, and one for gRPC methods needs HTTP/2. Services with the same ports are looked at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ringfence.policy.binding.conditions import reads_call
from ringfence.policy.binding.lists import FlatList, FlatRule
from ringfence.policy.problems import Problem
from ringfence.policy.services import OPAQUE, MeshService, Services

HTTP1_ONLY = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Services with the same ports; ``name`` is the first of them."""

    name: str
    ports: Mapping[int, str]
    permissive: frozenset[int]
    leads: Mapping[int, tuple[int, ...]]


class Targets:
    """The services that a list is for, as far as ports go."""

    def __init__(self, names: Iterable[str], services: Services) -> None:
        held: dict[Hashable, Target] = {}
        listed = list(names)
        for name in listed:
            one: MeshService = services[name]
            key = (frozenset(one.ports.items()), one.permissive, frozenset(one.leads.items()))
            held.setdefault(key, Target(name=name, ports=one.ports, permissive=one.permissive, leads=one.leads))
        self.different = tuple(held.values())
        self.words = listed[0] if len(listed) == 1 else f"the {len(listed)} services selected"
        self.single = len(listed) == 1

    def with_port(self, port: int) -> list[Target]:
        """Those that have it."""
        return [target for target in self.different if port in target.ports]

    def protocols(self) -> set[str]:
        """How bytes of any port are read."""
        return {protocol for target in self.different for protocol in target.ports.values()}


def check_list(flat: FlatList, targets: Targets) -> Iterator[Problem]:
    """What of ``flat`` could not be enforced at ``targets``, of which there is at least one."""
    for rule in flat.rules:
        yield from _check_ports(rule, targets, denies=flat.denies)
        yield from _check_condition(rule, targets, denies=flat.denies)
        if not rule.rule.ports:
            yield from _check_open_ports(rule, targets, denies=flat.denies)
        yield from _check_unauthenticated(rule, targets, denies=flat.denies)


def _check_ports(rule: FlatRule, targets: Targets, *, denies: bool) -> Iterator[Problem]:
    name, speaks_http = rule.rule.name, rule.rule.speaks_http
    for part in rule.words.ports:
        port, place = part.value, part.place
        having = targets.with_port(port)
        protocols = {target.ports[port] for target in having}
        if not having:
            known = sorted({number for target in targets.different for number in target.ports})
            mend = ", ".join(map(str, known[:20])) or "none: it has no ports"
            has = f"{targets.words} has no port" if targets.single else f"none of {targets.words} has port"
            behind = next((target.leads[port] for target in targets.different if port in target.leads), ())
            told = f"{'its' if targets.single else 'their'} ports: {mend}"
            if behind:
                which = " or ".join(map(str, behind))
                told = f"callers dial {port}, but its workloads listen on {which}: write that"
            yield place.problem(f"{has} {port}", told)
        elif speaks_http and protocols == {OPAQUE}:
            message = f"rule {name} speaks of HTTP, but port {port} of {having[0].name} carries opaque TCP"
            yield place.problem(message, f"remove the port, or remove {_http_words(rule)} from the rule")
        elif rule.rule.grpc and protocols <= {OPAQUE, HTTP1_ONLY}:
            message = f"rule {name} names gRPC methods, but port {port} of {having[0].name} is read as HTTP/1.1 only"
            yield place.problem(message, "give the port protocol: grpc in the mesh file, or remove grpc")
        elif denies and speaks_http and OPAQUE in protocols:
            opaque = next(target for target in having if target.ports[port] == OPAQUE)
            message = f"rule {name} refuses nothing at port {port} of {opaque.name}, which carries opaque TCP"
            yield place.warning(message, "select fewer services, or refuse by callers alone")


def _check_open_ports(rule: FlatRule, targets: Targets, *, denies: bool) -> Iterator[Problem]:
    """A rule that names no port speaks of all that can carry what it speaks of: there must be one."""
    http, protocols = rule.words.http, targets.protocols()
    if http is None:
        return
    name = rule.rule.name
    if protocols <= {OPAQUE}:
        message = f"rule {name} speaks of HTTP, but no port of {targets.words} is read as HTTP"
        yield http.problem(message, f"remove {_http_words(rule)} from the rule")
    elif rule.words.grpc and protocols <= {OPAQUE, HTTP1_ONLY}:
        message = f"rule {name} names gRPC methods, but {targets.words} has no port that is read as HTTP/2"
        yield rule.words.grpc[0].place.problem(message, "give a port protocol: grpc in the mesh file, or remove grpc")
    elif denies and OPAQUE in protocols:
        target = next(one for one in targets.different if OPAQUE in one.ports.values())
        port = min(number for number, protocol in target.ports.items() if protocol == OPAQUE)
        message = f"rule {name} speaks of HTTP, so it refuses nothing at port {port} of {target.name}, opaque TCP"
        yield http.warning(message, "name the ports that are meant, or refuse by callers alone")


def _check_condition(rule: FlatRule, targets: Targets, *, denies: bool) -> Iterator[Problem]:
    """What a request has is not there on opaque TCP: an allow rule that reads it would never permit there."""
    when = rule.words.when
    if denies or when is None or rule.rule.speaks_http or not reads_call(when.value):
        return
    named = {protocol for port in rule.rule.ports for t in targets.with_port(port) for protocol in (t.ports[port],)}
    if (named if rule.rule.ports else targets.protocols()) <= {OPAQUE}:
        which = "the ports that it names carry" if rule.rule.ports else f"each port of {targets.words} carries"
        message = f"rule {rule.rule.name} reads the request in when, but {which} opaque TCP"
        yield when.place.problem(message, "read source, destination or now alone, or name another port")


def _check_unauthenticated(rule: FlatRule, targets: Targets, *, denies: bool) -> Iterator[Problem]:
    if rule.unauthenticated is None:
        return
    named = frozenset(rule.rule.ports)
    open_to = any(
        (target.ports.keys() & named if named else target.ports.keys()) & target.permissive
        for target in targets.different
    )
    # Ports that no service has were told as such.
    if open_to or (named and not any(target.ports.keys() & named for target in targets.different)):
        return
    which = "port that it names" if named else f"port of {targets.words}"
    if denies:
        message = f"rule {rule.rule.name} refuses unauthenticated callers, but no {which} is permissive"
        yield rule.unauthenticated.warning(message, "remove the caller: a strict port refuses it anyway")
    else:
        message = f"rule {rule.rule.name} permits unauthenticated callers, but no {which} is permissive"
        mend = "give a port mode: permissive in the mesh file, or remove the caller"
        yield rule.unauthenticated.problem(message, mend)


def _http_words(rule: FlatRule) -> str:
    """Those of its words that speak of HTTP, by name."""
    words = rule.words
    there = [
        name
        for name, parts in (
            ("methods", words.methods),
            ("paths", words.paths),
            ("hosts", words.hosts),
            ("headers", words.headers),
            ("grpc", words.grpc),
            ("token", words.token),
        )
        if parts
    ]
    return " and ".join(there)
