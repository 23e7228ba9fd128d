"""How callers reach services, as snapshots have it. Pure.

What many callers are told alike is made once, and is one object in all of their snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import DirectService, Mesh, Service, UpstreamReference
from ringfence.routing.bind import PortRoute, Routes
from ringfence.snapshot import Endpoint, Protocol, Transport, Upstream
from ringfence.wire.convert import ENDPOINT_LIMIT

Called = tuple[UpstreamReference, SocketAddress | None]
"""What a workload calls, and where its sidecar listens for that; None: nowhere, the app's own calls are intercepted."""

NO_ROUTES: Final[Mapping[int, PortRoute]] = MappingProxyType({})
"""Of a service of which no document says how it is reached."""
_SEEN_LIMIT: Final = 20_000  # while the mesh stays the same policies may change, and with them who may call the same


class UpstreamMaker:
    """Makes upstreams of one mesh under one set of routes; ``before``: one whose values are taken over where they say
    the same, the very objects."""

    __slots__ = ("_before", "_endpoints", "_made", "_routes", "_seen", "_services", "_tuples")

    def __init__(self, mesh: Mesh, routes: Routes, before: UpstreamMaker | None = None) -> None:
        self._services: Mapping[str, Service | DirectService] = {
            **{service.full_name: service for service in mesh.services},
            **{service.full_name: service for service in mesh.direct_services},
        }
        self._routes = routes
        if before is not None and before._services == self._services and before._routes == routes:
            self._take_over(before)
            return
        self._endpoints: dict[tuple[str, int], tuple[Endpoint, ...]] = {}
        self._made: dict[tuple[str, int, SocketAddress | None], Upstream] = {}
        self._tuples: dict[tuple[Called, ...], tuple[Upstream, ...]] = {}
        self._seen: dict[int, tuple[tuple[Called, ...], tuple[Upstream, ...]]] = {}
        self._before = before
        if before is not None:
            before._before = None  # or every one that ever was would live on

    def _take_over(self, before: UpstreamMaker) -> None:
        """All of it, where mesh and routes are the same."""
        self._endpoints, self._made = before._endpoints, before._made
        self._tuples, self._seen = before._tuples, before._seen
        self._before = None

    def make(self, called: tuple[Called, ...]) -> tuple[Upstream, ...]:
        """Those of one workload, in the order of ``called``, which is that of ``order``."""
        known = self._seen.get(id(called))
        if known is not None:
            return known[1]
        if len(self._seen) >= _SEEN_LIMIT:
            self._seen.clear()
            self._tuples.clear()
        found = self._make(called)
        # Kept beside what it was made of, so that no other object gets its number.
        self._seen[id(called)] = (called, found)
        return found

    def _make(self, called: tuple[Called, ...]) -> tuple[Upstream, ...]:
        found = self._tuples.get(called)
        if found is None:
            found = tuple(self._one(*one) for one in called)
            held = self._before._tuples.get(called) if self._before is not None else None
            if held is not None and all(one is other for one, other in zip(found, held, strict=True)):
                found = held
            self._tuples[called] = found
        return found

    def _one(self, reference: UpstreamReference, listen: SocketAddress | None) -> Upstream:
        key = (reference.service, reference.port, listen)
        found = self._made.get(key)
        if found is None:
            found = self._upstream(reference, listen)
            held = self._before._made.get(key) if self._before is not None else None
            self._made[key] = found = held if held is not None and _alike(held, found) else found
        return found

    def _upstream(self, reference: UpstreamReference, listen: SocketAddress | None) -> Upstream:
        target = self._services[reference.service]
        endpoints = self._endpoints_of(target, reference.port)
        return upstream_of(target, reference, listen, self._routes.get(reference.service, NO_ROUTES), endpoints)

    def _endpoints_of(self, target: Service | DirectService, port: int) -> tuple[Endpoint, ...]:
        key = (target.full_name, port)
        found = self._endpoints.get(key)
        if found is None:
            made = _direct(target, port) if isinstance(target, DirectService) else _tunnelled(target, port)
            found = self._endpoints[key] = made
        return found


