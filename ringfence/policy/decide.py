"""The judge on the path of every request: who may do this, by which rule; or why not. Pure.

``DecisionTable.caller`` finds the rules that concern an identity at an address, once a connection; the ``CallerView``
it answers is asked once a request (``request``) or once an opaque connection (``connection``). In this order: who has
no identity and meets no rule for such callers; paths that could be read as two; denylists; allowlists, of which one
rule suffices. Default deny: what no rule permits is refused, with the first of the reasons in ``DenyReason``'s order
that holds for the rules that came nearest. ``compile`` makes the table from the model.

A fact that is not known never permits: without a time nothing is only observed; without an address a rule for some
networks does not name the caller, and one of a denylist does.

Decisions are values made once and shared; a decision made before is three dict look-ups, a fresh one a walk through
the segments of the path. Neither grows with the number of rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ringfence.policy.addresses import parse_address
from ringfence.policy.caller_index import CallerIndex
from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.memory import LIMIT_REMEMBERED_BYTES, Memory
from ringfence.policy.reasons import DenyReason
from ringfence.policy.tables import CompiledRule, RuleTables, rule_name
from ringfence.policy.verdicts import Verdicts
from ringfence.policy.views import UNAUTHENTICATED, CallerView, FactView, KnownCaller, Scope, source_of
from ringfence.spiffe import SpiffeId

__all__ = ["CallerView", "Decision", "DecisionTable", "Deny", "DenyReason", "KnownCaller", "Limits", "Permit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a table keeps: callers it knows, views of them by their addresses, bytes of decisions it made before."""

    callers: int = 4096
    by_address: int = 16_384
    remembered_bytes: int = LIMIT_REMEMBERED_BYTES
    unauthenticated_bytes: int = 1 << 20


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledList:
    """The rules of all allowlists, or of all denylists, in the order of their names, and whom each names."""

    rules: Sequence[CompiledRule]
    callers: CallerIndex


