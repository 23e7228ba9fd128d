"""What each workload is told that it may call: whatever may let it in, and no more. Pure.

On a platform nobody says whom a workload calls, and the whole mesh is too much to tell everybody. So a workload is told
the services of its own namespace, and those whose policy could permit its identity. What is left out would refuse it.
Denylists, conditions and words about requests are not looked at: too many is a cost, too few would be an outage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controlplane.push.upstreams import Called
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


class Reach:
    """Whom each identity of one mesh may call, in the order of names; the app's own calls are intercepted."""

    __slots__ = ("_answers", "_called", "_callees", "_index", "_named", "_own", "_trust_domain")

    def __init__(self, mesh: Mesh, policies: Policies, before: Reach | None = None) -> None:
        """``before``: taken over where nothing that matters here differs."""
        self._trust_domain = mesh.trust_domain
        self._callees = _callees(mesh, policies)
        if before is not None and before._callees == self._callees and before._trust_domain == self._trust_domain:
            self._index: CallerIndex = before._index
            self._named: list[set[int]] = before._named
            self._answers: dict[tuple[SpiffeId, str], tuple[Called, ...]] = before._answers
        else:
            self._index, self._named, self._answers = CallerIndex(mesh.trust_domain), [], {}
            self._fill()
        self._own: dict[str, list[int]] = {}
        for number, callee in enumerate(self._callees):
            self._own.setdefault(callee.namespace, []).append(number)
        ports = [(callee.full_name, callee.ports) for callee in self._callees]
        known: _CalledMemory | None = before._called if before is not None else None
        self._called: _CalledMemory = known if known is not None and known.ports == ports else _CalledMemory(ports)

    def _fill(self) -> None:
        """Many services name the same callers: each of these is looked for once."""
        positions: dict[Callers, set[int]] = {}
        for number, callee in enumerate(self._callees):
            for callers in _callers(callee):
                positions.setdefault(callers, set()).add(number)
        for position, (callers, numbers) in enumerate(positions.items()):
            self._index.add(callers, position)
            self._named.append(numbers)

    def of(self, spiffe_id: SpiffeId, namespace: str) -> tuple[Called, ...]:
        """What a workload may call; the very same value for all who may call the same. At most as many as a sidecar
        takes, those of its own namespace first."""
        found = self._answers.get((spiffe_id, namespace))
        if found is None:
            named = self._index.named(spiffe_id)
            numbers: set[int] = set()
            for position in named.always | named.narrowed:
                numbers |= self._named[position]
            found = self._called.of(tuple(self._own.get(namespace, ())), numbers)
            self._answers[spiffe_id, namespace] = found
        return found


class _CalledMemory:
    """Services and their ports as references, and what was made of these; it depends on no policy."""

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

    def of(self, own: tuple[int, ...], others: set[int]) -> tuple[Called, ...]:
        """Those of these services; of too many ``own`` ones first."""
        kept: list[int] = []
        left = UPSTREAM_LIMIT
        for number in (*own, *self._fair(others.difference(own))):
            if len(self._references[number]) > left:
                continue  # one with a thousand ports is no reason to leave out the rest
            left -= len(self._references[number])
            kept.append(number)
        numbers = tuple(sorted(kept))
        found = self._made.get(numbers)
        if found is None:
            if len(self._made) >= _MADE_LIMIT:
                self._made.clear()
            found = tuple(one for number in numbers for one in self._references[number])
            self._made[numbers] = found
        return found

    def _fair(self, numbers: Iterable[int]) -> Iterable[int]:
        """From each namespace as many ports as from another: who lets everybody into a thousand of them takes nobody's
        place."""
        ranks: dict[str, int] = {}
        found: list[tuple[int, int]] = []
        for number in sorted(numbers):
            namespace = self.ports[number][0].partition("/")[0]
            ranks[namespace] = rank = ranks.get(namespace, 0) + len(self._references[number])
            found.append((rank, number))
        return (number for _, number in sorted(found))


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
