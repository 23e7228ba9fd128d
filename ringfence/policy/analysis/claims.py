"""What can be claimed of the calls of a mesh. Values; read by ``invariants``, answered by ``proving``. Pure.

A scope is a rule that stands for the calls that it speaks of: its words mean what they mean in an allowlist.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.policy.model import Callers, Rule, TokenMatch
from ringfence.policy.problems import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPath:
    """None of ``callers`` gets to the services, be it by way of others, but by way of one of ``through``."""

    callers: tuple[Callers, ...]
    through: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """No call of ``scope`` is permitted."""

    scope: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted:
    """Each call of ``scope`` is permitted."""

    scope: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Requires:
    """Each permitted call of ``scope`` is by one of ``callers``, and has such a token; None: or none."""

    scope: Rule
    callers: tuple[Callers, ...]
    token: TokenMatch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """Each permitted call of ``scope`` is by one of ``callers``."""

    scope: Rule
    callers: tuple[Callers, ...]


Claim = NoPath | Denied | Permitted | Requires | Only


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A claim about the calls to ``services`` (full names); ``place`` is that of its name."""

    name: str
    place: Place
    services: tuple[str, ...]
    claim: Claim
