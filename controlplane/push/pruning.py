"""What each workload is told that it may call: whatever may let it in, and no more. Pure.

On a platform nobody says whom a workload calls, and the whole mesh is too much to tell everybody. So a workload is told
the services of its own namespace, and those whose policy could permit its identity. What is left out would refuse it.
Denylists, conditions and words about requests are not looked at: too many is a cost, too few would be an outage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.push.upstreams import Called
from controlplane.push.weights import Weights
from controlplane.push.workload_key import WorkloadKey
from ringfence.mesh import Mesh, ServicePort, UpstreamReference
from ringfence.policy.bound import BoundPolicy, Policies
from ringfence.policy.caller_index import CallerIndex
from ringfence.policy.model import AuthenticatedCallers, Callers, NarrowedCallers, UnauthenticatedCallers
from ringfence.snapshot import PortMode
from ringfence.spiffe import SpiffeId
from ringfence.wire.convert import UPSTREAM_LIMIT

_EVERYBODY: Final = AuthenticatedCallers()
_NOBODY: Final = BoundPolicy()
_MADE_LIMIT: Final = 20_000  # policies change, and with them who may call the same


@dataclass(frozen=True, slots=True, kw_only=True)
class _Callee:
    """One service as far as it matters who may call it."""

    full_name: str
    namespace: str
    ports: tuple[ServicePort, ...]
    direct: bool
    bound: tuple[BoundPolicy, ...]
    """Its own policy, and those of services that share workloads with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A service that some who may call it are not told of: ``callers`` of them. It has ``ports``, and telling one of
    them takes up to ``told_bytes``."""

    ports: int
    told_bytes: int
    callers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """``left``: the numbers of services for which there was no room."""

    called: tuple[Called, ...]
    left: tuple[int, ...] = ()


class Reach:
    """Whom each identity of one mesh may call, in the order of names; the app's own calls are intercepted."""

    __slots__ = (
        *("_alike", "_answers", "_called", "_callees", "_index", "_lacking", "_least", "_named", "_numbers", "_own"),
        *("_trust_domain", "_weigh", "_weights"),
    )

    def __init__(
        self, mesh: Mesh, policies: Policies, weights: Weights, least_bytes: int, before: Reach | None = None
    ) -> None:
        """``before``: taken over where nothing that matters here differs. ``least_bytes``: nearly everybody has more
        room than this; while the whole mesh fits into it, what services weigh makes no difference to these."""
        self._trust_domain = mesh.trust_domain
        self._callees = _callees(mesh, policies)
        self._weights = weights
        self._least = least_bytes
        self._answers: dict[tuple[SpiffeId, str, int], _Answer] = {}
        self._alike: dict[tuple[str, frozenset[int], int], _Answer] = {}
        if before is not None and before._callees == self._callees and before._trust_domain == self._trust_domain:
            self._index: CallerIndex = before._index
            self._named: list[set[int]] = before._named
            self._numbers: dict[SpiffeId, frozenset[int]] = before._numbers
            if self._roomy and before._roomy:
                self._answers = before._answers
        else:
            self._index, self._named, self._numbers = CallerIndex(mesh.trust_domain), [], {}
            self._fill()
        self._own: dict[str, list[int]] = {}
        for number, callee in enumerate(self._callees):
            self._own.setdefault(callee.namespace, []).append(number)
        ports = [(callee.full_name, callee.ports) for callee in self._callees]
        known: _CalledMemory | None = before._called if before is not None else None
        self._called: _CalledMemory = known if known is not None and known.ports == ports else _CalledMemory(ports)
        self._weigh = [weights.of(callee.full_name) for callee in self._callees]
        # By the number of the answer, which stands beside it: how many were given it.
        self._lacking: dict[int, tuple[_Answer, int]] = {}

    @property
    def _roomy(self) -> bool:
        return self._weights.total_bytes <= self._least

    def _fill(self) -> None:
        """Many services name the same callers: each of these is looked for once."""
        positions: dict[Callers, set[int]] = {}
        for number, callee in enumerate(self._callees):
            for callers in _callers(callee):
                positions.setdefault(callers, set()).add(number)
        for position, (callers, numbers) in enumerate(positions.items()):
            self._index.add(callers, position)
            self._named.append(numbers)

    def of(self, spiffe_id: SpiffeId, namespace: str, room_bytes: int) -> tuple[Called, ...]:
        """What a workload may call; the very same value for all who may call the same. At most as many as a sidecar
        takes and as have room, those of its own namespace first."""
        # Less room is nobody's but its own, and while there is plenty how much makes no difference.
        room = min(room_bytes, self._least) if self._roomy else room_bytes
        found = self._answers.get((spiffe_id, namespace, room))
        if found is None:
            others = self._named_by(spiffe_id)
            found = self._alike.get((namespace, others, room))
            if found is None:
                own = tuple(self._own.get(namespace, ()))
                found = self._alike[namespace, others, room] = self._called.of(own, others, self._weigh, room)
            self._answers[spiffe_id, namespace, room] = found
        if found.left:
            self._lacking[id(found)] = (found, self._lacking.get(id(found), (found, 0))[1] + 1)
        return found.called

    def _named_by(self, spiffe_id: SpiffeId) -> frozenset[int]:
        found = self._numbers.get(spiffe_id)
        if found is None:
            named = self._index.named(spiffe_id)
            found = frozenset().union(*(self._named[position] for position in named.always | named.narrowed))
            self._numbers[spiffe_id] = found
        return found

    def left_out(self) -> Mapping[str, LeftOut]:
        """By full name, the services that some of those asked for are not told of."""
        lacking: Counter[int] = Counter()
        for answer, callers in self._lacking.values():
            for number in answer.left:
                lacking[number] += callers
        return {
            callee.full_name: LeftOut(
                ports=len(callee.ports), told_bytes=self._weights.of(callee.full_name), callers=callers
            )
            for number, callers in sorted(lacking.items())
            for callee in (self._callees[number],)
        }


