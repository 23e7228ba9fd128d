"""Which rules speak of a call, and which parts of one do: each asked of the engine itself, so never of another opinion.

A part of a rule is asked as a rule that has only that part, and is otherwise open. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ringfence.policy.analysis.calls import Call, compile_for, decide
from ringfence.policy.analysis.world import Effect, NamedRule, World, WorldPort, WorldService
from ringfence.policy.decide import DecisionTable
from ringfence.policy.decision import Deny
from ringfence.policy.model import (
    Allowlist,
    AuthenticatedCallers,
    Denylist,
    PolicySet,
    Rule,
    UnauthenticatedCallers,
)
from ringfence.policy.reasons import DenyReason

OPEN: Final = Rule(name="part", callers=(AuthenticatedCallers(), UnauthenticatedCallers()))
"""Takes every call; to be given the one part that is asked for."""

_LIMIT_TABLES: Final = 1_000


class Matcher:
    """Asks about calls to one service; a part that several rules share is compiled once."""

    def __init__(self, world: World, service: WorldService) -> None:
        self.world = world
        self.service = service
        # Any port takes a part, so that only the part decides.
        self._open = replace(service, ports=(), policy=PolicySet(), shadow=None)
        self._parts: dict[Rule, DecisionTable] = {}
        self._whole: dict[tuple[Effect, Rule], DecisionTable] = {}

    def matches(self, named: NamedRule, call: Call) -> bool:
        """Whether the whole rule speaks of ``call``, as if it were the only one."""
        key = named.effect, named.rule
        table = self._whole.get(key)
        if table is None:
            if len(self._whole) >= _LIMIT_TABLES:
                self._whole.clear()
            table = self._whole[key] = compile_for(self.service, _alone(named), self.world.trust_domain)
        decision = decide(table, self.service, call)
        if named.effect is Effect.ALLOW:
            return decision.permitted
        return isinstance(decision, Deny) and decision.reason is DenyReason.DENYLISTED

    def takes(self, part: Rule, call: Call) -> bool:
        """Whether a rule that has only ``part`` would permit ``call``, whatever its port is."""
        table = self._parts.get(part)
        if table is None:
            if len(self._parts) >= _LIMIT_TABLES:
                self._parts.clear()
            policy = PolicySet(allowlists=(Allowlist(namespace="part", name="part", rules=(part,)),))
            table = self._parts[part] = compile_for(self._open, policy, self.world.trust_domain)
        port = WorldPort(port=call.port, protocol="auto", permissive=True)
        return decide(table, replace(self._open, ports=(port,)), call).permitted


def _alone(named: NamedRule) -> PolicySet:
    namespace, _, name = named.policy.partition("/")
    if named.effect is Effect.ALLOW:
        return PolicySet(allowlists=(Allowlist(namespace=namespace, name=name, rules=(named.rule,)),))
    return PolicySet(denylists=(Denylist(namespace=namespace, name=name, rules=(named.rule,)),))
