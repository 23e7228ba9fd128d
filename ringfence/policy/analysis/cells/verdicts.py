"""The engine's verdicts on the calls of one service, under an assumption of what each condition comes to. Pure.

Conditions are settled before the engine is asked: in a rule, one that is true is taken out, and for one that is false
stands just that. So the verdict is of the engine that sidecars enforce with, and no condition has to be solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from ringfence.policy.analysis.calls import Call, compile_for, decide
from ringfence.policy.analysis.cells.dimensions import Side, reads_requests
from ringfence.policy.analysis.world import rules_of
from ringfence.policy.decide import DecisionTable
from ringfence.policy.decision import Decision, Deny
from ringfence.policy.facts import VerifiedToken
from ringfence.policy.model import PolicySet, Rule
from ringfence.policy.reasons import DenyReason

LIMIT_TABLES: Final = 256
_FALSE: Final = "false"
_NO_SERVICE: Final = Deny(DenyReason.NOT_OWN_ADDRESS)


class Kind(Enum):
    """``UNREAD``: bytes that nobody reads, on a port where they may be a request; ``OPAQUE``: elsewhere."""

    REQUEST = auto()
    UNREAD = auto()
    OPAQUE = auto()


class Verdicts:
    """Asks the engine; one table for each side and each set of conditions that are true."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self._sides = sides
        self._tables: dict[tuple[int, frozenset[str], Kind], DecisionTable] = {}
        self._conditions = [frozenset(_conditions(side.policy)) for side in sides]

    def decide(self, call: Call, true: frozenset[str]) -> tuple[Decision, ...]:
        """The verdict of each side where just the conditions ``true`` are."""
        return tuple(self._decide(at, call, true) for at in range(len(self._sides)))

    def _decide(self, at: int, call: Call, true: frozenset[str]) -> Decision:
        side = self._sides[at]
        if side.service is None or not side.service.has_sidecar:
            return _NO_SERVICE
        true &= self._conditions[at]
        port = side.service.port(call.port)
        kind = (
            Kind.REQUEST if not call.opaque else Kind.UNREAD if port is not None and port.may_be_http else Kind.OPAQUE
        )
        key = at, true, kind
        table = self._tables.get(key)
        if table is None:
            if len(self._tables) >= LIMIT_TABLES:
                self._tables.clear()
            policy = settled(side.policy, true, kind) if self._conditions[at] else side.policy
            table = self._tables[key] = compile_for(side.service, policy, side.trust_domain)
        if isinstance(call.token, VerifiedToken) and call.token.issuer not in side.issuers:
            call = replace(call, token=None)
        return decide(table, side.service, call)


def settled(policy: PolicySet, true: frozenset[str], kind: Kind) -> PolicySet:
    """The policy as it is for calls of a kind where just the conditions ``true`` are."""

    def allowing(rule: Rule) -> Rule:
        # One that permits and reads requests never speaks of opaque TCP; one that refuses sees them empty there.
        return rule if kind is not Kind.REQUEST and reads_requests(rule.when) else _settled(rule, true)

    def denying(rule: Rule) -> Rule:
        # Unread bytes may yet be the request that it refuses, so it refuses all of them.
        return replace(rule, when="") if kind is Kind.UNREAD and reads_requests(rule.when) else _settled(rule, true)

    return replace(
        policy,
        allowlists=tuple(replace(one, rules=tuple(map(allowing, one.rules))) for one in policy.allowlists),
        denylists=tuple(replace(one, rules=tuple(map(denying, one.rules))) for one in policy.denylists),
    )


def _settled(rule: Rule, true: frozenset[str]) -> Rule:
    if not rule.when:
        return rule
    return replace(rule, when="" if rule.when in true else _FALSE)


def _conditions(policy: PolicySet) -> set[str]:
    return {named.rule.when for named in rules_of(policy) if named.rule.when}
