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
from ringfence.policy.trie import Leaf, Trie

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


class MethodTable(Leaf):
    """The rules at one path pattern: which method each permits.

    A policy may have ten thousand of one rule, so that is all that one holds: with the tail of its pattern just what
    fits a line of the processor's cache. ``_more`` is made when another rule or a refusal comes.
    """

    __slots__ = ("_methods", "_more", "_permit")

    def __init__(self, first: CompiledRule) -> None:
        self._methods = first.methods
        self._permit = first.permit
        self._more: _More | None = None

    def add(self, rule: CompiledRule) -> None:
        """Add a rule after the first."""
        self._make_more().add(rule)

    def find(self, method: bytes) -> Permit | None:
        if self._more is None:
            return self._permit if not self._methods or method in self._methods else None
        return self._more.by_method.get(method, self._more.any_method)

    def deny_method(self) -> Deny:
        """The shared refusal of a method that no rule here permits; names the first of them."""
        return self._make_more().method_denied

    def deny_path(self) -> Deny:
        """The shared refusal of a path to which this pattern came nearest."""
        return self._make_more().path_denied

    def _make_more(self) -> _More:
        if self._more is None:
            self._more = _More(self._methods, self._permit)
        return self._more


class _More:
    """What tells the rules at one path pattern apart, and their refusals."""

    __slots__ = ("any_method", "by_method", "method_denied", "path_denied")

    def __init__(self, methods: frozenset[bytes], permit: Permit) -> None:
        self.by_method = dict.fromkeys(methods, permit)
        self.any_method = None if methods else permit
        self.method_denied = Deny(DenyReason.METHOD_NOT_ALLOWED, permit.rule_name)
        self.path_denied = Deny(DenyReason.PATH_NOT_ALLOWED, permit.rule_name)

    def add(self, rule: CompiledRule) -> None:
        for method in rule.methods:
            self.by_method.setdefault(method, self.any_method or rule.permit)
        if not rule.methods and self.any_method is None:
            self.any_method = rule.permit


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
