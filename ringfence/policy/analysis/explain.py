"""Why a call is permitted or denied, with all that its asker may want to know next. Pure; ``explained`` tells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ringfence.policy.analysis.calls import Call, Judge, compile_for, decide
from ringfence.policy.analysis.differing import NearRule, as_carried
from ringfence.policy.analysis.matching import Matcher
from ringfence.policy.analysis.nearest import nearest_rules
from ringfence.policy.analysis.world import Effect, NamedRule, World, rules_of
from ringfence.policy.decision import Decision, Permit
from ringfence.policy.model import NarrowedCallers, PolicySet
from ringfence.policy.problems import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRule:
    """A rule and where it stands, None where the world does not know."""

    named: NamedRule
    place: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """What the shadow policy would have said; ``rule`` is the one that permits or refuses."""

    decision: Decision
    rule: PlacedRule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """``rule``: the one that permits; ``denying``: every rule of a denylist that speaks of the call, and ``otherwise``
    the verdict without them; ``nearest``: allow rules that do not, told where nothing but they would help."""

    call: Call
    decision: Decision
    rule: PlacedRule | None
    denying: tuple[PlacedRule, ...]
    otherwise: Decision | None
    nearest: tuple[NearRule, ...]
    observed_until: float | None
    shadow: Shadow | None
    notes: tuple[str, ...]


def explain(world: World, call: Call) -> Explanation:
    """Explain the verdict on ``call``. Raises UnknownServiceError."""
    judge = Judge(world)
    decision = judge.judge(call)
    service = world.service(call.service)
    if service is None:
        raise AssertionError("a service that judges is in the world")
    matcher = Matcher(world, service)
    rules = rules_of(service.policy)
    denying = [one for one in rules if one.effect is Effect.DENY and matcher.matches(one, call)]
    otherwise = None
    if denying:
        without = replace(service.policy, denylists=())
        otherwise = decide(compile_for(service, without, world.trust_domain), service, call)
    permitting = [one for one in rules if one.effect is Effect.ALLOW]
    told = decision if otherwise is None else otherwise
    unruled = not isinstance(told, Permit) or told.would_deny is not None
    until = service.policy.observe_until
    return Explanation(
        call=as_carried(matcher, call),
        decision=decision,
        rule=_placed(world, rules, decision),
        denying=tuple(PlacedRule(named=one, place=world.place(one)) for one in denying),
        otherwise=otherwise,
        nearest=nearest_rules(matcher, permitting, call) if unruled else (),
        observed_until=until if until is not None and until > call.time else None,
        shadow=_shadow(world, judge, call),
        notes=(*_notes(matcher, call), *(_partly(matcher, call) if isinstance(decision, Permit) else ())),
    )


def _shadow(world: World, judge: Judge, call: Call) -> Shadow | None:
    decision = judge.shadow(call)
    service = world.service(call.service)
    if decision is None or service is None or service.shadow is None:
        return None
    return Shadow(decision=decision, rule=_placed(world, rules_of(service.shadow), decision))


def _placed(world: World, rules: tuple[NamedRule, ...], decision: Decision) -> PlacedRule | None:
    """The rule that a decision goes by: the one that permits."""
    if not isinstance(decision, Permit) or decision.would_deny is not None:
        return None
    wanted = decision.rule_name
    found = next((one for one in rules if one.effect is Effect.ALLOW and one.full_name == wanted), None)
    return PlacedRule(named=found, place=world.place(found)) if found is not None else None


def _partly(matcher: Matcher, call: Call) -> Iterator[str]:
    """Of a call that is permitted: which workloads of the service refuse it all the same."""
    for one in matcher.service.partly:
        rules = () if one.shadow else rules_of(PolicySet(denylists=(one.listed,)))
        refusing = next((rule for rule in rules if matcher.matches(rule, call)), None)
        if refusing is not None:
            labels = ", ".join(f"{name}: {value}" for name, value in one.labels)
            yield (
                f"not at each of its workloads: those with the labels {{{labels}}} refuse it by rule"
                f" {refusing.rule.name} of denylist {one.listed.full_name}"
            )


def _notes(matcher: Matcher, call: Call) -> list[str]:
    notes = []
    service, port = matcher.service, matcher.service.port(call.port)
    if port is None:
        known = ", ".join(str(one.port) for one in service.ports) or "none"
        notes.append(f"{service.full_name} has no port {call.port}: its ports are {known}")
    elif as_carried(matcher, call) != call:
        notes.append(f"port {call.port} carries opaque TCP: method, path, headers and token are not looked at")
    if port is not None and call.caller is None and not port.permissive:
        notes.append(f"port {call.port} is strict: only mutual TLS comes to it")
    narrowed = any(isinstance(one, NarrowedCallers) for rule in rules_of(service.policy) for one in rule.rule.callers)
    if narrowed and not call.address:
        notes.append("the caller's address is not known: allow rules for networks leave it out, deny rules take it in")
    observed = service.policy.observe_until is not None and service.policy.observe_until > call.time
    if not service.policy.allowlists and not observed:
        notes.append(f"no allowlist protects {service.full_name}, so that nobody may call it")
    own = call.caller is not None and call.caller.trust_domain == matcher.world.trust_domain
    if call.caller is not None and own and matcher.world.service_of(call.caller) is None:
        notes.append(f"no service of the mesh bears {call.caller}")
    return notes
