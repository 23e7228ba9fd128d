"""The judge on the path of every request: who may do this, by which rule; or why not. Pure.

``DecisionTable.caller`` finds the rules that concern an identity, once a connection; the ``CallerView`` it answers is
asked once a request (``request``) or once an opaque connection (``connection``). Default deny: what no rule permits is
refused, with the first of the reasons in ``DenyReason``'s order that holds. ``compile`` makes the table from the model.

Decisions are values made once and shared; a decision made before is three dict look-ups, a fresh one a walk through
the segments of the path. Neither grows with the number of rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.facts import NO_FACTS, Facts
from ringfence.policy.memory import Memory, Remembered
from ringfence.policy.paths import judged_path
from ringfence.policy.reasons import DenyReason
from ringfence.policy.tables import CompiledRule, PortTable
from ringfence.policy.trie import Leaf, Trie
from ringfence.spiffe import SpiffeId

__all__ = ["CallerView", "Decision", "DecisionTable", "Deny", "DenyReason", "KnownCaller", "Permit"]

LIMIT_CALLERS: Final = 4096
LIMIT_UNAUTHENTICATED_BYTES: Final = 1 << 20

_UNAUTHENTICATED: Final = Deny(DenyReason.UNAUTHENTICATED)
_AMBIGUOUS: Final = Deny(DenyReason.PATH_AMBIGUOUS)


class CallerView:
    """The policy as one caller meets it; this base class is the view of a caller whom no rule names.

    A stranger's decisions are not remembered: they are cheap, and strangers must not fill the memory.
    """

    __slots__ = ("_denial",)

    def __init__(self, denial: Deny) -> None:
        self._denial = denial

    reads_facts: ClassVar[bool] = False
    """Whether any decision may depend on facts; where not, ``NO_FACTS`` will do."""

    def connection(self, port: int, facts: Facts = NO_FACTS) -> Decision:
        """Judge a connection of opaque TCP to ``port`` of the workload."""
        return self._denial

    def request(self, port: int, method: bytes, target: bytes, facts: Facts = NO_FACTS) -> Decision:
        """Judge an HTTP request: ``method`` as sent, ``target`` in origin form as sent, query and all."""
        if self._denial is _UNAUTHENTICATED or _judged(method, target) is not None:
            return self._denial
        return _AMBIGUOUS


class KnownCaller(CallerView):
    """The view of a caller whom at least one rule names; callers with the same rules share one."""

    __slots__ = ("_by_port", "_http_ports", "_memory", "_remembered", "_rules", "_tables", "_unread")

    def __init__(self, rules: Sequence[CompiledRule], http_ports: frozenset[int], memory: Memory) -> None:
        """``rules``: those that name the caller, at least one, in the order of their names."""
        super().__init__(Deny(DenyReason.PORT_NOT_ALLOWED, rules[0].permit.rule_name))
        # Bytes of an HTTP port that nobody reads as HTTP would pass unjudged.
        self._unread = Deny(DenyReason.NOT_HTTP, self._denial.nearest)
        self._rules = rules
        self._http_ports = http_ports
        self._memory = memory
        self._by_port = frozenset(port for rule in rules for port in rule.ports)
        self._tables: dict[int | None, PortTable | None] = {}
        self._remembered: Remembered = {}

    def connection(self, port: int, facts: Facts = NO_FACTS) -> Decision:
        table = self._table(port)
        if table is None:
            return self._denial
        return self._unread if port in self._http_ports else table.opaque

    def request(self, port: int, method: bytes, target: bytes, facts: Facts = NO_FACTS) -> Decision:
        cut = target.find(b"?")
        path = target if cut < 0 else target[:cut]
        try:
            return self._remembered[port][method][path]
        except KeyError:
            return self._judge(port, method, path, target)

    def _judge(self, port: int, method: bytes, path: bytes, target: bytes) -> Decision:
        judged = _judged(method, target)
        table = self._table(port)
        if judged is None:
            decision: Decision = _AMBIGUOUS
        elif table is None:
            decision = self._denial
        else:
            decision = table.judge(method, judged)
        if path[:1] == b"/":
            self._memory.remember(self._remembered, port, method, path, decision)
        return decision

    def _table(self, port: int) -> PortTable | None:
        """The table of ``port``, made at first use; ports that no rule names share that of the rules for all ports."""
        key = port if port in self._by_port else None
        try:
            return self._tables[key]
        except KeyError:
            rules = [rule for rule in self._rules if not rule.ports or key in rule.ports]
            table = self._tables[key] = PortTable(rules) if rules else None
            return table


class Positions(Leaf):
    """Which rules name the callers of one pattern: ascending positions."""

    __slots__ = ("numbers",)

    def __init__(self, first: int) -> None:
        self.numbers = [first]


class DecisionTable:
    """The compiled policy of one workload at one revision; nothing changes in it but what it remembers."""

    __slots__ = (
        "_callers",
        "_http_ports",
        "_limit_callers",
        "_memory",
        "_nobody",
        "_patterns",
        "_rules",
        "_unauthenticated",
        "_views",
    )

    def __init__(
        self,
        rules: Sequence[CompiledRule],
        patterns: Trie[str, Positions],
        http_ports: frozenset[int],
        *,
        unauthenticated: Sequence[int] = (),
        limit_callers: int = LIMIT_CALLERS,
        memory: Memory | None = None,
    ) -> None:
        """``rules`` in the order of their names; ``patterns``: (trust domain, segments…) to positions in ``rules``;
        ``unauthenticated``: the positions, in order, of those for callers without an identity."""
        self._rules = rules
        self._patterns = patterns
        self._http_ports = http_ports
        self._limit_callers = limit_callers
        self._memory = memory or Memory()
        self._callers: dict[SpiffeId, CallerView] = {}
        self._views: dict[tuple[int, ...], CallerView] = {}
        self._nobody = CallerView(_UNAUTHENTICATED)
        self._unauthenticated = self._nobody
        if unauthenticated:
            # A memory of its own: whoever needs no identity must not make the known ones' decisions be forgotten.
            named = [rules[at] for at in unauthenticated]
            self._unauthenticated = KnownCaller(named, http_ports, Memory(LIMIT_UNAUTHENTICATED_BYTES))

    uses_time: ClassVar[bool] = False
    """Whether time may change a verdict at moments that nobody can tell beforehand."""

    def reads_facts(self, port: int) -> bool:
        """Whether any decision about ``port`` may depend on facts."""
        return False

    def changes_at(self, now: float) -> float | None:
        """The earliest moment after ``now`` (Unix seconds) at which all verdicts are to be asked for anew, if any."""
        return None

    def caller(self, spiffe_id: SpiffeId | None, address: str = "") -> CallerView:
        """The view of the verified peer ``spiffe_id`` at ``address``; None for a caller without an identity.

        Rules for unauthenticated callers are asked for None alone, and no other rules are; where there are none,
        everything is refused as unauthenticated. An ID that names no workload is never permitted anything.
        """
        if spiffe_id is None:
            return self._unauthenticated
        if not spiffe_id.path:
            return self._nobody
        view = self._callers.get(spiffe_id)
        if view is None:
            view = self._view(spiffe_id)
            if len(self._callers) >= self._limit_callers:
                self._callers.clear()
                self._views.clear()
            self._callers[spiffe_id] = view
        return view

    def _view(self, spiffe_id: SpiffeId) -> CallerView:
        segments = (spiffe_id.trust_domain.name, *spiffe_id.segments)
        named = {position for positions in self._patterns.walk(segments) for position in positions.numbers}
        if not named:
            near = self._patterns.nearest(segments)
            nearest = self._rules[near.numbers[0]].permit.rule_name if near is not None else None
            return CallerView(Deny(DenyReason.CALLER_NOT_ALLOWED, nearest))
        key = tuple(sorted(named))
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = KnownCaller([self._rules[at] for at in key], self._http_ports, self._memory)
        return view


def _judged(method: bytes, target: bytes) -> bytes | None:
    """The judged path; the asterisk form only where RFC 9112 section 3.2.4 has it, with OPTIONS."""
    path = judged_path(target)
    return None if path == b"*" and method != b"OPTIONS" else path
