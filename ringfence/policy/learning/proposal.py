"""What is proposed for a service, as values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ringfence.policy.learning.flow import Flow
from ringfence.policy.learning.sifting import LeftOut
from ringfence.policy.model import Allowlist
from ringfence.spiffe import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How often calls of a kind were seen, and when; times in Unix seconds."""

    count: int
    first_seen: float
    last_seen: float


def evidence_of(flows: Iterable[Flow]) -> Evidence:
    """Of these flows together, of which there is at least one."""
    found = list(flows)
    return Evidence(
        count=sum(flow.count for flow in found),
        first_seen=min(flow.first_seen for flow in found),
        last_seen=max(flow.last_seen for flow in found),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedRule:
    """What is told of one rule of the proposal. ``words``: evidence for each path, gRPC method, or port that it names;
    ``merged``: how many words became a parameter, by path; ``denied``: it permits what was refused."""

    name: str
    caller: SpiffeId | None
    evidence: Evidence
    words: Mapping[str, Evidence]
    merged: Mapping[str, int]
    denied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """For one service. ``rules`` go with those of ``allowlist``, in its order. ``learned``: the flows that it permits
    by design. ``unexercised``: full names of allow rules in force that permitted none of the flows. ``unrecorded``:
    calls to the service of which nothing is known."""

    service: str
    allowlist: Allowlist
    rules: tuple[LearnedRule, ...]
    learned: tuple[Flow, ...]
    left_out: tuple[tuple[Flow, LeftOut], ...]
    unexercised: tuple[str, ...]
    unrecorded: int = 0
