"""The compiled tables: from port to path pattern to method. Pure; made by ``compile``, asked by ``decide``.

Rules are added in the order of their full names, and at one place the first one wins, so that neither the order of
documents nor that of rules can be seen in a decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.paths import PathTemplate
from ringfence.policy.reasons import DenyReason
from ringfence.policy.trie import Trie

_NO_PATH: Final = Deny(DenyReason.PATH_NOT_ALLOWED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRule:
    """A rule without its callers; empty parts are open. ``permit`` is the one shared decision that names it."""

    permit: Permit
    ports: frozenset[int]
    methods: tuple[bytes, ...]
    paths: tuple[PathTemplate, ...]

    @property
    def speaks_http(self) -> bool:
        """Whether it has HTTP words, and so never permits opaque TCP."""
        return bool(self.methods or self.paths)


class MethodTable:
    """The rules at one path pattern: which method each permits."""

    __slots__ = ("_any_method", "_by_method", "_denials", "_first")

    def __init__(self) -> None:
        self._by_method: dict[bytes, Permit] = {}
        self._any_method: Permit | None = None
        self._first: Permit | None = None
        self._denials: dict[DenyReason, Deny] = {}

    def add(self, rule: CompiledRule) -> None:
        permit = rule.permit
        if self._first is None:
            self._first = permit
        for method in rule.methods:
            self._by_method.setdefault(method, self._any_method or permit)
        if not rule.methods and self._any_method is None:
            self._any_method = permit

    def find(self, method: bytes) -> Permit | None:
        return self._by_method.get(method, self._any_method)

    def deny(self, reason: DenyReason) -> Deny:
        """The shared refusal that names the first rule here as the nearest."""
        found = self._denials.get(reason)
        if found is None:
            nearest = self._first.rule_name if self._first is not None else None
            found = self._denials[reason] = Deny(reason, nearest)
        return found


class PortTable:
    """What one set of rules says of one port: templates, rules without paths, and the answer to opaque TCP."""

    __slots__ = ("_pathless", "_paths", "opaque")

    def __init__(self, rules: Iterable[CompiledRule]) -> None:
        """``rules``: at least one, in the order of their names, all of one caller and for this port."""
        self._paths: Trie[bytes, MethodTable] = Trie(MethodTable)
        self._pathless: MethodTable | None = None
        opaque: Permit | None = None
        first: Permit | None = None
        for rule in rules:
            first = first or rule.permit
            if not rule.speaks_http:
                opaque = opaque or rule.permit
            if not rule.paths:
                self._pathless = self._pathless or MethodTable()
                self._pathless.add(rule)
            for template in rule.paths:
                segments = [part if isinstance(part, bytes) else None for part in template.segments]
                self._paths.slot(segments, template.rest).add(rule)
        nearest = first.rule_name if first is not None else None
        self.opaque: Decision = opaque or Deny(DenyReason.NOT_HTTP, nearest)

    def judge(self, method: bytes, path: bytes) -> Decision:
        """``path`` as ``judged_path`` answers it.

        Of several permitting rules, the one with the most specific path is named, and of these the first by name.
        """
        closest: MethodTable | None = None
        # The asterisk form is no path: only a rule that leaves paths open can permit it.
        segments = path[1:].split(b"/")
        if path[:1] == b"/":
            for table in self._paths.walk(segments):
                permit = table.find(method)
                if permit is not None:
                    return permit
                closest = closest or table
        if self._pathless is not None:
            permit = self._pathless.find(method)
            if permit is not None:
                return permit
            closest = closest or self._pathless
        if closest is not None:
            return closest.deny(DenyReason.METHOD_NOT_ALLOWED)
        near = self._paths.nearest(segments)
        return near.deny(DenyReason.PATH_NOT_ALLOWED) if near is not None else _NO_PATH