class _CalledMemory:
    """Services and their ports as references, and what was made of these; it depends on no policy, and on nobody's
    size."""

    __slots__ = ("_made", "_references", "ports")

    def __init__(self, ports: list[tuple[str, tuple[ServicePort, ...]]]) -> None:
        self.ports = ports
        self._references = [
            tuple(
                (UpstreamReference(service=name, port=port.port, protocol=port.protocol), None)
                for port in sorted(own, key=lambda port: port.port)
            )
            for name, own in ports
        ]
        self._made: dict[tuple[int, ...], tuple[Called, ...]] = {}

    def of(self, own: tuple[int, ...], others: frozenset[int], weights: Sequence[int], room_bytes: int) -> _Answer:
        """Those of these services for which there is room; of too many ``own`` ones first. ``weights``: bytes of
        each."""
        every = others.union(own)
        left = UPSTREAM_LIMIT - sum(len(self._references[number]) for number in every)
        left_bytes = room_bytes - sum(weights[number] for number in every)
        if left >= 0 and left_bytes >= 0:
            return _Answer(called=self._told(every))
        left, left_bytes = UPSTREAM_LIMIT, room_bytes
        kept: list[int] = []
        out: list[int] = []
        # A port takes as much of the one limit as these bytes do of the other.
        shares = _Shares(weights=weights, port_bytes=max(room_bytes // UPSTREAM_LIMIT, 1))
        for number in (*self._fair(own, shares), *self._fair(others.difference(own), shares)):
            if len(self._references[number]) > left or weights[number] > left_bytes:
                out.append(number)
                continue  # one with a thousand ports is no reason to leave out the rest
            left -= len(self._references[number])
            left_bytes -= weights[number]
            kept.append(number)
        return _Answer(called=self._told(kept), left=tuple(sorted(out)))

    def _told(self, numbers: Iterable[int]) -> tuple[Called, ...]:
        key = tuple(sorted(numbers))
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= _MADE_LIMIT:
                self._made.clear()
            found = tuple(one for number in key for one in self._references[number])
            self._made[key] = found
        return found

    def _fair(self, numbers: Iterable[int], shares: _Shares) -> Iterable[int]:
        """From each namespace as much as from another, its smallest services first: who lets everybody into a thousand
        of them, or into one with a thousand pods, takes nobody's place."""
        ranks: dict[str, int] = {}
        found: list[tuple[int, int]] = []
        costs = {number: shares.of(number, len(self._references[number])) for number in numbers}
        for number in sorted(costs, key=lambda one: (costs[one], one)):
            namespace = self.ports[number][0].partition("/")[0]
            ranks[namespace] = rank = ranks.get(namespace, 0) + costs[number]
            found.append((rank, number))
        return (number for _, number in sorted(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shares:
    """What services take of whichever limit they take more of, in bytes."""

    weights: Sequence[int]
    port_bytes: int

    def of(self, number: int, ports: int) -> int:
        return max(self.weights[number], ports * self.port_bytes)


def _callees(mesh: Mesh, policies: Policies) -> tuple[_Callee, ...]:
    beside = _beside(mesh)
    found = [
        _Callee(
            full_name=service.full_name,
            namespace=service.namespace,
            ports=service.ports,
            direct=False,
            bound=tuple(
                policies.get(name, _NOBODY)
                for name in sorted(beside.get(service.full_name, ())) or (service.full_name,)
            ),
        )
        for service in mesh.services
    ]
    for direct in mesh.direct_services:
        ports = tuple(ServicePort(port=port.port, protocol=port.protocol) for port in direct.ports)
        found.append(
            _Callee(full_name=direct.full_name, namespace=direct.namespace, ports=ports, direct=True, bound=())
        )
    return tuple(sorted(found, key=lambda callee: callee.full_name))


def _beside(mesh: Mesh) -> Mapping[str, frozenset[str]]:
    """By service, those that share workloads with it: what is permitted at these is permitted there."""
    services: dict[WorkloadKey, set[str]] = {}
    for service, instance in mesh.workloads:
        services.setdefault(WorkloadKey(service.identity_of(instance), instance.name), set()).add(service.full_name)
    found: dict[str, set[str]] = {}
    for names in services.values():
        if len(names) > 1:
            for name in names:
                found.setdefault(name, set()).update(names)
    return {name: frozenset(names) for name, names in found.items()}


def _callers(callee: _Callee) -> Iterable[Callers]:
    """Who may be let in; each once, and everybody alone."""
    if callee.direct:
        return (_EVERYBODY,)  # it judges its callers itself
    permissive = any(port.mode is PortMode.PERMISSIVE for port in callee.ports)
    found: dict[Callers, None] = {}
    for bound in callee.bound:
        if bound.policy.observe_until is not None:
            return (_EVERYBODY,)
        for callers in _named(bound):
            if callers == _EVERYBODY:
                return (_EVERYBODY,)
            if isinstance(callers, UnauthenticatedCallers):
                # Whoever may come without an identity is meant to come: what refuses one with an identity says why.
                if permissive:
                    return (_EVERYBODY,)
                continue
            found[callers] = None
    return found


def _named(bound: BoundPolicy) -> Iterator[Callers]:
    for listed in bound.policy.allowlists:
        for rule in listed.rules:
            for callers in rule.callers:
                yield callers.callers if isinstance(callers, NarrowedCallers) else callers
