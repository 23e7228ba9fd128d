"""An explanation as text for a person and as a JSON object for a program. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.differing import Difference, NearRule
from ringfence.policy.analysis.explain import Explanation, PlacedRule, Shadow
from ringfence.policy.analysis.moments import format_moment
from ringfence.policy.analysis.spelled import spelled_identity
from ringfence.policy.analysis.world import NamedRule, World
from ringfence.policy.decision import Decision, Permit
from ringfence.policy.facts import TokenRefused, VerifiedToken
from ringfence.policy.problems import Place
from ringfence.policy.reasons import DenyReason


def told(explanation: Explanation, world: World) -> list[str]:
    """The lines for a person."""
    lines = [f"{_verdict(explanation.decision)}: {_spelled_call(explanation.call)}"]
    lines += [f"  {line}" for line in _because(explanation)]
    lines += _denylists(explanation)
    lines += _nearest(explanation, world)
    if explanation.shadow is not None:
        lines.append(f"shadow: {_shadow(explanation.shadow)}")
    lines += [f"note: {note}" for note in explanation.notes]
    return [printable(line) for line in lines]


def printable(line: str) -> str:
    """``line`` as one that a terminal only shows: names and paths may hold anything."""
    return line if line.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


def _verdict(decision: Decision) -> str:
    if not isinstance(decision, Permit):
        return "denied"
    return "permitted" if decision.would_deny is None else "permitted, as the service is only observed"


def _because(explanation: Explanation) -> Iterator[str]:
    decision = explanation.decision
    if not isinstance(decision, Permit):
        yield f"reason: {_spelled_reason(decision.reason)}"
    elif decision.would_deny is not None:
        yield f"would be denied: {_spelled_reason(decision.would_deny)}"
    else:
        yield f"by rule {_spelled_rule(explanation.rule) if explanation.rule else decision.rule_name}"
    if explanation.observed_until is not None:
        yield f"observed until {format_moment(explanation.observed_until)}: until then no missing rule denies"


def _denylists(explanation: Explanation) -> Iterator[str]:
    if explanation.denying:
        yield "denylist rules that speak of it:"
        yield from (f"  {_spelled_rule(rule)}" for rule in explanation.denying)
    if explanation.otherwise is not None:
        decision = explanation.otherwise
        reason = f" by rule {decision.rule_name}" if isinstance(decision, Permit) and decision.rule else ""
        if not isinstance(decision, Permit):
            reason = f": {decision.reason}"
        yield f"without them: {_verdict(decision)}{reason}"


def _nearest(explanation: Explanation, world: World) -> Iterator[str]:
    if explanation.nearest:
        yield "nearest rules, and what would have to differ:"
    for near in explanation.nearest:
        yield f"  {_spelled_rule(PlacedRule(named=near.named, place=world.place(near.named)))}"
        for difference in near.differences:
            yield f"    {_spelled_difference(difference)}"


def _spelled_difference(difference: Difference) -> str:
    what = f"{difference.dimension} {difference.name}".rstrip().replace("_", " ")
    return f"{what}: is {difference.has}; the rule takes {' or '.join(difference.wants)}"


def _shadow(shadow: Shadow) -> str:
    decision = shadow.decision
    if shadow.rule is not None:
        return f"{_verdict(decision)} by rule {_spelled_rule(shadow.rule)}"
    reason = decision.would_deny if isinstance(decision, Permit) else decision.reason
    return f"{_verdict(decision)}: {reason}"


def _spelled_call(call: Call) -> str:
    who = spelled_identity(call.caller) + (f" at {call.address}" if call.address else "")
    what = "connect to" if call.opaque else f"{call.method} {call.path} on"
    host = f" (host {call.host})" if call.host else ""
    return f"{who} → {what} {call.service} port {call.port}{host}"


def _spelled_rule(rule: PlacedRule) -> str:
    return rule.named.full_name + (f" ({rule.place})" if rule.place is not None else "")


def _spelled_reason(reason: DenyReason) -> str:
    return f"{reason} – {reason.summary}"


def explanation_document(explanation: Explanation, world: World) -> dict[str, object]:
    """The JSON object; absent things are null or empty, keys never come and go."""
    shadow = explanation.shadow
    return {
        "call": call_document(explanation.call),
        **decision_document(explanation.decision),
        "place": place_document(explanation.rule.place if explanation.rule is not None else None),
        "denying": [rule_document(rule.named, rule.place) for rule in explanation.denying],
        "otherwise": decision_document(explanation.otherwise) if explanation.otherwise is not None else None,
        "nearest": [_near(near, world) for near in explanation.nearest],
        "observed_until": format_moment(explanation.observed_until) if explanation.observed_until else None,
        "shadow": decision_document(shadow.decision) if shadow is not None else None,
        "notes": list(explanation.notes),
    }


def decision_document(decision: Decision) -> dict[str, object]:
    """A decision's parts: ``verdict`` permit or deny, ``rule`` that permits, ``nearest_rule`` that came closest."""
    if isinstance(decision, Permit):
        named = decision.rule_name if decision.would_deny is None else None
        nearest = decision.nearest
        return {
            "verdict": "permit",
            "rule": named,
            "reason": None,
            "would_deny": decision.would_deny,
            "nearest_rule": nearest,
        }
    return {
        "verdict": "deny",
        "rule": None,
        "reason": decision.reason,
        "would_deny": None,
        "nearest_rule": decision.nearest,
    }


def call_document(call: Call) -> dict[str, object]:
    """A call's parts; of an opaque one what only requests have is null."""
    http = not call.opaque
    return {
        "from": str(call.caller) if call.caller is not None else None,
        "to": call.service,
        "port": call.port,
        "address": call.address or None,
        "time": format_moment(call.time),
        "opaque": call.opaque,
        "method": call.method if http else None,
        "path": call.path if http else None,
        "host": call.host or None if http else None,
        "headers": [list(header) for header in call.headers] if http else [],
        "token": _token(call) if http else None,
    }


def _token(call: Call) -> object:
    if isinstance(call.token, VerifiedToken):
        return {"issuer": call.token.issuer, "claims": dict(call.token.claims)}
    return {"refused": call.token.detail} if isinstance(call.token, TokenRefused) else None


def rule_document(named: NamedRule, place: Place | None) -> dict[str, object]:
    """A rule's name and place."""
    return {"rule": named.full_name, "effect": named.effect, "place": place_document(place)}


def _near(near: NearRule, world: World) -> dict[str, object]:
    return {
        **rule_document(near.named, world.place(near.named)),
        "differences": [
            {"dimension": one.dimension, "name": one.name or None, "has": one.has, "wants": list(one.wants)}
            for one in near.differences
        ],
        "mended": call_document(near.mended) if near.mended is not None else None,
    }


def place_document(place: Place | None) -> dict[str, object] | None:
    return {"file": place.file, "line": place.line, "column": place.column} if place is not None else None
