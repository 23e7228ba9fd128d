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
    methods: frozenset[bytes]
    paths: tuple[PathTemplate, ...]

    @property
    def speaks_http(self) -> bool:
        """Whether it has HTTP words, and so never permits opaque TCP."""
        return bool(self.methods or self.paths)


class MethodTable:
    """The rules at one path pattern: which method each permits. A policy may have ten thousand, so they are small."""

    __slots__ = ("_any_method", "_by_method", "_method_denied", "_methods", "_path_denied", "_permit")

    def __init__(self, first: CompiledRule) -> None:
        self._methods = first.methods
        self._permit = first.permit
        # Most patterns have one rule; the tables that tell several apart are made when the second comes.
        self._by_method: dict[bytes, Permit] | None = None
        self._any_method: Permit | None = None
        self._method_denied: Deny | None = None
        self._path_denied: Deny | None = None

    def add(self, rule: CompiledRule) -> None:
        """Add a rule after the first."""
        if self._by_method is None:
            self._by_method = dict.fromkeys(self._methods, self._permit)
            self._any_method = None if self._methods else self._permit
        for method in rule.methods:
            self._by_method.setdefault(method, self._any_method or rule.permit)
        if not rule.methods and self._any_method is None:
            self._any_method = rule.permit

    def find(self, method: bytes) -> Permit | None:
        if self._by_method is None:
            return self._permit if not self._methods or method in self._methods else None
        return self._by_method.get(method, self._any_method)

    def deny_method(self) -> Deny:
        """The shared refusal of a method that no rule here permits; names the first of them."""
        if self._method_denied is None:
            self._method_denied = self._deny(DenyReason.METHOD_NOT_ALLOWED)
        return self._method_denied

    def deny_path(self) -> Deny:
        """The shared refusal of a path to which this pattern came nearest."""
        if self._path_denied is None:
            self._path_denied = self._deny(DenyReason.PATH_NOT_ALLOWED)
        return self._path_denied

    def _deny(self, reason: DenyReason) -> Deny:
        return Deny(reason, self._permit.rule_name)


class PortTable:
    """What one set of rules says of one port: templates, rules without paths, and the answer to opaque TCP."""

    __slots__ = ("_pathless", "_paths", "opaque")

    def __init__(self, rules: Iterable[CompiledRule]) -> None:
        """``rules``: at least one, in the order of their names, all of one caller and for this port."""
        self._paths: Trie[bytes, MethodTable] = Trie()
        self._pathless: MethodTable | None = None
        opaque: Permit | None = None
        first: Permit | None = None
        for rule in rules:
            first = first or rule.permit
            if not rule.speaks_http:
                opaque = opaque or rule.permit
            if not rule.paths:
                if self._pathless is None:
                    self._pathless = MethodTable(rule)
                else:
                    self._pathless.add(rule)
            for template in rule.paths:
                made = MethodTable(rule)
                segments = [part if isinstance(part, bytes) else None for part in template.segments]
                table = self._paths.insert(segments, template.rest, made)
                if table is not made:
                    table.add(rule)
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
            return closest.deny_method()
        near = self._paths.nearest(segments)
        return near.deny_path() if near is not None else _NO_PATH
