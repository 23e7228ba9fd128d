"""What ``iptables-save -t nat`` printed, taken apart as far as we need it: our chains, and the jumps into them. Pure.

Rules of others are counted, not kept: a node of a cluster may have a hundred thousand.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

__all__ = ["EMPTY_TABLE", "NOTHING", "PREFIX", "Jump", "NatTable", "OurRules", "parse_save"]

PREFIX: Final = "RINGFENCE_"
"""How each chain of ours begins, those of older and newer versions, too."""

_TARGETS: Final = ("-j", "--jump", "-g", "--goto")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """A rule in a chain that is not ours whose target is ours; ``position`` counts from 1 over the whole chain."""

    chain: str
    position: int
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OurRules:
    """All of ours in one ``nat`` table. ``chains``: name to rules, without ``-A name``; jumps ordered by position."""

    chains: Mapping[str, tuple[str, ...]]
    jumps: tuple[Jump, ...]

    def __bool__(self) -> bool:
        return bool(self.chains or self.jumps)

    def lines(self) -> tuple[str, ...]:
        """As ``iptables-save`` would print them."""
        return (
            *(f"-A {jump.chain} {jump.rule}" for jump in self.jumps),
            *(f"-A {name} {rule}" for name, content in self.chains.items() for rule in content),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NatTable:
    """One family's ``nat`` table; ``counts``: rules in each chain that is not ours, our jumps included."""

    ours: OurRules
    counts: Mapping[str, int]


NOTHING: Final = OurRules(chains={}, jumps=())

EMPTY_TABLE: Final = NatTable(ours=NOTHING, counts={})


def parse_save(text: str) -> NatTable:
    """What the program printed, to a table; text without a ``nat`` table is an empty one."""
    inside = False
    chains: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    jumps: list[Jump] = []
    for line in text.splitlines():
        if line.startswith("*"):
            inside = line.strip() == "*nat"
        elif not inside:
            continue
        elif line.startswith(":"):
            name = line[1:].split(" ", 1)[0]
            if name.startswith(PREFIX):
                chains.setdefault(name, [])
            else:
                counts.setdefault(name, 0)
        elif line.startswith("-A "):
            _, name, *rest = line.split(" ", 2)
            rule = rest[0] if rest else ""
            if name.startswith(PREFIX):
                chains.setdefault(name, []).append(rule)
                continue
            counts[name] = counts.get(name, 0) + 1
            if PREFIX in rule and _leads_to_us(rule):
                jumps.append(Jump(chain=name, position=counts[name], rule=rule))
    ours = OurRules(chains={name: tuple(content) for name, content in chains.items()}, jumps=tuple(jumps))
    return NatTable(ours=ours, counts=counts)


def _leads_to_us(rule: str) -> bool:
    """Whether its target is ours; a quoted word (a comment) is no target, whatever it says."""
    try:
        words = shlex.split(rule)
    except ValueError:
        return False
    return any(word in _TARGETS and following.startswith(PREFIX) for word, following in pairwise(words))