class DecisionTable:
    """The compiled policy of one workload at one revision; nothing changes in it but what it remembers."""

    __slots__ = (
        "_allow",
        "_by_address",
        "_callers",
        "_deny",
        "_fact_ports",
        "_limits",
        "_memory",
        "_nobody",
        "_scope",
        "_tables",
        "_unauthenticated",
        "_unauthenticated_memory",
        "_verdicts",
        "uses_time",
    )

    def __init__(self, allow: CompiledList, deny: CompiledList, scope: Scope, limits: Limits = LIMITS) -> None:
        self._allow = allow
        self._deny = deny
        self._scope = scope
        self._limits = limits
        self._memory = Memory(limits.remembered_bytes)
        # A memory of its own: whoever needs no identity must not make the known ones' decisions be forgotten.
        self._unauthenticated_memory = Memory(limits.unauthenticated_bytes)
        self._callers: dict[SpiffeId, CallerView | _ByAddress] = {}
        self._by_address = 0
        self._verdicts: dict[tuple[object, ...], Verdicts] = {}
        self._tables: dict[tuple[bool, tuple[int, ...]], RuleTables] = {}
        guarded = [rule for rule in (*allow.rules, *deny.rules) if rule.guard is not None]
        # None: all ports.
        self._fact_ports: frozenset[int] | None = frozenset(port for rule in guarded for port in rule.ports)
        if scope.observe_until is not None or any(not rule.ports for rule in guarded):
            self._fact_ports = None
        guards = [rule.guard for rule in guarded if rule.guard is not None]
        self.uses_time = any(
            guard.token is not None
            or (
                guard.condition is not None and any(name.startswith(("now", "token")) for name in guard.condition.reads)
            )
            for guard in guards
        )
        """Whether time may change a verdict at moments that are not told beforehand: a condition reads it, or a token
        ends."""
        self._nobody = CallerView(UNAUTHENTICATED)
        self._unauthenticated = self._found(None)

    def reads_facts(self, port: int) -> bool:
        """Whether any decision about ``port`` may depend on facts."""
        return self._fact_ports is None or port in self._fact_ports

    def changes_at(self, now: float) -> float | None:
        """The earliest moment after ``now`` (Unix seconds) at which all verdicts are to be asked for anew, if any."""
        until = self._scope.observe_until
        return until if until is not None and until > now else None

    def caller(self, spiffe_id: SpiffeId | None, address: str = "") -> CallerView:
        """The view of the verified peer ``spiffe_id`` at ``address``; None for a caller without an identity.

        Rules for unauthenticated callers are asked for None alone, and no other rules are; where there are none,
        everything is refused as unauthenticated. An ID that names no workload is never permitted anything.
        """
        if spiffe_id is None:
            held = self._unauthenticated
        elif not spiffe_id.path:
            return self._nobody
        else:
            known = self._callers.get(spiffe_id)
            held = known if known is not None else self._keep(spiffe_id)
        return held.at(address) if held.__class__ is _ByAddress else held  # type: ignore[return-value]

    def _keep(self, spiffe_id: SpiffeId) -> CallerView | _ByAddress:
        found = self._found(spiffe_id)
        if len(self._callers) >= self._limits.callers:
            self._callers.clear()
        self._callers[spiffe_id] = found
        return found

    def _found(self, spiffe_id: SpiffeId | None) -> CallerView | _ByAddress:
        """The one view of a caller, or where its address matters what finds that for each."""
        allow, deny = self._allow.callers.named(spiffe_id), self._deny.callers.named(spiffe_id)

        def verdicts_at(address: str) -> Verdicts:
            known = parse_address(address)
            allowing, denying = allow.at(known, unknown=False), deny.at(known, unknown=True)
            return self._verdicts_of(spiffe_id, allowing, denying, min(allow.narrowed, default=None))

        if not allow.narrowed and not deny.narrowed:
            verdicts = verdicts_at("")
            if not verdicts.reads_source:
                return self._view(verdicts, spiffe_id, "")

        def view_at(address: str) -> CallerView:
            self._count_view()
            return self._view(verdicts_at(address), spiffe_id, address)

        return _ByAddress(view_at)

    def _count_view(self) -> None:
        """One more is to be kept by its address; when there are too many, all are found anew."""
        if self._by_address >= self._limits.by_address:
            self._by_address = 0
            self._callers.clear()
            if isinstance(self._unauthenticated, _ByAddress):
                self._unauthenticated.views.clear()
        self._by_address += 1

    def _view(self, verdicts: Verdicts, spiffe_id: SpiffeId | None, address: str) -> CallerView:
        if verdicts.view is not None:
            return verdicts.view
        if verdicts.denial is UNAUTHENTICATED and self._scope.observe_until is None:
            return self._nobody  # that comes before paths and denylists
        if not verdicts.guarded and self._scope.observe_until is None:
            verdicts.view = KnownCaller(verdicts) if verdicts.has_rules else CallerView(verdicts.denial)
            return verdicts.view
        view = FactView(verdicts, self._scope, source_of(spiffe_id, parse_address(address)))
        if not verdicts.reads_source:
            verdicts.view = view
        return view

    def _verdicts_of(
        self,
        spiffe_id: SpiffeId | None,
        allowing: tuple[int, ...],
        denying: tuple[int, ...],
        elsewhere: int | None,
    ) -> Verdicts:
        """``elsewhere``: the position of a rule that names the caller at some other address."""
        denial = self._denial(spiffe_id, allowing, elsewhere)
        key = (allowing, denying, spiffe_id is None, denial if not allowing else None)
        found = self._verdicts.get(key)
        if found is None:
            memory = self._unauthenticated_memory if spiffe_id is None else self._memory
            found = Verdicts(
                self._tables_of(allowing, denies=False),
                self._tables_of(denying, denies=True),
                denial,
                self._scope,
                memory if allowing else None,
            )
            if len(self._verdicts) >= self._limits.callers:
                self._verdicts.clear()
                self._tables.clear()
            self._verdicts[key] = found
        return found

    def _denial(self, spiffe_id: SpiffeId | None, allowing: tuple[int, ...], elsewhere: int | None) -> Deny:
        """The refusal of the caller where no allow rule that names it is for a port."""
        rules = self._allow.rules
        if allowing:
            return Deny(DenyReason.PORT_NOT_ALLOWED, rule_name(rules[allowing[0]].answer))
        if elsewhere is not None:
            return Deny(DenyReason.ADDRESS_NOT_ALLOWED, rule_name(rules[elsewhere].answer))
        if spiffe_id is None:
            return UNAUTHENTICATED
        near = self._allow.callers.nearest(spiffe_id)
        return Deny(DenyReason.CALLER_NOT_ALLOWED, rule_name(rules[near].answer) if near is not None else None)

    def _tables_of(self, positions: tuple[int, ...], *, denies: bool) -> RuleTables | None:
        if not positions:
            return None
        found = self._tables.get((denies, positions))
        if found is None:
            rules = self._deny.rules if denies else self._allow.rules
            found = self._tables[denies, positions] = RuleTables([rules[at] for at in positions])
        return found


class _ByAddress:
    """The views of one caller, by its address."""

    __slots__ = ("_make", "views")

    def __init__(self, make: Callable[[str], CallerView]) -> None:
        self._make = make
        self.views: dict[str, CallerView] = {}

    def at(self, address: str) -> CallerView:
        view = self.views.get(address)
        if view is None:
            view = self.views[address] = self._make(address)
        return view
