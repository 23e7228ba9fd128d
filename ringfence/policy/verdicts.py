"""What the rules that name one caller say of its calls, and what they said before. Pure.

A call that facts cannot change is a decision, which is remembered. For others what is remembered is what is left to be
asked: the guards of the few rules at the place of the call (``Open``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ringfence.policy.decision import Decision, Deny, StepUp
from ringfence.policy.guards import Asked
from ringfence.policy.memory import Memory, Remembered
from ringfence.policy.paths import judged_path, other_reading
from ringfence.policy.reasons import DenyReason
from ringfence.policy.tables import Candidates, CompiledRule, PortTable, RuleTables, rule_name

if TYPE_CHECKING:
    from ringfence.policy.views import CallerView, Scope

AMBIGUOUS: Final = Deny(DenyReason.PATH_AMBIGUOUS)
_ORDER: Final = {reason: number for number, reason in enumerate(DenyReason)}


class Open:
    """What is left of one call's judgement when facts decide: ``path`` as judged, deny rules, allow rules, and the
    decision without either."""

    __slots__ = ("_candidates", "_denying", "_otherwise", "path")

    def __init__(
        self,
        path: bytes,
        denying: tuple[Candidates, ...],
        candidates: tuple[Candidates, ...],
        otherwise: Decision | None,
    ) -> None:
        """``otherwise`` is None where ``candidates`` has any."""
        self.path = path
        self._denying = denying
        self._candidates = candidates
        self._otherwise = otherwise

    @property
    def held_bytes(self) -> int:
        """What it holds that no other has, about."""
        return 300 + len(self.path)

    def decide(self, asked: Asked) -> Decision:
        host = asked.facts.host
        plain_host = host.rstrip(b".")
        for index in self._denying:
            # A request without a host may reach whichever one the app takes for its own.
            for rule in index.find(plain_host) if plain_host else index.rules:
                assert rule.guard is not None
                if rule.guard.speaks(asked):
                    return rule.answer
        if self._otherwise is not None:
            return self._otherwise
        furthest: tuple[DenyReason, CompiledRule] | None = None
        for index in self._candidates:
            for rule in index.find(host):
                assert rule.guard is not None
                reason = rule.guard.lacks(asked)
                if reason is None:
                    return rule.answer
                if furthest is None or _ORDER[reason] > _ORDER[furthest[0]]:
                    furthest = reason, rule
        if furthest is None:
            return Deny(DenyReason.HOST_NOT_ALLOWED, rule_name(self._candidates[0].rules[0].answer))
        return _denied(*furthest)


def _denied(reason: DenyReason, rule: CompiledRule) -> Deny:
    step_up = None
    if reason is DenyReason.STEP_UP_REQUIRED:
        assert rule.guard is not None
        assert rule.guard.token is not None
        step_up = StepUp(rule.guard.token.acr, rule.guard.token.max_age_seconds)
    return Deny(reason, rule_name(rule.answer), step_up)


class Verdicts:
    """The rules that name some callers, all the same ones; ``denial``: the refusal where no allow rule is for a port.

    ``guarded``: whether facts may change any verdict.
    """

    __slots__ = (
        "_allow",
        "_deny",
        "_http_ports",
        "_maybe_http_ports",
        "_memory",
        "denial",
        "guarded",
        "reads_source",
        "remembered",
        "view",
    )

    def __init__(
        self,
        allow: RuleTables | None,
        deny: RuleTables | None,
        denial: Deny,
        scope: Scope,
        memory: Memory | None,
    ) -> None:
        """``allow`` and ``deny`` are None where none of theirs names the caller; without ``memory`` nothing is kept."""
        self._allow = allow
        self._deny = deny
        self._http_ports = scope.http_ports
        self._maybe_http_ports = scope.maybe_http_ports
        self._memory = memory
        self.denial = denial
        self.guarded = bool((allow and allow.guarded) or (deny and deny.guarded))
        self.reads_source = any(
            name.startswith("source.") for tables in (allow, deny) if tables is not None for name in tables.reads
        )
        self.remembered: Remembered = {}
        self.view: CallerView | None = None
        """The one that all callers of these rules share, if they can."""

    @property
    def has_rules(self) -> bool:
        """Whether any rule names the caller."""
        return self._allow is not None or self._deny is not None

    def judge(self, port: int, method: bytes, path: bytes, target: bytes) -> Any:
        """A ``Decision``, or an ``Open`` where facts decide; ``path``: of ``target``, without its query."""
        judged = judged_path(target)
        # The asterisk form is only where RFC 9112 section 3.2.4 has it, with OPTIONS.
        if judged is None or (judged == b"*" and method != b"OPTIONS"):
            answer: Decision | Open = AMBIGUOUS
        elif self._deny is None:
            answer = self._allowed(port, method, judged, ())
        else:
            refused, denying = self._denying(port, method, judged)
            answer = refused if refused is not None else self._allowed(port, method, judged, denying)
        if self._memory is not None and path[:1] == b"/":
            if self.guarded and isinstance(answer, Open):
                self._memory.remember(self.remembered, port, method, path, answer, answer.held_bytes)
            else:
                self._memory.remember(self.remembered, port, method, path, answer)
        return answer

    def _denying(self, port: int, method: bytes, judged: bytes) -> tuple[Decision | None, tuple[Candidates, ...]]:
        """The refusal that needs no facts, if there is one, and those whose guards are to be asked."""
        table = self._table(self._deny, port)
        if table is None:
            return None, ()
        refused, denying = table.find(method, judged)
        other = other_reading(judged) if refused is None else None
        if other is not None:
            refused, more = table.find(method, other)
            denying = tuple(dict.fromkeys((*denying, *more)))
        return refused, denying

    def _allowed(self, port: int, method: bytes, judged: bytes, denying: tuple[Candidates, ...]) -> Decision | Open:
        table = self._allow.table(port) if self._allow is not None else None
        found = table.judge(method, judged) if table is not None else self.denial
        # Without guards the decision is not touched: among ten thousand it is seldom in the processor's cache.
        if self.guarded and isinstance(found, tuple):
            return Open(judged, denying, found, None)
        return Open(judged, denying, (), found) if denying else found  # type: ignore[arg-type, return-value]

    def connection(self, port: int, asked: Asked | None) -> Decision:
        """The verdict on a connection of opaque TCP; ``asked`` is not None where any rule asks for facts."""
        refused = self.refusal(port, asked)
        if refused is not None:
            return refused
        table = self._allow.table(port) if self._allow is not None else None
        if table is None:
            return self.denial
        unread = self.unread(port)
        if unread is not None:
            return unread
        if table.opaque is not None or not table.opaque_guarded:
            return table.opaque or table.not_http
        for rule in table.opaque_guarded:
            if asked is not None and rule.guard is not None and rule.guard.lacks(asked) is None:
                return rule.answer
        return _denied(DenyReason.CONDITION_NOT_MET, table.opaque_guarded[0])

    def refusal(self, port: int, asked: Asked | None) -> Decision | None:
        """The refusal of a connection of opaque TCP by a deny rule, if one speaks of it."""
        table = self._deny.table(port) if self._deny is not None else None
        if table is None or table.opaque is not None:
            return table.opaque if table is not None else None
        for rule in table.opaque_guarded:
            assert rule.guard is not None
            if asked is None or rule.guard.speaks(asked):
                return rule.answer
        return None

    def unread(self, port: int) -> Deny | None:
        """The refusal of bytes that nobody reads as HTTP, where they would pass unjudged: on a port of HTTP, and on one
        that may carry it where a deny rule speaks of requests, which they would evade."""
        if port in self._http_ports:
            table = self._table(self._allow, port)
            return table.not_http if table is not None else Deny(DenyReason.NOT_HTTP, self.denial.nearest)
        if port not in self._maybe_http_ports:
            return None
        refusing = self._table(self._deny, port)
        if refusing is None or refusing.reads_http is None:
            return None
        return Deny(DenyReason.NOT_HTTP, refusing.reads_http)

    def may_send(self, port: int) -> bool:
        """Whether a connection to ``port`` may come to carry anything that is permitted, whatever its facts will be."""
        refusing = self._table(self._deny, port)
        if refusing is not None and refusing.opaque is not None:
            return False
        return self._table(self._allow, port) is not None

    @staticmethod
    def _table(tables: RuleTables | None, port: int) -> PortTable | None:
        return tables.table(port) if tables is not None else None
