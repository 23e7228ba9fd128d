"""How many bytes of a snapshot it costs to tell somebody of a service, and what is left for that. Pure.

A message has a limit, and whoever owns a service says how large it is. So each service is weighed before it is told:
never less than it will be on the wire, whoever of its workloads is ready.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from controlplane.push.sending import FRAME_BYTES, NOT_READY_BYTES
from controlplane.push.upstreams import NO_ROUTES, upstream_of
from ringfence.mesh import DirectPort, DirectService, Mesh, Service, ServicePort, UpstreamReference
from ringfence.policy.bound import BoundPolicy
from ringfence.routing.bind import PortRoute, Routes
from ringfence.snapshot import Endpoint, Protocol, Snapshot, Transport
from ringfence.spiffe import SpiffeId
from ringfence.wire.convert import ENDPOINT_LIMIT, snapshot_to_wire, upstream_bytes

_PORT: Final = 65_535
_PREFIX_BYTES: Final = 4
"""By as much the length before an upstream may grow with what is in it."""
_ROOM_STEP_BYTES: Final = 64 << 10
"""Room is left in whole steps, so that all who have little else to be told have the same, and share what they are
told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    service: Service | DirectService
    routes: Mapping[int, PortRoute]
    total_bytes: int


class Weights:
    """What each service of one mesh weighs, all of its ports together; ``before``: taken over where nothing differs."""

    __slots__ = ("_weighed", "total_bytes")

    def __init__(self, mesh: Mesh, routes: Routes, before: Weights | None = None) -> None:
        held = before._weighed if before is not None else {}
        self._weighed: dict[str, _Weighed] = {}
        services: tuple[Service | DirectService, ...] = (*mesh.services, *mesh.direct_services)
        for service in services:
            own = routes.get(service.full_name, NO_ROUTES)
            known = held.get(service.full_name)
            if known is None or known.service != service or known.routes != own:
                known = _Weighed(service=service, routes=own, total_bytes=_total_bytes(service, own))
            self._weighed[service.full_name] = known
        self.total_bytes = sum(one.total_bytes for one in self._weighed.values())
        """Of the whole mesh."""

    def of(self, full_name: str) -> int:
        """Bytes that one service costs whoever is told of it."""
        return self._weighed[full_name].total_bytes


class Rooms:
    """What is left of a message of ``limit_bytes`` for whom a workload may call, beside its own policy."""

    __slots__ = ("_held", "_limit_bytes", "_old")

    def __init__(self, limit_bytes: int, before: Rooms | None = None) -> None:
        self._limit_bytes = limit_bytes
        # Each policy beside its size, so that its number is never another's.
        self._held: dict[int, tuple[BoundPolicy, int]] = {}
        self._old: Mapping[int, tuple[BoundPolicy, int]] = before._held if before is not None else {}

    @property
    def least_bytes(self) -> int:
        """Whoever has less has an uncommonly large policy."""
        return self._limit_bytes // 2

    def beside(self, snapshot: Snapshot, bound: BoundPolicy) -> int:
        """Bytes; 0 where there is no room. ``snapshot``: all of it but upstreams; its policy is ``bound``."""
        bare = replace(snapshot, allowlists=(), denylists=(), shadow=None, token_issuers=())
        size = snapshot_to_wire(bare).ByteSize()
        known = self._held.get(id(bound)) or self._old.get(id(bound))
        if known is None:
            known = (bound, snapshot_to_wire(snapshot).ByteSize() - size)
        self._held[id(bound)] = known
        steps = (size + known[1] + FRAME_BYTES) // _ROOM_STEP_BYTES + 1
        return max(self._limit_bytes - FRAME_BYTES - steps * _ROOM_STEP_BYTES, 0)


def _total_bytes(service: Service | DirectService, routes: Mapping[int, PortRoute]) -> int:
    if isinstance(service, DirectService):
        direct = sum(_endpoint_bytes(service, one, service.spiffe_id) for one in service.addresses)
        return sum(_bare_bytes(service, port, routes) + direct for port in service.ports)
    # Instances with the same ports behind the service's are looked at together.
    groups: dict[tuple[int, ...], list[int]] = {}
    alike: dict[tuple[int, SpiffeId], int] = {}
    for one in service.instances:
        spiffe_id = service.identity_of(one)
        sizes = groups.setdefault(service.targets_of(one), [])
        for address in (one.address, *one.also):
            key = (len(address), spiffe_id)
            if key not in alike:
                alike[key] = _endpoint_bytes(service, address, spiffe_id)
            sizes.append(alike[key])
    sums = {targets: sum(sizes) for targets, sizes in groups.items()}
    total = 0
    for index, port in enumerate(service.ports):
        having = [targets for targets in groups if targets[index]]
        told = sum(sums[targets] for targets in having)
        if service.pinned and sum(len(groups[targets]) for targets in having) > ENDPOINT_LIMIT:
            told = sum(heapq.nlargest(ENDPOINT_LIMIT, (size for targets in having for size in groups[targets])))
        total += _bare_bytes(service, port, routes) + told
    return total


def _bare_bytes(
    service: Service | DirectService, port: ServicePort | DirectPort, routes: Mapping[int, PortRoute]
) -> int:
    """Of one port with nobody behind it."""
    reference = UpstreamReference(service=service.full_name, port=port.port, protocol=port.protocol)
    return upstream_bytes(upstream_of(service, reference, None, routes, ())) + _PREFIX_BYTES


def _endpoint_bytes(service: Service | DirectService, address: str, spiffe_id: SpiffeId) -> int:
    """Of one endpoint at whatever port, and of its address where that means the service, too."""
    direct = isinstance(service, DirectService)
    endpoint = Endpoint(
        mesh_host=address,
        mesh_port=_PORT,
        address=address,
        spiffe_id=spiffe_id,
        ready=False,
        transport=Transport.DIRECT if direct else Transport.TUNNEL,
        port=_PORT,
    )
    reference = UpstreamReference(service=service.full_name, port=_PORT, protocol=Protocol.AUTO)
    bare = upstream_of(service, reference, None, NO_ROUTES, ())
    told = upstream_of(service, reference, None, NO_ROUTES, (endpoint,))
    return upstream_bytes(told) - upstream_bytes(bare) + NOT_READY_BYTES
