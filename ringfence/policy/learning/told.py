"""What was learned, for people and as plain values for JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ringfence.policy.analysis.changes import Comparison
from ringfence.policy.analysis.told_changes import comparison_document, told_comparison
from ringfence.policy.decision import Deny
from ringfence.policy.learning.document_text import document_lines, evidence_words
from ringfence.policy.learning.flow import Flow, caller_words
from ringfence.policy.learning.flow_file import flow_document, time_words
from ringfence.policy.learning.proposal import Evidence, Proposal
from ringfence.policy.learning.replaying import Replay
from ringfence.policy.learning.traffic import TrafficChange

_SHOWN = 20


def call_words(flow: Flow) -> str:
    """A kind of call on one line."""
    if flow.is_opaque:
        what = f"connects to port {flow.port}"
    else:
        what = (
            f"{'grpc' if flow.protocol == 'grpc' else flow.method} {flow.path or '(ambiguous path)'} port {flow.port}"
        )
    return f"{caller_words(flow.caller)} {what}, {flow.count} times"


def proposal_lines(proposal: Proposal, replay: Replay, comparison: Comparison | None = None) -> Iterator[str]:
    """What a person is to know before the proposal is taken."""
    rules = proposal.allowlist.rules
    yield f"{proposal.service}: {len(rules)} rules from {replay.calls} calls of {replay.kinds} kinds"
    for rule, told in zip(rules, proposal.rules, strict=True):
        yield f"  {told.name}: {caller_words(told.caller)}, {evidence_words(told.evidence)}"
        if rule.token is not None or rule.when or rule.headers or rule.hosts:
            yield "    goes on asking what the rule in force asks: token, condition, headers or hosts"
        for word, merged in told.merged.items():
            yield f"    {word} stands for {merged} paths that were seen"
    yield from _listed("not permitted by what is in force", [call_words(flow) for flow in replay.new])
    if comparison is not None:
        yield "  in place of the allowlists in force:"
        yield from (f"    {line}" for line in told_comparison(comparison) if line != proposal.service)
    yield from _listed("left out", [f"{call_words(flow)}: {why}" for flow, why in proposal.left_out])
    yield from _listed(
        "passes today, is left out, and WOULD BE REFUSED", [call_words(one) for one in replay.left_refused]
    )
    yield from _listed("in force and not exercised", list(proposal.unexercised))
    if proposal.unrecorded:
        yield f"  nothing is known of {proposal.unrecorded} calls more, which no flow counts"
    if replay.refused:
        refused = [f"{call_words(flow)}: {one.reason}" for flow, one in replay.refused if isinstance(one, Deny)]
        yield from _listed("replay: the proposal WOULD REFUSE", refused)
    else:
        yield f"  replay: the proposal permits all {replay.calls} calls that it was learned from"


def _listed(what: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"  {what}:"
        yield from (f"    {line}" for line in lines[:_SHOWN])
        if len(lines) > _SHOWN:
            yield f"    and {len(lines) - _SHOWN} more (--json lists all)"


def proposal_document(proposal: Proposal, replay: Replay, comparison: Comparison | None = None) -> dict[str, Any]:
    """The same for machines, with the document's text."""
    return {
        "service": proposal.service,
        "name": proposal.allowlist.full_name,
        "document": "".join(f"{line}\n" for line in document_lines(proposal)),
        "rules": [
            {
                "name": told.name,
                "caller": str(told.caller) if told.caller is not None else None,
                "ports": list(rule.ports),
                "methods": list(rule.methods),
                "paths": list(rule.paths),
                "grpc": [f"{one.service}/{one.method}" for one in rule.grpc],
                "conditions_kept": bool(rule.token is not None or rule.when or rule.headers or rule.hosts),
                "evidence": _evidence(told.evidence),
                "evidence_by_word": {word: _evidence(one) for word, one in told.words.items()},
                "paths_merged": dict(told.merged),
                "denied": told.denied,
            }
            for rule, told in zip(proposal.allowlist.rules, proposal.rules, strict=True)
        ],
        "new": [flow_document(flow) for flow in replay.new],
        "left_out": [{"flow": flow_document(flow), "why": why.value} for flow, why in proposal.left_out],
        "left_out_and_refused": [flow_document(flow) for flow in replay.left_refused],
        "diff": comparison_document(comparison) if comparison is not None else None,
        "unexercised": list(proposal.unexercised),
        "unrecorded": proposal.unrecorded,
        "replay": {
            "kinds": replay.kinds,
            "calls": replay.calls,
            "refused": [
                {"flow": flow_document(flow), "reason": str(one.reason)}
                for flow, one in replay.refused
                if isinstance(one, Deny)
            ],
        },
    }


def traffic_lines(traffic: TrafficChange) -> Iterator[str]:
    """What becomes of observed calls, for people."""
    yield f"of {traffic.judged} calls that were observed:"
    for word, flows in (("become permitted", traffic.permitted), ("become denied", traffic.denied)):
        yield f"  {sum(flow.count for flow in flows)} {word}"
        yield from (f"    {call_words(flow)}, {flow.service}" for flow in flows[:_SHOWN])
        if len(flows) > _SHOWN:
            yield f"    and {len(flows) - _SHOWN} more kinds (--json lists all)"
    if traffic.untold:
        yield f"  {traffic.untold} more cannot be judged: their paths were ambiguous"


def traffic_document(traffic: TrafficChange) -> dict[str, Any]:
    """The same for machines; of each kind of call the flow."""
    return {
        "judged": traffic.judged,
        "untold": traffic.untold,
        "permitted": sum(flow.count for flow in traffic.permitted),
        "denied": sum(flow.count for flow in traffic.denied),
        "flows_permitted": [flow_document(flow) for flow in traffic.permitted],
        "flows_denied": [flow_document(flow) for flow in traffic.denied],
    }


def _evidence(evidence: Evidence) -> dict[str, object]:
    return {
        "count": evidence.count,
        "first_seen": time_words(evidence.first_seen),
        "last_seen": time_words(evidence.last_seen),
    }
