"""An upstream as its connections use it: to which endpoint they go, what its route sets, what is counted. Adapter.

One lives as long as snapshots name its service and port; what was learned of its endpoints outlives each snapshot.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

from ringfence.policy.reasons import DenyReason
from ringfence.routing.model import Route, Timeouts
from ringfence.routing.table import RouteTable
from ringfence.snapshot import Endpoint, Upstream
from sidecar.balance import Balancer, Member, Outcome
from sidecar.metrics import SidecarMetrics
from sidecar.tunnel.pool import LinkLimits

_DEFAULT_ROUTE: Final = Route(name="")
# What a failure to get through says of the endpoint; all other reasons are this sidecar's own or policy's.
ENDPOINT_FAULTS: Final = frozenset(
    (
        DenyReason.UPSTREAM_UNREACHABLE,
        DenyReason.UPSTREAM_TIMEOUT,
        DenyReason.REQUEST_TIMEOUT,
        DenyReason.APP_UNREACHABLE,
        DenyReason.APP_TIMEOUT,
        DenyReason.PEER_REFUSED,
        DenyReason.PLAINTEXT_REFUSED,
        DenyReason.IDENTITY_EXPIRED,
        DenyReason.DRAINING,
        DenyReason.OVERLOADED,
        DenyReason.NO_SNAPSHOT,
        DenyReason.NO_IDENTITY,
    )
)
# Of a failure that no peer told: this sidecar's, whatever the endpoint.
OUR_OWN: Final = frozenset(
    (DenyReason.DRAINING, DenyReason.OVERLOADED, DenyReason.NO_IDENTITY, DenyReason.INTERNAL_ERROR)
)


def link_limits(upstreams: Iterable[Upstream]) -> dict[Endpoint, LinkLimits]:
    """What holds for links to each endpoint: of several upstreams that lead there, the strictest."""
    found: dict[Endpoint, LinkLimits] = {}
    for upstream in upstreams:
        route = upstream.route
        own = LinkLimits()
        if route is not None:
            own = LinkLimits(
                connect_seconds=route.timeouts.connect_seconds or own.connect_seconds,
                age_seconds=route.max_age_seconds,
                idle_seconds=route.timeouts.idle_seconds,
            )
        for endpoint in upstream.endpoints:
            held = found.setdefault(endpoint, own)
            if held != own:
                found[endpoint] = LinkLimits(
                    connect_seconds=min(held.connect_seconds, own.connect_seconds),
                    age_seconds=_least(held.age_seconds, own.age_seconds),
                    idle_seconds=_least(held.idle_seconds, own.idle_seconds),
                )
    return found


def _least(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)


class Target:
    """``plain``: one endpoint and no route, so that a request needs no thought here."""

    __slots__ = (
        "_ejections",
        "_metrics",
        "_panics",
        "_panics_told",
        "balancer",
        "plain",
        "route",
        "service",
        "table",
        "upstream",
    )

    def __init__(
        self, upstream: Upstream, metrics: SidecarMetrics, now: float, chance: random.Random | None = None
    ) -> None:
        """``chance``: a generator that is shared with others, as each has a state of 2.5 KB."""
        self.service = f"{upstream.namespace}/{upstream.service}"
        self._metrics = metrics
        self._ejections = metrics.ejections.at(self.service)
        self._panics = metrics.panics.at(self.service)
        self._panics_told = 0
        chance = chance or random.Random()
        self.balancer = Balancer(endpoints=upstream.endpoints, route=upstream.route, now=now, random=chance)
        self.update(upstream, now)

    def update(self, upstream: Upstream, now: float) -> None:
        """The upstream as a new snapshot has it."""
        self.upstream = upstream
        self.route = upstream.route if upstream.route is not None else _DEFAULT_ROUTE
        self.table = RouteTable(self.route)
        self.balancer.update(upstream.endpoints, upstream.route, now)
        self._tell_panics()
        self.plain = upstream.route is None and self.balancer.single is not None

    @property
    def timeouts(self) -> Timeouts:
        """Of the whole service."""
        return self.route.timeouts

    # -- counting -----------------------------------------------------------------------------------------------------

    def learned(self, member: Member, seconds: float, outcome: Outcome, now: float) -> None:
        """Pass on what a connection attempt said of an endpoint, and count what came of it."""
        if self.balancer.learned(member, seconds, outcome, now):
            self._ejected()

    def ended(self, member: Member, seconds: float, outcome: Outcome, now: float) -> None:
        """Pass on that a call ended, and count what came of it."""
        if self.balancer.ended(member, seconds, outcome, now):
            self._ejected()

    def _ejected(self) -> None:
        self._ejections.value += 1
        self._tell_panics()

    def _tell_panics(self) -> None:
        self._panics.value += self.balancer.panics - self._panics_told
        self._panics_told = self.balancer.panics

    def timed_out(self, kind: str) -> None:
        """``kind``: connect, response_head, request, try, deadline or idle."""
        self._metrics.timeouts.at(self.service, kind).value += 1

    def circuit_opened(self, limit: str) -> None:
        """``limit``: connections, pending or requests."""
        self._metrics.circuit_open.at(self.service, limit).value += 1

    def may_retry(self, now: float) -> bool:
        """Take a retry out of the budget, if there is one left."""
        if self.balancer.budget.withdraw(self.balancer.calls, now):
            return True
        self._metrics.retries_withheld.at(self.service).value += 1
        return False

    def retried(self, after: str) -> None:
        """A call is tried again; ``after``: a RetryOn."""
        self._metrics.retries.at(self.service, after).value += 1
