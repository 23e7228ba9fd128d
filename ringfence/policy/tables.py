"""The compiled tables: from port to path pattern to method. Pure; made by ``compile``, asked by ``verdicts``.

Rules are added in the order of their full names, and at one place the first one wins, so that neither the order of
documents nor that of rules can be seen in a decision. Rules that ask for nothing but caller, port, method and path
(plain ones) come before those that ask for facts: what one of them decides needs no facts, and can be remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ringfence.policy.decision import Decision, Deny, Permit
from ringfence.policy.guards import Guard
from ringfence.policy.hosts import HostIndex
from ringfence.policy.paths import PathTemplate
from ringfence.policy.reasons import DenyReason
from ringfence.policy.trie import Leaf, Trie

_NO_PATH: Final = Deny(DenyReason.PATH_NOT_ALLOWED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRule:
    """A rule without its callers.

    ``number``: its place in the order of names. ``answer``: the shared decision that names it. ``ports``: none: all.
    ``places``: path patterns, each with its methods (none: all); none: all paths, by ``methods``. ``guard``: what it
    asks of facts; None for a plain rule. ``opaque``: whether it may speak of opaque TCP. ``requests``: whether it reads
    what only requests have, in its words or in its condition.
    """

    number: int
    answer: Decision
    ports: frozenset[int]
    methods: frozenset[bytes]
    places: tuple[tuple[PathTemplate, frozenset[bytes]], ...]
    hosts: tuple[str, ...] = ()
    guard: Guard | None = None
    opaque: bool = False
    requests: bool = False


Candidates = HostIndex[CompiledRule]


class MethodTable(Leaf):
    """The plain rules at one path pattern: what each says of which method.

    A policy may have ten thousand of one rule, so that is all that one holds: with the tail of its pattern just what
    fits a line of the processor's cache. ``_more`` is made when another rule or a refusal comes.
    """

    __slots__ = ("_answer", "_methods", "_more")

    def __init__(self, methods: frozenset[bytes], answer: Decision) -> None:
        self._methods = methods
        self._answer = answer
        self._more: _More | None = None

    def add(self, methods: frozenset[bytes], answer: Decision) -> None:
        """Add a rule after the first."""
        self._make_more().add(methods, answer)

    def find(self, method: bytes) -> Decision | None:
        if self._more is None:
            return self._answer if not self._methods or method in self._methods else None
        return self._more.by_method.get(method, self._more.any_method)

    def deny_method(self) -> Deny:
        """The shared refusal of a method that no rule here permits; names the first of them."""
        return self._make_more().method_denied

    def deny_path(self) -> Deny:
        """The shared refusal of a path to which this pattern came nearest."""
        return self._make_more().path_denied

    def _make_more(self) -> _More:
        if self._more is None:
            self._more = _More(self._methods, self._answer)
        return self._more


class _More:
    """What tells the rules at one path pattern apart, and their refusals."""

    __slots__ = ("any_method", "by_method", "method_denied", "path_denied")

    def __init__(self, methods: frozenset[bytes], answer: Decision) -> None:
        self.by_method = dict.fromkeys(methods, answer)
        self.any_method = None if methods else answer
        self.method_denied = Deny(DenyReason.METHOD_NOT_ALLOWED, rule_name(answer))
        self.path_denied = Deny(DenyReason.PATH_NOT_ALLOWED, rule_name(answer))

    def add(self, methods: frozenset[bytes], answer: Decision) -> None:
        for method in methods:
            self.by_method.setdefault(method, self.any_method or answer)
        if not methods and self.any_method is None:
            self.any_method = answer


def rule_name(answer: Decision) -> str | None:
    """The full name of the rule that a compiled rule's ``answer`` names."""
    return answer.rule_name if isinstance(answer, Permit) else answer.nearest


class PlainTable:
    """Plain rules by path and method."""

    __slots__ = ("_pathless", "_paths")

    def __init__(self) -> None:
        self._paths: Trie[bytes, MethodTable] = Trie()
        self._pathless: MethodTable | None = None

    def add(self, rule: CompiledRule) -> None:
        """``rule`` comes after those added before, in the order of names."""
        if not rule.places:
            if self._pathless is None:
                self._pathless = MethodTable(rule.methods, rule.answer)
            else:
                self._pathless.add(rule.methods, rule.answer)
        for template, methods in rule.places:
            made = MethodTable(methods, rule.answer)
            table = self._paths.insert(_words(template), template.rest, made)
            if table is not made:
                table.add(methods, rule.answer)

    def judge(self, method: bytes, path: bytes) -> Decision:
        """``path`` as ``judged_path`` answers it; what no rule speaks of is refused.

        Of several rules, the one with the most specific path is named, and of these the first by name.
        """
        closest: MethodTable | None = None
        # The asterisk form is no path: only a rule that leaves paths open can permit it.
        segments = path[1:].split(b"/")
        if path[:1] == b"/":
            for table in self._paths.walk(segments):
                answer = table.find(method)
                if answer is not None:
                    return answer
                closest = closest or table
        if self._pathless is not None:
            answer = self._pathless.find(method)
            if answer is not None:
                return answer
            closest = closest or self._pathless
        if closest is not None:
            return closest.deny_method()
        near = self._paths.nearest(segments)
        return near.deny_path() if near is not None else _NO_PATH

    def find(self, method: bytes, path: bytes) -> Decision | None:
        """What ``judge`` answers, but None for what no rule speaks of."""
        if path[:1] == b"/":
            for table in self._paths.walk(path[1:].split(b"/")):
                answer = table.find(method)
                if answer is not None:
                    return answer
        return self._pathless.find(method) if self._pathless is not None else None


