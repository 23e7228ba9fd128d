"""Hosts to rules: by name, and by what stands below a name. Pure; cost does not grow with the number of hosts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar


class Hosted(Protocol):
    """A rule that may speak of some hosts only; ``number``: its place in the order of names."""

    @property
    def number(self) -> int: ...

    @property
    def hosts(self) -> tuple[str, ...]: ...


H = TypeVar("H", bound=Hosted)


class HostIndex(Generic[H]):
    """Some rules, in the order of their names, found by the host that a request asks for."""

    __slots__ = ("_by_name", "_by_suffix", "_dots", "_open", "rules")

    def __init__(self, rules: Iterable[H]) -> None:
        """``rules``: at least one, in order."""
        self.rules = tuple(rules)
        self._open: list[H] = []
        self._by_name: dict[bytes, list[H]] = {}
        self._by_suffix: dict[bytes, list[H]] = {}
        self._dots = 0
        for rule in self.rules:
            if not rule.hosts:
                self._open.append(rule)
            for host in rule.hosts:
                name = host.encode("ascii")
                if name.startswith(b"*."):
                    self._by_suffix.setdefault(name[1:], []).append(rule)
                    self._dots = max(self._dots, name.count(b"."))
                else:
                    self._by_name.setdefault(name, []).append(rule)

    def find(self, host: bytes) -> Sequence[H]:
        """The rules that speak of ``host``, and those that speak of any, in order, each once."""
        found = [self._open] if self._open else []
        if host:
            named = self._by_name.get(host)
            if named is not None:
                found.append(named)
            # From the right, and no further than the longest pattern: a host of a thousand dots costs no more.
            end = len(host)
            for _ in range(self._dots):
                end = host.rfind(b".", 0, end)
                if end <= 0:
                    break
                below = self._by_suffix.get(host[end:])
                if below is not None:
                    found.append(below)
        if len(found) == 1:
            return found[0]
        by_number = {rule.number: rule for rules in found for rule in rules}
        return [by_number[number] for number in sorted(by_number)]
