"""The targets of a workload: those of its upstreams, by name and by address, and those of single endpoints. Adapter.

An address of a service (``Upstream.addresses``) means any of its endpoints. The address of an endpoint itself, with the
port that it has there, means this one and no other (``pinned``): members of a StatefulSet, what a headless service's
name was resolved to, an instance that is scraped. Its identity is checked as always. An address that is both, as in a
mesh of plain hosts, means the service: there, callers have always dialled an instance's address for it.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from ringfence.snapshot import Endpoint, Protocol, Transport, Upstream
from sidecar.balance.member import Address, address_of
from sidecar.metrics import SidecarMetrics
from sidecar.target import Target

Destination = tuple[str, int]
UpstreamName = tuple[str, str, int, Protocol]


class Targets:
    """Those of one workload. What was learned of an upstream stays as long as snapshots name it."""

    def __init__(self, metrics: SidecarMetrics) -> None:
        self._metrics = metrics
        self._random = random.Random()
        self._by_name: dict[UpstreamName, Target] = {}
        self._by_address: dict[Destination, Target] = {}
        self._upstreams: Sequence[Upstream] = ()
        self._pins: dict[Destination, tuple[Upstream, Endpoint]] | None = None  # made when first asked for
        self._pinned: dict[tuple[UpstreamName, Address], Target] = {}  # those that were dialled

    def enforce(self, upstreams: Sequence[Upstream], now: float) -> None:
        """The upstreams in force from now on."""
        held, self._by_name = self._by_name, {}
        for upstream in upstreams:
            name = name_of(upstream)
            target = held.get(name)
            if target is None:
                target = Target(upstream, self._metrics, now, self._random)
            else:
                target.update(upstream, now)
            self._by_name[name] = target
        self._by_address = {
            (address, upstream.port): self._by_name[name_of(upstream)]
            for upstream in upstreams
            for address in upstream.addresses
        }
        self._upstreams, self._pins = upstreams, None
        self._keep_pinned(now)

    def _keep_pinned(self, now: float) -> None:
        """An endpoint that is gone takes nothing new."""
        held, self._pinned = self._pinned, {}
        for (name, address), target in held.items():
            whole = self._by_name.get(name)
            if whole is None:
                continue
            still = tuple(endpoint for endpoint in whole.upstream.endpoints if address_of(endpoint) == address)
            target.update(replace(whole.upstream, endpoints=still), now)
            if still:
                self._pinned[name, address] = target

    # -- looking up ---------------------------------------------------------------------------------------------------

    @property
    def all(self) -> Collection[Target]:
        """Of all upstreams."""
        return self._by_name.values()

    def names(self, upstream: Upstream) -> bool:
        """Whether the newest snapshot has it."""
        return name_of(upstream) in self._by_name

    def of(self, upstream: Upstream) -> Target:
        """That of an upstream of the newest snapshot."""
        return self._by_name[name_of(upstream)]

    def reached_by(self, destination: Destination) -> Upstream | None:
        """The upstream that a dialled address means, or one of whose endpoints has it."""
        target = self._by_address.get(destination)
        if target is not None:
            return target.upstream
        pin = self._pin(destination)
        return pin[0] if pin is not None else None

    def at(self, destination: Destination, now: float) -> Target | None:
        """Where a connection to a dialled address leads."""
        target = self._by_address.get(destination)
        if target is not None:
            return target
        pin = self._pin(destination)
        return self._pinned_target(*pin, now) if pin is not None else None

    def _pin(self, destination: Destination) -> tuple[Upstream, Endpoint] | None:
        if self._pins is None:
            self._pins = pins(self._upstreams)
        return self._pins.get(destination)

    def _pinned_target(self, upstream: Upstream, endpoint: Endpoint, now: float) -> Target:
        key = (name_of(upstream), address_of(endpoint))
        target = self._pinned.get(key)
        if target is None:
            target = Target(replace(upstream, endpoints=(endpoint,)), self._metrics, now, self._random)
            # What a route sets bounds for all that this workload sends to the service.
            target.balancer.circuit = self._by_name[key[0]].balancer.circuit
            self._pinned[key] = target
        return target


def pins(upstreams: Iterable[Upstream]) -> dict[Destination, tuple[Upstream, Endpoint]]:
    """The endpoints by their own addresses. Where several services have the same pod at the same port, the one that is
    reached in no other way (headless) says how it is spoken to, then the one that has the same port, then the first by
    name: all of them lead to the same place, under the same identity."""
    found: dict[Destination, tuple[Upstream, Endpoint]] = {}

    def weight(upstream: Upstream, port: int) -> tuple[bool, bool, str, str, int]:
        return bool(upstream.addresses), upstream.port != port, upstream.namespace, upstream.service, upstream.port

    for upstream in upstreams:
        for endpoint in upstream.endpoints:
            if endpoint.transport is not Transport.TUNNEL:
                continue  # without a sidecar it is dialled by the addresses that its document gives
            port = endpoint.port or upstream.port
            held = found.get((endpoint.address, port))
            if held is None or weight(upstream, port) < weight(held[0], port):
                found[endpoint.address, port] = (upstream, endpoint)
    return found


def name_of(upstream: Upstream) -> UpstreamName:
    """What makes it the same upstream in two snapshots."""
    return (upstream.namespace, upstream.service, upstream.port, upstream.protocol)