class GuardedPlace(Leaf):
    """The rules at one path pattern that ask for facts."""

    __slots__ = ("_by_method", "_rules")

    def __init__(self) -> None:
        self._rules: list[tuple[frozenset[bytes], CompiledRule]] = []
        self._by_method: dict[bytes | None, Candidates | None] = {}

    def add(self, methods: frozenset[bytes], rule: CompiledRule) -> None:
        self._rules.append((methods, rule))
        self._by_method.update(dict.fromkeys(methods))

    def find(self, method: bytes) -> Candidates | None:
        """Those that speak of ``method``, if any; made at first use, and only for methods that a rule names."""
        key = method if method in self._by_method else None
        found = self._by_method.get(key)
        if found is None:
            rules = [rule for methods, rule in self._rules if not methods or key in methods]
            if not rules:
                return None
            found = self._by_method[key] = HostIndex(rules)
        return found


class GuardedTable:
    """Rules that ask for facts, by path and method."""

    __slots__ = ("_pathless", "_paths")

    def __init__(self) -> None:
        self._paths: Trie[bytes, GuardedPlace] = Trie()
        self._pathless: GuardedPlace | None = None

    def add(self, rule: CompiledRule) -> None:
        """``rule`` comes after those added before, in the order of names."""
        if not rule.places:
            if self._pathless is None:
                self._pathless = GuardedPlace()
            self._pathless.add(rule.methods, rule)
        for template, methods in rule.places:
            place = self._paths.insert(_words(template), template.rest, GuardedPlace())
            place.add(methods, rule)

    def find(self, method: bytes, path: bytes) -> tuple[Candidates, ...]:
        """The rules that may speak of the call, those of the most specific path first."""
        places = list(self._paths.walk(path[1:].split(b"/"))) if path[:1] == b"/" else []
        if self._pathless is not None:
            places.append(self._pathless)
        return tuple(found for place in places if (found := place.find(method)) is not None)


class PortTable:
    """What one set of rules says of one port.

    ``opaque``: what plain rules say of opaque TCP, if one of them does; ``opaque_guarded``: those that may, by facts.
    ``nearest``: the name of the first rule; ``reads_http``: of the first that reads requests, None if none does.
    """

    __slots__ = (
        "_all",
        "_guarded",
        "_plain",
        "_rules",
        "nearest",
        "not_http",
        "opaque",
        "opaque_guarded",
        "reads_http",
    )

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        """``rules``: at least one, in the order of their names, all of one caller and for this port."""
        self._plain = PlainTable()
        self._guarded: GuardedTable | None = None
        self._all: PlainTable | None = None
        self.nearest = rule_name(rules[0].answer)
        self.not_http = Deny(DenyReason.NOT_HTTP, self.nearest)
        self.reads_http = next((rule_name(rule.answer) for rule in rules if rule.requests), None)
        self.opaque: Decision | None = None
        self.opaque_guarded = tuple(rule for rule in rules if rule.opaque and rule.guard is not None)
        for rule in rules:
            if rule.guard is None:
                self._plain.add(rule)
                if rule.opaque:
                    self.opaque = self.opaque or rule.answer
            else:
                if self._guarded is None:
                    self._guarded = GuardedTable()
                self._guarded.add(rule)
        self._rules: Iterable[CompiledRule] = rules if self._guarded is not None else ()

    def judge(self, method: bytes, path: bytes) -> Decision | tuple[Candidates, ...]:
        """A decision where facts make no difference, else those whose guards are to be asked."""
        if self._guarded is None:
            return self._plain.judge(method, path)
        return self._plain.find(method, path) or self._guarded.find(method, path) or self._denial(method, path)

    def find(self, method: bytes, path: bytes) -> tuple[Decision | None, tuple[Candidates, ...]]:
        """What a plain rule says of the call, if one does, and those whose guards are to be asked."""
        found = self._plain.find(method, path)
        if found is not None or self._guarded is None:
            return found, ()
        return None, self._guarded.find(method, path)

    def _denial(self, method: bytes, path: bytes) -> Decision:
        """The refusal of a path or method that neither kind of rule speaks of; what is nearest is looked for in all."""
        if self._all is None:
            self._all = PlainTable()
            for rule in self._rules:
                self._all.add(rule)
        return self._all.judge(method, path)


class RuleTables:
    """One set of rules, by port; ``guarded``: whether any of them asks for facts."""

    __slots__ = ("_by_port", "_rules", "_tables", "guarded", "reads")

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        """``rules`` in the order of their names; there may be none."""
        self._rules = rules
        self._by_port = frozenset(port for rule in rules for port in rule.ports)
        self._tables: dict[int | None, PortTable | None] = {}
        guards = [rule.guard for rule in rules if rule.guard is not None]
        self.guarded = bool(guards)
        self.reads = frozenset(
            name for guard in guards if guard.condition is not None for name in guard.condition.reads
        )

    @property
    def nearest(self) -> str | None:
        """The name of the first rule."""
        return rule_name(self._rules[0].answer) if self._rules else None

    def table(self, port: int) -> PortTable | None:
        """The table of ``port``, made at first use; ports that no rule names share that of the rules for all ports."""
        key = port if port in self._by_port else None
        try:
            return self._tables[key]
        except KeyError:
            rules = [rule for rule in self._rules if not rule.ports or key in rule.ports]
            table = self._tables[key] = PortTable(rules) if rules else None
            return table


def _words(template: PathTemplate) -> list[bytes | None]:
    return [part if isinstance(part, bytes) else None for part in template.segments]
