"""Why a call was refused, told to the operator of the mesh: the rule that came nearest, what differed, the mend. Pure.

Made of a noted call (``sidecar.noted_calls``) and of the snapshot in force when it is asked; only the admin socket
tells it, for it speaks of the policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ringfence.policy.analysis.spelled import spelled_callers, spelled_grpc, spelled_header
from ringfence.policy.model import Allowlist, Denylist, Rule, TokenMatch
from ringfence.policy.reasons import DenyReason, ReasonKind
from ringfence.snapshot import Snapshot
from sidecar.refusal import known_reason

# reason: the part of a rule that decides it, the call's own word for it, and what mends it where the rule is meant.
_PARTS: Final[Mapping[DenyReason, tuple[str, str, str]]] = {
    DenyReason.CALLER_NOT_ALLOWED: ("from", "caller", "name the caller in 'from' of the rule"),
    DenyReason.ADDRESS_NOT_ALLOWED: ("from", "address", "add the caller's network to 'cidrs' of the rule"),
    DenyReason.PORT_NOT_ALLOWED: ("ports", "port", "add the port to 'ports' of the rule"),
    DenyReason.PATH_NOT_ALLOWED: ("paths", "path", "add the path, or a template of it, to 'paths' of the rule"),
    DenyReason.METHOD_NOT_ALLOWED: ("methods", "method", "add the method to 'methods' of the rule"),
    DenyReason.HOST_NOT_ALLOWED: ("hosts", "host", "add the host to 'hosts' of the rule, or ask for one that is there"),
    DenyReason.HEADER_NOT_ALLOWED: ("headers", "", "send the headers that the rule names, and none like x_a for x-a"),
    DenyReason.TOKEN_MISSING: ("token", "", "send a token of an issuer that the rule believes"),
    DenyReason.TOKEN_INVALID: ("token", "", "send a token that has not ended, for this audience, signed by the issuer"),
    DenyReason.TOKEN_INSUFFICIENT: ("token", "", "ask the issuer for a token with the scopes and claims of the rule"),
    DenyReason.STEP_UP_REQUIRED: ("token", "", "have the user prove who they are as the rule asks, and come again"),
    DenyReason.CONDITION_NOT_MET: ("when", "", "look at the condition of the rule: with this call it was false"),
}
_MENDS: Final[Mapping[DenyReason, str]] = {
    DenyReason.UNAUTHENTICATED: "give the caller a sidecar or an SVID, or permit 'unauthenticated' callers by a rule",
    DenyReason.PATH_AMBIGUOUS: "send the path without dot segments, '//' and escapes of what needs none",
    DenyReason.DENYLISTED: "only a change of the denylist mends it: no allowlist can",
    DenyReason.NOT_HTTP: "speak HTTP, or permit the caller by a rule without HTTP words",
    DenyReason.RATE_LIMITED: "call less often, or raise the limit of the port",
    DenyReason.EGRESS_NOT_ALLOWED: "permit the destination by an egress rule of the mesh",
}


def why_document(call: dict[str, Any], snapshot: Snapshot | None) -> dict[str, Any]:
    """``call`` (``NotedCall.document``) with ``summary``, ``nearest_rule`` (None if it is not in force any more, or was
    none), ``differs`` and ``mend``."""
    word = call["reason"] or call["shadow_reason"]
    by_shadow = not call["reason"]
    reason = known_reason(word)
    rule = _rule(call["shadow_rule"] if by_shadow else call["rule"], snapshot, by_shadow)
    return {
        **call,
        "summary": reason.summary if reason is not None else "",
        "nearest_rule": {"name": call["shadow_rule"] if by_shadow else call["rule"], **rule_words(rule)}
        if rule is not None
        else None,
        "differs": _differs(call, reason, rule),
        "mend": _mend(reason, rule),
    }


def _rule(full_name: str, snapshot: Snapshot | None, by_shadow: bool) -> Rule | None:
    if snapshot is None or not full_name:
        return None
    policy = snapshot.shadow if by_shadow else snapshot.policy
    if policy is None:
        return None
    lists: tuple[Allowlist | Denylist, ...] = (*policy.allowlists, *policy.denylists)
    named = (rule for one in lists for rule in one.rules if full_name == f"{one.full_name}/{rule.name}")
    return next(named, None)


def rule_words(rule: Rule) -> dict[str, Any]:
    """What a rule asks for, word by word; what it leaves open is not there."""
    words: dict[str, Any] = {
        "from": [spelled_callers(callers) for callers in rule.callers],
        "ports": list(rule.ports),
        "methods": list(rule.methods),
        "paths": list(rule.paths),
        "grpc": [spelled_grpc(method) for method in rule.grpc],
        "hosts": list(rule.hosts),
        "headers": [f"{header.name}: {spelled_header(header)}" for header in rule.headers],
        "token": list(_token_words(rule.token)) if rule.token is not None else [],
        "when": rule.when,
    }
    return {name: value for name, value in words.items() if value}


def _token_words(token: TokenMatch) -> Iterator[str]:
    yield f"issuer {' or '.join(token.issuers)}" if token.issuers else "any issuer that the service believes"
    if token.scopes:
        yield f"scopes {' '.join(token.scopes)}"
    for name, values in token.claims:
        yield f"{name} {' or '.join(values)}"
    if token.acr:
        yield f"acr {' or '.join(token.acr)}"
    if token.amr:
        yield f"amr {' '.join(token.amr)}"
    if token.max_age_seconds is not None:
        yield f"authenticated at most {token.max_age_seconds} s ago"


def _differs(call: Mapping[str, Any], reason: DenyReason | None, rule: Rule | None) -> str:
    part, own, _ = _PARTS.get(reason, ("", "", "")) if reason is not None else ("", "", "")
    if rule is None or not part:
        return ""
    words = rule_words(rule)
    if part not in words and part in ("paths", "methods") and "grpc" in words:
        part = "grpc"
    wanted = words.get(part)
    if not wanted:
        return ""
    asked = wanted if isinstance(wanted, str) else ", ".join(str(one) for one in wanted)
    had = f"the call's {own} is {call[own] or 'none'}; " if own else ""
    return f"{had}'{part}' of the rule has {asked}"


def _mend(reason: DenyReason | None, rule: Rule | None) -> str:
    if reason is None:
        return ""
    if reason in _PARTS:
        mend = _PARTS[reason][2]
        return mend if rule is not None else f"write a rule that permits the call ({reason.summary})"
    if reason in _MENDS:
        return _MENDS[reason]
    return "" if reason.kind is ReasonKind.POLICY else "no policy refused it: look at the sidecar's log under this id"


def why_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The document as text for people, none of it raw from a peer (the caller of this escapes it)."""
    outcome = {"denied": "denied", "would_deny": "passed, observed", "shadow": "shadow disagrees"}
    yield f"call      {told['request_id']}  {outcome.get(told['outcome'], told['outcome'])}"
    yield f"from      {told['caller'] or 'unauthenticated'}" + (f"  {told['address']}" if told["address"] else "")
    what = f"{told['method']} {told['path']}".strip()
    yield f"to        {told['service']}:{told['port']} ({told['protocol']})" + (f"  {what}" if what else "")
    if told["destination"]:
        yield f"leads to  {told['destination']}"
    if told["host"]:
        yield f"host      {told['host']}"
    if told["outcome"] == "shadow":
        yield f"in force  {_verdict(told['permitted'], told['reason'], told['rule'])}"
        yield f"shadow    {_verdict(bool(told['shadow_permits']), told['shadow_reason'], told['shadow_rule'])}"
    word = told["reason"] or told["shadow_reason"]
    if word:
        yield f"reason    {word}" + (f": {told['summary']}" if told["summary"] else "")
    if told["detail"]:
        yield f"detail    {told['detail']}"
    if told["origin"]:
        yield f"told by   {told['origin']}"
    nearest = told["nearest_rule"]
    if nearest is not None:
        yield f"nearest   {nearest['name']}"
    elif told["rule"] and told["outcome"] != "shadow":
        yield f"nearest   {told['rule']} (not in force any more)"
    if told["differs"]:
        yield f"differs   {told['differs']}"
    if told["mend"]:
        yield f"mend      {told['mend']}"


def _verdict(permitted: bool, reason: str, rule: str) -> str:
    words = "permit" if permitted else "deny"
    return " ".join(filter(None, (words, f"({reason})" if reason else "", rule)))
