"""For each dimension: the values at which to try it, the rules that are left after one, and a call's own value. Pure.

The three belong together: the values are complete when for each call there is one after which the same rules are
left as after the call's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.cells import requests, token_cuts
from ringfence.policy.analysis.cells.callers import addresses, identities, in_any
from ringfence.policy.analysis.cells.dimensions import CALLER, GRPC_METHOD, PATH, PORT, Dimension, Kind, SideRule
from ringfence.policy.analysis.cells.segments import SegmentPattern
from ringfence.policy.analysis.cells.space import Chosen, Live, Space
from ringfence.policy.model import NarrowedCallers
from ringfence.policy.paths import judged_path
from ringfence.spiffe import SpiffeId


class Value(NamedTuple):
    """A value to try, and for what it stands."""

    value: Any
    label: str
    after: After | None = None  # what ``after`` answers of it, where that was found on the way


# The rules that are left, and what else tells calls with that value from others with the same rules.
After = tuple[Live, object]


@dataclass(frozen=True, slots=True)
class Cut:
    """``values`` to try; the rules left ``after`` one; the value ``of`` a call."""

    values: Callable[[Space, Dimension, Live, Chosen], Iterable[Value]]
    after: Callable[[Space, Dimension, Live, Chosen, Any], After]
    of: Callable[[Call, Dimension], Any]


# ------------------------------------------------------------------------------------------------ callers and addresses


def _caller_values(space: Space, _: Dimension, live: Live, __: Chosen) -> Iterator[Value]:
    own = list(dict.fromkeys(side.trust_domain for side in space.sides))
    for identity in identities(space.named(live), space.known, own):
        yield Value(identity.spiffe_id, identity.label)


def _after_caller(space: Space, _: Dimension, live: Live, __: Chosen, value: SpiffeId | None) -> After:
    naming = {at: callers for at, callers in space.naming(value).items() if at in live}
    narrowed = frozenset((at, tuple(callers)) for at, callers in naming.items() if _is_narrowed(callers))
    return frozenset(naming), (narrowed, value is None)


def _is_narrowed(callers: Iterable[object]) -> bool:
    return all(isinstance(one, NarrowedCallers) for one in callers)


def _cidrs(space: Space, dimension: Dimension, live: Live, chosen: Chosen) -> dict[int, list[str]]:
    """By rule, the networks from which its callers must call; rules that also name the caller without are left out."""
    found = {}
    naming = space.naming(chosen[CALLER])
    for at in space.speaking(live, dimension):
        callers = naming[at]
        if _is_narrowed(callers):
            found[at] = [cidr for one in callers if isinstance(one, NarrowedCallers) for cidr in one.cidrs]
    return found


def _address_values(space: Space, dimension: Dimension, live: Live, chosen: Chosen) -> Iterator[Value]:
    cidrs = _cidrs(space, dimension, live, chosen)
    for address, inside in addresses({cidr for listed in cidrs.values() for cidr in listed}):
        yield Value(address, address if inside else "any other")


def _after_address(space: Space, dimension: Dimension, live: Live, chosen: Chosen, value: str) -> After:
    def takes(at: int, listed: list[str]) -> bool:
        # One that is not known lies in no network for those who permit, and in each for those who refuse.
        return in_any(value, listed) if value else space.refuses(at)

    cidrs = _cidrs(space, dimension, live, chosen)
    return live - {at for at, listed in cidrs.items() if not takes(at, listed)}, None


# ---------------------------------------------------------------------------------------------------------------- ports


class Entry(NamedTuple):
    """A port, and how bytes come to it: ``opaque`` or as requests."""

    port: int
    opaque: bool


def reached_sides(space: Space, caller: SpiffeId | None, entry: Entry) -> frozenset[int]:
    """At which sides such a call comes as far as policy."""
    found = set()
    for at, side in enumerate(space.sides):
        port = side.service.port(entry.port) if side.service is not None and side.service.has_sidecar else None
        if port is None or (caller is None and not port.permissive):
            continue
        if port.may_be_http if not entry.opaque else not port.is_http:
            found.add(at)
    return frozenset(found)


def _port_values(space: Space, _: Dimension, __: Live, chosen: Chosen) -> Iterator[Value]:
    ports = [port for side in space.sides if side.service is not None for port in side.service.ports]
    both = {port.port for port in ports if port.may_be_http}
    for number in sorted({port.port for port in ports}):
        for entry in (Entry(number, False), Entry(number, True)):
            if reached_sides(space, chosen[CALLER], entry):
                yield Value(entry, f"{number} unread" if entry.opaque and number in both else str(number))


def _after_port(space: Space, _: Dimension, live: Live, chosen: Chosen, value: Entry) -> After:
    sides = reached_sides(space, chosen[CALLER], value)
    return frozenset(at for at in live if _enters(space, at, value, sides)), (value.opaque, sides)


def _enters(space: Space, at: int, entry: Entry, sides: frozenset[int]) -> bool:
    rule = space.rules[at]
    if rule.side not in sides or (rule.rule.ports and entry.port not in rule.rule.ports):
        return False
    if not entry.opaque or not rule.reads_requests:
        return True
    # Where bytes may yet be a request, one that is refused must not pass for none: a rule that refuses requests then
    # speaks of all that nobody reads.
    service = space.sides[rule.side].service
    port = service.port(entry.port) if service is not None else None
    return space.refuses(at) and port is not None and port.may_be_http


# ------------------------------------------------------------------------------------------------------------- requests


def _path_values(space: Space, dimension: Dimension, live: Live, _: Chosen) -> Iterator[Value]:
    speaking = space.speaking(live, dimension)
    by_path: dict[SegmentPattern, set[int]] = {}
    by_call: dict[SegmentPattern, set[int]] = {}
    for at in speaking:
        for found, patterns in ((by_path, space.rules[at].paths), (by_call, space.rules[at].calls)):
            for pattern in patterns:
                found.setdefault(pattern, set()).add(at)
    without = live.difference(speaking)
    for path, taken in requests.path_classes({*by_path, *by_call}):
        paths = frozenset(at for pattern in taken for at in by_path.get(pattern, ()))
        calls = frozenset(at for pattern in taken for at in by_call.get(pattern, ())) - paths
        yield Value(path, path, (without | paths | calls, calls))
    yield Value(requests.ASTERISK, requests.ASTERISK)


def _after_path(space: Space, dimension: Dimension, live: Live, _: Chosen, value: str) -> After:
    speaking = space.speaking(live, dimension)
    if value == requests.ASTERISK:
        # Only OPTIONS may ask of no path, so this is not like a path that no template takes.
        return live - set(speaking), requests.ASTERISK
    words = value[1:].split("/")
    taken: dict[SegmentPattern, bool] = {}

    def takes(pattern: SegmentPattern) -> bool:
        if pattern not in taken:
            taken[pattern] = pattern.takes(words)
        return taken[pattern]

    left, calls = set(), set()
    for at in speaking:
        if any(takes(pattern) for pattern in space.rules[at].paths):
            continue
        if any(takes(pattern) for pattern in space.rules[at].calls):
            calls.add(at)
        else:
            left.add(at)
    return live - left, frozenset(calls)


def _path_of(call: Call, _: Dimension) -> str:
    judged = judged_path(call.path.encode())
    if judged is None:
        raise ValueError(f"path {call.path!a} is ambiguous, so no rule speaks of it")
    return judged.decode("ascii")


def _method_values(space: Space, dimension: Dimension, live: Live, chosen: Chosen) -> Iterator[Value]:
    if chosen.get(PATH) == requests.ASTERISK:
        yield Value(requests.OPTIONS, requests.OPTIONS)
        return
    rules = [space.rules[at] for at in space.speaking(live, dimension)]
    named = sorted(
        {method for rule in rules for method in (*rule.rule.methods, *([GRPC_METHOD] if rule.calls else ()))}
    )
    yield from (Value(method, method) for method in named)
    yield Value(requests.other_method(named), "any other")


def _after_method(space: Space, dimension: Dimension, live: Live, chosen: Chosen, value: str) -> After:
    words = chosen[PATH][1:].split("/") if PATH in chosen else []

    def takes(rule: SideRule) -> bool:
        if rule.rule.methods and value not in rule.rule.methods:
            return False
        # A gRPC call is a POST; what a rule says in paths is open to other methods, too.
        by_path = not rule.calls or any(pattern.takes(words) for pattern in rule.paths)
        return by_path or value == GRPC_METHOD

    return live - {at for at in space.speaking(live, dimension) if not takes(space.rules[at])}, None


def _host_values(space: Space, dimension: Dimension, live: Live, _: Chosen) -> Iterator[Value]:
    hosts = {host for at in space.speaking(live, dimension) for host in space.rules[at].rule.hosts}
    first, *named = requests.host_classes(hosts)
    yield from (Value(host, host) for host in named)
    yield Value(first, "any other")
    yield Value("", "none")
    if any(space.refuses(at) for at in space.speaking(live, dimension)):
        yield from (Value(f"{host}.", f"{host}.") for host in (*named, first))


def _after_host(space: Space, dimension: Dimension, live: Live, _: Chosen, value: str) -> After:
    def takes(at: int) -> bool:
        refuses = space.refuses(at)
        if refuses and not value:
            return True
        host = value.removesuffix(".") if refuses else value
        return any(requests.host_matches(one, host) for one in space.rules[at].rule.hosts)

    return live - {at for at in space.speaking(live, dimension) if not takes(at)}, None


def _header_values(space: Space, dimension: Dimension, live: Live, _: Chosen) -> Iterator[Value]:
    speaking = space.speaking(live, dimension)
    matches = [(at, one) for at in speaking for one in space.rules[at].rule.headers if one.name == dimension.name]
    refused = [one.values for at, one in matches if space.refuses(at) and one.values]
    for lines in requests.header_lines({value for _, one in matches for value in one.values}, refused):
        yield Value(lines, " and ".join(lines) if lines else "absent")


def _after_header(space: Space, dimension: Dimension, live: Live, _: Chosen, value: tuple[str, ...]) -> After:
    def takes(at: int) -> bool:
        matches = [one for one in space.rules[at].rule.headers if one.name == dimension.name]
        return all(requests.header_matches(one, value, refuses=space.refuses(at)) for one in matches)

    return live - {at for at in space.speaking(live, dimension) if not takes(at)}, None


def _header_of(call: Call, dimension: Dimension) -> tuple[str, ...]:
    return tuple(value for name, value in call.headers if name.lower() == dimension.name)


# ----------------------------------------------------------------------------------------------------------- conditions


def _outcomes(_: Space, dimension: Dimension, __: Live, ___: Chosen) -> Iterator[Value]:
    """Either, but for a condition that says itself what it is: of none other is it known what it can come to."""
    if dimension.name != "true":
        yield Value(False, "false")
    if dimension.name != "false":
        yield Value(True, "true")


def _after_outcome(space: Space, dimension: Dimension, live: Live, chosen: Chosen, value: bool) -> After:
    speaking = [at for at in space.speaking(live, dimension) if dimension in open_of(space.rules[at], chosen)]
    return live if value else live - set(speaking), None


def open_of(rule: SideRule, chosen: Chosen) -> frozenset[Dimension]:
    """The dimensions of a rule on which it still hangs whether it speaks of such calls."""
    entry = chosen.get(PORT)
    if entry is None or not entry.opaque:
        return rule.dimensions - chosen.keys()
    if rule.reads_requests or entry.port in rule.refuses_unread:
        return frozenset()
    return frozenset(one for one in rule.dimensions - chosen.keys() if one.kind is Kind.WHEN)


def _assumed(call: Call, dimension: Dimension) -> bool:
    raise AssertionError(f"what {dimension.name!a} comes to is assumed, not read from {call}")


def _token_cut(cut: token_cuts.TokenCut) -> Cut:
    return Cut(
        lambda space, dimension, live, _: (Value(*one) for one in cut.values(space, dimension, live)),
        lambda space, dimension, live, _, value: cut.after(space, dimension, live, value),
        lambda call, dimension: cut.of(token_cuts.read(call.token, call.time), dimension),
    )


CUTS: Final[Mapping[Kind, Cut]] = {
    Kind.CALLER: Cut(_caller_values, _after_caller, lambda call, _: call.caller),
    Kind.ADDRESS: Cut(_address_values, _after_address, lambda call, _: call.address),
    Kind.PORT: Cut(_port_values, _after_port, lambda call, _: Entry(call.port, call.opaque)),
    Kind.PATH: Cut(_path_values, _after_path, _path_of),
    Kind.METHOD: Cut(_method_values, _after_method, lambda call, _: call.method),
    Kind.HOST: Cut(_host_values, _after_host, lambda call, _: call.host),
    Kind.HEADER: Cut(_header_values, _after_header, _header_of),
    **{kind: _token_cut(cut) for kind, cut in token_cuts.CUTS.items()},
    Kind.WHEN: Cut(_outcomes, _after_outcome, _assumed),
}