def upstream_of(
    target: Service | DirectService,
    reference: UpstreamReference,
    listen: SocketAddress | None,
    routes: Mapping[int, PortRoute],
    endpoints: tuple[Endpoint, ...],
) -> Upstream:
    """How one caller is told a port of ``target``; ``routes``: those of the service."""
    pinned = isinstance(target, Service) and target.pinned
    own = sorted({endpoint.address for endpoint in endpoints}) if not pinned else []
    behind = _ports_behind(target, reference.port) if routes else ()
    held = next((routes[port] for port in behind if port in routes), None)
    route = held.route if held is not None else None
    # Of two ports with one behind them, one may be opaque, where no sidecar takes words about requests.
    if route is not None and route.speaks_http and reference.protocol is Protocol.TCP:
        route = None
    return Upstream(
        service=target.name,
        namespace=target.namespace,
        port=reference.port,
        protocol=reference.protocol,
        listen_host=listen.host if listen is not None else "",
        listen_port=listen.port if listen is not None else 0,
        endpoints=endpoints,
        addresses=tuple(dict.fromkeys((*own, *sorted(target.virtual_addresses)))),
        route=route,
    )


def _alike(one: Upstream, other: Upstream) -> bool:
    """Whether two are told alike; the port and the readiness of an endpoint are no part of its equality."""
    return one == other and all(
        (end.port, end.ready) == (same.port, same.ready)
        for end, same in zip(one.endpoints, other.endpoints, strict=True)
    )


def _direct(target: DirectService, port: int) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(
            mesh_host=address,
            mesh_port=port,
            address=address,
            spiffe_id=target.spiffe_id,
            transport=Transport.DIRECT,
        )
        for address in sorted(target.addresses)
    )


def _tunnelled(target: Service, port: int) -> tuple[Endpoint, ...]:
    """One for each instance that has the port, in the order of their names; behind them those of further addresses,
    which are never ready, so that no instance is chosen twice as often for having two."""
    index = next((place for place, one in enumerate(target.ports) if one.port == port), None)
    found, further = [], []
    for instance in sorted(target.instances, key=lambda instance: instance.name):
        behind = target.targets_of(instance)[index] if index is not None else port
        if behind:
            endpoint = Endpoint(
                mesh_host=instance.address,
                mesh_port=instance.mesh_port,
                address=instance.address,
                spiffe_id=target.identity_of(instance),
                ready=instance.ready,
                port=behind if behind != port else 0,
            )
            found.append(endpoint)
            further += [replace(endpoint, mesh_host=one, address=one, ready=False) for one in instance.also]
    # An address that a pod had which is just gone may be another's already; twice, no sidecar of a caller takes it.
    taken = {endpoint.address for endpoint in found}
    further = list({one.address: one for one in further if one.address not in taken}.values())
    # More than a sidecar takes of one upstream; where a service says that it is dialled by instance they are a pool.
    return tuple((*found, *further)[:ENDPOINT_LIMIT] if target.pinned else (*found, *further))


def _ports_behind(target: Service | DirectService, port: int) -> tuple[int, ...]:
    """The workloads' ports behind one of a service, by which routes name it."""
    if isinstance(target, DirectService):
        return (port,)
    index = next((place for place, one in enumerate(target.ports) if one.port == port), None)
    if index is None:
        return (port,)
    return tuple(sorted({target.standard_targets[index], *(target.targets_of(one)[index] for one in target.instances)}))


def order(called: Called) -> tuple[str, int, str, int]:
    """Unique in a workload: two upstreams without a listener are two services or two ports."""
    reference, listen = called
    return (listen.host if listen else "", listen.port if listen else 0, reference.service, reference.port)
