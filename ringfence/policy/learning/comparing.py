"""What a proposal changes when it takes the place of the allowlists in force, as calls. Pure."""

from __future__ import annotations

from dataclasses import replace

from ringfence.policy.analysis.cells.segments import TooManyClassesError
from ringfence.policy.analysis.changes import Comparing, Comparison, compare
from ringfence.policy.analysis.world import World, WorldService
from ringfence.policy.learning.proposal import Proposal
from ringfence.policy.model import PolicySet


def compared(proposal: Proposal, world: World, now: float) -> Comparison | None:
    """Every change to the calls of the service, observing aside; None where there are too many kinds of calls to look
    at them all."""
    service = world.service(proposal.service)
    assert service is not None, proposal.service
    denylists = service.policy.denylists
    before = _with(world, service, PolicySet(allowlists=service.policy.allowlists, denylists=denylists))
    after = _with(world, service, PolicySet(allowlists=(proposal.allowlist,), denylists=denylists))
    try:
        return compare(before, after, Comparing(now=now))
    except TooManyClassesError:
        return None


def _with(world: World, service: WorldService, policy: PolicySet) -> World:
    changed = replace(service, policy=policy, shadow=None)
    return replace(world, services=tuple(changed if one == service else one for one in world.services))
