"""The observed calls once more, judged by the engine under a proposal in place of the allowlists in force. Pure.

What a flow does not show (hosts, headers, tokens, conditions, addresses) is taken as met where a rule goes on asking
it, and as not met where a denylist does. So the replay shows that callers, ports, methods and paths suffice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ringfence.policy.analysis.calls import Call, Judge
from ringfence.policy.analysis.world import World, WorldService
from ringfence.policy.decision import Decision, Permit
from ringfence.policy.learning.conditions import visible, without_conditions
from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.policy.learning.proposal import Proposal
from ringfence.policy.model import PolicySet


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """``refused``: learned flows that the proposal would refuse, of which there must be none; ``left_refused``: flows
    that pass today, are not learned from, and would be refused; ``new``: learned flows that no allowlist in force
    permits. ``calls``: learned ones, in all."""

    kinds: int
    calls: int
    refused: tuple[tuple[Flow, Decision], ...]
    left_refused: tuple[Flow, ...]
    new: tuple[Flow, ...]


def replay(proposal: Proposal, world: World) -> Replay:
    """Judge the flows of a proposal under it."""
    service = world.service(proposal.service)
    assert service is not None, proposal.service
    denylists = tuple(visible(one) for one in service.policy.denylists)
    proposed = PolicySet(allowlists=(without_conditions(proposal.allowlist),), denylists=denylists)
    in_force = PolicySet(
        allowlists=tuple(without_conditions(one) for one in service.policy.allowlists), denylists=denylists
    )
    judge, before = _judge(service, world, proposed), _judge(service, world, in_force)
    refused = []
    for flow in proposal.learned:
        decision = judge.judge(call_of(flow))
        if not isinstance(decision, Permit):
            refused.append((flow, decision))
    passing = (flow for flow, _ in proposal.left_out if flow.verdict is not Verdict.DENY)
    return Replay(
        kinds=len(proposal.learned),
        calls=sum(flow.count for flow in proposal.learned),
        refused=tuple(refused),
        left_refused=tuple(flow for flow in passing if not judge.judge(call_of(flow)).permitted),
        new=tuple(flow for flow in proposal.learned if not before.judge(call_of(flow)).permitted),
    )


def call_of(flow: Flow) -> Call:
    """A call as a flow tells of it; of what it does not tell, nothing."""
    return Call(
        caller=flow.caller,
        service=flow.service,
        port=flow.port,
        method=flow.method or "GET",
        path=flow.example_target() or "/",
        opaque=flow.is_opaque,
    )


def _judge(service: WorldService, world: World, policy: PolicySet) -> Judge:
    return Judge(replace(world, services=(replace(service, policy=policy, shadow=None),)))
