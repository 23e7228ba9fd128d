"""What would have to differ in a call for one rule to speak of it: part by part, and as a call that it does speak of.

Each part is asked of the engine (``matching``). Where the rule does not take what the call says, the difference is told
and the call is mended by an example of what the rule takes; the mended call is asked of the whole rule in the end, so
that what is shown as enough is enough. What a condition wants cannot be made up: such a rule has no mended call. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.matching import OPEN, Matcher
from ringfence.policy.analysis.world import NamedRule, WorldPort


class Dimension(StrEnum):
    """The parts of a call, in the order in which differences are told."""

    CALLER = "caller"
    ADDRESS = "address"
    PORT = "port"
    PROTOCOL = "protocol"
    METHOD = "method"
    PATH = "path"
    HOST = "host"
    HEADER = "header"
    TOKEN = "token"
    ISSUER = "issuer"
    SCOPE = "scope"
    CLAIM = "claim"
    ACR = "acr"
    AMR = "amr"
    AUTH_AGE = "auth_age"
    CONDITION = "condition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where a call and a rule part: ``has`` is what the call says, ``wants`` what the rule takes, any one of it.

    ``name``: which header or claim. Both texts are as a person reads them.
    """

    dimension: Dimension
    has: str
    wants: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearRule:
    """A rule that does not speak of a call, and why; ``mended`` is one that it would speak of, None where only its
    author can tell."""

    named: NamedRule
    differences: tuple[Difference, ...]
    mended: Call | None


class Mending:
    """A call on its way to what one rule takes, with what had to be changed so far."""

    def __init__(self, matcher: Matcher, named: NamedRule, call: Call) -> None:
        self.matcher = matcher
        self.named = named
        self.rule = named.rule
        self.call = call
        self.differences: list[Difference] = []
        self.hopeless = False

    def differ(self, difference: Difference, mended: Call | None) -> None:
        """Tell a difference, and go on with the call changed by it; None: nothing that is known would do."""
        self.differences.append(difference)
        if mended is None:
            self.hopeless = True
        else:
            self.call = mended

    def takes(self, **part: Any) -> bool:
        """Whether the rule would take the call as far as it is mended, had it only ``part``."""
        return self.matcher.takes(replace(OPEN, **part), self.call)

    def takes_at(self, path: str, **part: Any) -> bool:
        """The same, were the call to ``path``."""
        return self.matcher.takes(replace(OPEN, **part), replace(self.call, path=path))


def port_of(matcher: Matcher, call: Call) -> WorldPort | None:
    """The port that a call comes to."""
    return matcher.service.port(call.port)


def as_carried(matcher: Matcher, call: Call) -> Call:
    """The call as its port reads it: on an opaque one nothing is HTTP."""
    port = port_of(matcher, call)
    return replace(call, opaque=True) if port is not None and not port.may_be_http else call


def listed(words: Iterable[object]) -> tuple[str, ...]:
    """Words as texts."""
    return tuple(str(word) for word in words)
