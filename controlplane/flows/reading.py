"""Flow reports of a sidecar, checked. Pure.

A sidecar speaks of its own service alone, so the service is never its word. What cannot be is left out and counted:
evidence is worth no stream, and the stream carries policy.
"""

from __future__ import annotations

from typing import Final

from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.policy.learning.flow_checks import COUNT_MAXIMUM, fault_of
from ringfence.spiffe import SpiffeId, SpiffeIdError
from ringfence.wire.gen import control_pb2

LATE_SECONDS: Final = 86_400.0
"""A report may be so late, after the control plane was away; older times are taken for this."""


def flows_of(report: control_pb2.FlowReport, *, service: str, now: float) -> tuple[list[Flow], int]:
    """The flows to ``service`` that a report tells of, and how many calls it leaves untold."""
    found: list[Flow] = []
    untold = report.unrecorded
    for told in report.flows:
        flow = _flow(told, service, now)
        if flow is None:
            untold += told.count
        else:
            found.append(flow)
    return found, min(untold, COUNT_MAXIMUM)


def _flow(told: control_pb2.Flow, service: str, now: float) -> Flow | None:
    try:
        caller = SpiffeId.parse(told.caller) if told.caller else None
        verdict = Verdict(told.verdict)
    except (SpiffeIdError, ValueError):
        return None
    # Its clock may be wrong, and evidence from the future would outlive all other.
    earliest = now - LATE_SECONDS
    last_seen = min(max(told.last_seen, earliest), now) if told.last_seen == told.last_seen else now
    first_seen = min(max(told.first_seen, earliest), last_seen) if told.first_seen == told.first_seen else last_seen
    flow = Flow(
        address=told.address,
        caller=caller,
        service=service,
        port=told.port,
        protocol=told.protocol,
        method=told.method,
        path=told.path,
        verdict=verdict,
        rule=told.rule,
        reason=told.reason,
        shadow=told.shadow,
        count=told.count,
        missed=told.missed,
        first_seen=first_seen,
        last_seen=last_seen,
    )
    return flow if fault_of(flow) is None else None
