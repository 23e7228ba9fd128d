"""Which flows policy may be learned from, and why not from the others. Pure.

Whoever may call at all decides what is in the flows, so what looks like probing is left out: what the app knows
nothing of, paths that fell apart into very many words, methods and paths that no rule could name. Nothing is left out
in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringfence.policy.analysis.world import World, WorldService
from ringfence.policy.learning.conditions import UNCONDITIONAL, Conditions, conditions_of
from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.policy.learning.settings import LearnSettings
from ringfence.policy.learning.shapes import MERGED, REST
from ringfence.policy.lists import METHODS
from ringfence.policy.model import Rule
from ringfence.policy.reasons import DenyReason
from ringfence.policy.words import is_grpc_method, is_grpc_service
from ringfence.spiffe import SpiffeId

_ASKED_MORE: Final = frozenset(
    (
        DenyReason.ADDRESS_NOT_ALLOWED,
        DenyReason.HOST_NOT_ALLOWED,
        DenyReason.HEADER_NOT_ALLOWED,
        DenyReason.TOKEN_MISSING,
        DenyReason.TOKEN_INVALID,
        DenyReason.TOKEN_INSUFFICIENT,
        DenyReason.STEP_UP_REQUIRED,
        DenyReason.CONDITION_NOT_MET,
    )
)


class LeftOut(StrEnum):
    """Why a flow is not learned from."""

    DENIED = "it was refused"
    ASKED_MORE = "a rule in force asks such calls for more than these had, and learning from them would drop that"
    NO_PORT = "the service has no such port now"
    OTHER_PROTOCOL = "the port is not read so now"
    EITHER_WAY = "a rule for it would permit every request on the port, too: declare the port tcp, or write the rule"
    RULE_GONE = "the rule that permitted it is not in force any more, so that what it asked is not known"
    NO_IDENTITY = "the caller has no identity"
    NOT_PERMISSIVE = "the caller has no identity, and the port takes none without"
    ODD_METHOD = "no rule can name the method there"
    ODD_PATH = "no path template can say the path"
    NOT_KEPT = "the tail of the path was not kept"
    MISSED = "the app knows no such thing, as where somebody probes"
    MOSTLY_MISSED = "the app mostly knows no such thing, as where somebody probes"
    MANY_ROOTS = "there are very many words at the root of the path, as where somebody probes"
    RARE = "it was seen too rarely"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sifted:
    """A flow that is learned from, with what the rule that permitted it asks."""

    flow: Flow
    conditions: Conditions = UNCONDITIONAL


def sift(
    flows: Iterable[Flow], service: WorldService, world: World, settings: LearnSettings
) -> tuple[list[Sifted], list[tuple[Flow, LeftOut]]]:
    """The flows to ``service`` to learn from, and the others, each with why."""
    rules = {
        f"{allowlist.full_name}/{rule.name}": rule
        for allowlist in service.policy.allowlists
        for rule in allowlist.rules
    }
    learned: list[Sifted] = []
    left_out: list[tuple[Flow, LeftOut]] = []
    rare = _rare(flows := list(flows), settings.min_count)
    for flow in flows:
        reason = _reason(flow, service, settings, rules)
        if reason is None and _call(flow) in rare:
            reason = LeftOut.RARE
        if reason is None:
            asked = (
                conditions_of(rules[flow.rule], flow.caller, world) if flow.verdict is Verdict.PERMIT else UNCONDITIONAL
            )
            learned.append(Sifted(flow=flow, conditions=asked))
        else:
            left_out.append((flow, reason))
    return learned, left_out


_Call = tuple[SpiffeId | None, int, str, str, str, bool]


def _call(flow: Flow) -> _Call:
    denied = flow.verdict is Verdict.DENY
    return flow.caller, flow.port, flow.protocol, flow.method, flow.path, denied


def _rare(flows: Iterable[Flow], min_count: int) -> set[_Call]:
    """Kinds of calls that were seen less often, by whatever rule they passed."""
    counts: dict[_Call, int] = {}
    for flow in flows:
        counts[_call(flow)] = counts.get(_call(flow), 0) + flow.count
    return {call for call, count in counts.items() if count < min_count}


def _reason(flow: Flow, service: WorldService, settings: LearnSettings, rules: Mapping[str, Rule]) -> LeftOut | None:
    port = service.port(flow.port)
    if flow.verdict is Verdict.DENY and (not settings.include_denied or flow.reason == DenyReason.DENYLISTED):
        return LeftOut.DENIED
    if flow.reason in _ASKED_MORE:
        return LeftOut.ASKED_MORE
    if port is None:
        return LeftOut.NO_PORT
    if port.is_http if flow.is_opaque else not port.may_be_http:
        return LeftOut.OTHER_PROTOCOL
    if flow.is_opaque and port.may_be_http:
        return LeftOut.EITHER_WAY
    if flow.verdict is Verdict.PERMIT and flow.rule not in rules:
        return LeftOut.RULE_GONE
    if flow.caller is None:
        if not port.permissive:
            return LeftOut.NOT_PERMISSIVE
        if flow.verdict is not Verdict.PERMIT and not settings.include_unauthenticated:
            return LeftOut.NO_IDENTITY
    return None if flow.is_opaque else _request_reason(flow, settings)


def _request_reason(flow: Flow, settings: LearnSettings) -> LeftOut | None:
    segments = flow.path[1:].split("/")
    if flow.method not in METHODS or (flow.protocol == "grpc" and flow.method != "POST"):
        return LeftOut.ODD_METHOD
    if not flow.path or "*" in flow.path:
        return LeftOut.ODD_PATH
    if flow.missed >= flow.count:
        return LeftOut.MISSED
    if MERGED in segments and 2 * flow.missed >= flow.count:
        return LeftOut.MOSTLY_MISSED
    if segments[0] == MERGED and not settings.allow_rest:
        return LeftOut.MANY_ROOTS
    if segments[-1] == REST and not settings.allow_rest:
        return LeftOut.NOT_KEPT
    named = flow.grpc_method
    if flow.protocol == "grpc" and (named is None or not (is_grpc_service(named[0]) and is_grpc_method(named[1]))):
        return LeftOut.ODD_PATH
    return None
