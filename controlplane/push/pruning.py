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

    __slots__ = ("_index", "_of_namespace", "_references", "_remembered", "_seen")

    def __init__(self, mesh: Mesh, policies: Policies, before: Reach | None = None) -> None:
        """``before``: all of it is taken over where nothing that matters here differs."""
        self._seen = (mesh.trust_domain, _callees(mesh, policies))
        same = before if before is not None and before._seen == self._seen else None
        self._index: CallerIndex = same._index if same is not None else CallerIndex(mesh.trust_domain)
        self._references: list[tuple[UpstreamReference, ...]] = same._references if same is not None else []
        self._of_namespace: dict[str, list[int]] = same._of_namespace if same is not None else {}
        self._remembered: dict[tuple[int, ...], tuple[Called, ...]] = same._remembered if same is not None else {}
        if same is None:
            self._fill()

    def _fill(self) -> None:
        for number, callee in enumerate(self._seen[1]):
            self._references.append(
                tuple(
                    UpstreamReference(service=callee.full_name, port=port.port, protocol=port.protocol)
                    for port in callee.ports
                )
            )
            self._of_namespace.setdefault(callee.namespace, []).append(number)
            for callers in _callers(callee):
                self._index.add(callers, number)

    def of(self, spiffe_id: SpiffeId, namespace: str) -> tuple[Called, ...]:
        """What a workload may call; the very same value for all who may call the same. At most as many as a sidecar
        takes, those of its own namespace first."""
        own = self._of_namespace.get(namespace, [])
        named = self._index.named(spiffe_id)
        numbers = (*own, *sorted((named.always | named.narrowed) - set(own)))
        found = self._remembered.get(numbers)
        if found is None:
            references = [reference for number in numbers for reference in self._references[number]]
            kept = sorted(references[:UPSTREAM_LIMIT], key=lambda one: (one.service, one.port))
            found = self._remembered[numbers] = tuple((reference, None) for reference in kept)
        return found


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
