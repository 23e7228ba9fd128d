"""Which observed calls two policies judge otherwise. Pure.

What a flow does not show (hosts, headers, tokens, conditions, addresses) is taken as met where a rule permits by it and
as not met where a denylist refuses by it, under both policies: a change of these alone shows in the comparison of all
calls and not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ringfence.policy.analysis.calls import Judge
from ringfence.policy.analysis.world import World, WorldService
from ringfence.policy.learning.conditions import visible, without_conditions
from ringfence.policy.learning.flow import Flow
from ringfence.policy.learning.replaying import call_of
from ringfence.policy.model import PolicySet


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficChange:
    """``permitted`` and ``denied``: the flows that become so, those with most calls first. ``judged``: calls in all;
    ``untold``: those of flows that do not tell enough to be judged."""

    judged: int
    untold: int
    permitted: tuple[Flow, ...]
    denied: tuple[Flow, ...]


def changed_traffic(flows: Iterable[Flow], old: World, new: World, *, now: float) -> TrafficChange:
    """What becomes of the calls of ``flows`` from ``old`` to ``new``, both at ``now`` (Unix seconds)."""
    before, after = _Judging(old, now), _Judging(new, now)
    judged = untold = 0
    permitted: list[Flow] = []
    denied: list[Flow] = []
    for flow in flows:
        if not flow.is_opaque and not flow.path:
            untold += flow.count
            continue
        judged += flow.count
        passed, passes = before.permits(flow), after.permits(flow)
        if passes and not passed:
            permitted.append(flow)
        elif passed and not passes:
            denied.append(flow)
    permitted.sort(key=lambda flow: -flow.count)
    denied.sort(key=lambda flow: -flow.count)
    return TrafficChange(judged=judged, untold=untold, permitted=tuple(permitted), denied=tuple(denied))


class _Judging:
    def __init__(self, world: World, now: float) -> None:
        services = {service.full_name: _visible(service) for service in world.services if service.has_sidecar}
        self._services = frozenset(services)
        self._judge = Judge(replace(world, services=tuple(services.values())))
        self._now = now

    def permits(self, flow: Flow) -> bool:
        """A service that there is not takes no calls."""
        if flow.service not in self._services:
            return False
        return self._judge.judge(replace(call_of(flow), time=self._now)).permitted


def _visible(service: WorldService) -> WorldService:
    policy = service.policy
    known = PolicySet(
        allowlists=tuple(without_conditions(one) for one in policy.allowlists),
        denylists=tuple(visible(one) for one in policy.denylists),
        observe_until=policy.observe_until,
    )
    return replace(service, policy=known, shadow=None)
