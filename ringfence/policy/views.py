"""The policy as one caller meets it: what a connection's relays hold and ask. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from ringfence.policy.addresses import Address
from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.facts import NO_FACTS, Facts
from ringfence.policy.guards import Asked
from ringfence.policy.paths import judged_path
from ringfence.policy.reasons import DenyReason
from ringfence.policy.verdicts import AMBIGUOUS, Open, Verdicts
from ringfence.spiffe import SpiffeId

UNAUTHENTICATED: Final = Deny(DenyReason.UNAUTHENTICATED)
# Under observation, too: what the app would read otherwise, and what a denylist says.
_ALWAYS: Final = frozenset((DenyReason.PATH_AMBIGUOUS, DenyReason.DENYLISTED))


class CallerView:
    """The policy as one caller meets it; this base class is the view of a caller whom no rule names.

    A stranger's decisions are not remembered: they are cheap, and strangers must not fill the memory.
    """

    __slots__ = ("_denial",)

    reads_facts: ClassVar[bool] = False
    """Whether any decision may depend on facts; where not, ``NO_FACTS`` will do."""

    def __init__(self, denial: Deny) -> None:
        self._denial = denial

    def connection(self, port: int, facts: Facts = NO_FACTS) -> Decision:
        """Judge a connection of opaque TCP to ``port`` of the workload."""
        return self._denial

    def request(self, port: int, method: bytes, target: bytes, facts: Facts = NO_FACTS) -> Decision:
        """Judge an HTTP request: ``method`` as sent, ``target`` in origin form as sent, query and all."""
        if self._denial is UNAUTHENTICATED:
            return self._denial
        judged = judged_path(target)
        return AMBIGUOUS if judged is None or (judged == b"*" and method != b"OPTIONS") else self._denial

    def may_send(self, port: int) -> bool:
        """Whether a connection to ``port`` may come to carry anything that is permitted; asked before it is read."""
        return False


class KnownCaller(CallerView):
    """The view of a caller whose rules ask for no facts; callers with the same rules share one."""

    __slots__ = ("_remembered", "_verdicts")

    def __init__(self, verdicts: Verdicts) -> None:
        super().__init__(verdicts.denial)
        self._verdicts = verdicts
        self._remembered = verdicts.remembered

    def connection(self, port: int, facts: Facts = NO_FACTS) -> Decision:
        return self._verdicts.connection(port, None)

    def request(self, port: int, method: bytes, target: bytes, facts: Facts = NO_FACTS) -> Decision:
        cut = target.find(b"?")
        path = target if cut < 0 else target[:cut]
        try:
            return self._remembered[port][method][path]  # type: ignore[no-any-return]
        except KeyError:
            return self._verdicts.judge(port, method, path, target)  # type: ignore[no-any-return]

    def may_send(self, port: int) -> bool:
        return self._verdicts.may_send(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What all callers of one workload share: ``destination``, by the names that conditions give it; until when the
    workload is only observed; who is told of conditions that failed, by the names of their rules."""

    destination: Mapping[str, object]
    http_ports: frozenset[int]
    maybe_http_ports: frozenset[int]
    observe_until: float | None
    condition_failed: Callable[[str], None]


class FactView(CallerView):
    """The view of a caller whose verdicts depend on facts: guards of rules, or the end of observation."""

    __slots__ = ("_known", "_scope", "_verdicts", "_would_deny")

    reads_facts: ClassVar[bool] = True

    def __init__(self, verdicts: Verdicts, scope: Scope, source: Mapping[str, object]) -> None:
        """``source``: what conditions may read of the caller."""
        super().__init__(verdicts.denial)
        self._verdicts = verdicts
        self._scope = scope
        self._known = {**scope.destination, **source}
        self._would_deny: dict[Deny, Permit] = {}

    def connection(self, port: int, facts: Facts = NO_FACTS) -> Decision:
        observed = self._is_observed(facts)
        if self._denial is UNAUTHENTICATED and not observed:
            return UNAUTHENTICATED
        asked = Asked(facts, self._known, self._scope.condition_failed, port, None)
        unread = self._verdicts.unread(port) if observed else None
        if unread is not None:
            # Nobody could say of these bytes what rule would refuse them, nor would a denylist hold.
            return self._verdicts.refusal(port, asked) or unread
        decision = self._verdicts.connection(port, asked)
        return self._passed(decision) if observed and isinstance(decision, Deny) else decision

    def request(self, port: int, method: bytes, target: bytes, facts: Facts = NO_FACTS) -> Decision:
        verdicts = self._verdicts
        cut = target.find(b"?")
        path = target if cut < 0 else target[:cut]
        if self._denial is UNAUTHENTICATED and not self._is_observed(facts):
            return UNAUTHENTICATED
        try:
            answer = verdicts.remembered[port][method][path]
        except KeyError:
            answer = verdicts.judge(port, method, path, target)
        if answer.__class__ is Open:
            asked = Asked(facts, self._known, self._scope.condition_failed, port, (method, answer.path))
            answer = answer.decide(asked)
        if answer.__class__ is Deny and self._is_observed(facts):
            return self._passed(answer)
        return answer  # type: ignore[no-any-return]

    def may_send(self, port: int) -> bool:
        return self._scope.observe_until is not None or self._verdicts.may_send(port)

    def _is_observed(self, facts: Facts) -> bool:
        until = self._scope.observe_until
        return until is not None and 0 < facts.now < until

    def _passed(self, denial: Deny) -> Decision:
        """What observation makes of a refusal."""
        if denial.reason in _ALWAYS:
            return denial
        permit = self._would_deny.get(denial)
        if permit is None:
            permit = self._would_deny[denial] = Permit("", "", would_deny=denial.reason, nearest=denial.nearest)
        return permit


def source_of(spiffe_id: SpiffeId | None, address: Address | None) -> dict[str, object]:
    """What conditions may read of a caller; an address that is not known is left out."""
    segments = spiffe_id.segments if spiffe_id is not None else ()
    workload = len(segments) == 4 and segments[0] == "ns" and segments[2] == "sa"
    source: dict[str, object] = {
        "source.spiffe_id": str(spiffe_id) if spiffe_id is not None else "",
        "source.trust_domain": spiffe_id.trust_domain.name if spiffe_id is not None else "",
        "source.namespace": segments[1] if workload else "",
        "source.service_account": segments[3] if workload else "",
        "source.authenticated": spiffe_id is not None,
    }
    if address is not None:
        source["source.address"] = str(address)
    return source
