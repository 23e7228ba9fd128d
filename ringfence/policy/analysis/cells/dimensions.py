"""In what ways calls differ for rules, in the order of the reasons for which one is refused. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from ringfence.policy.analysis.cells.requests import grpc_patterns, path_patterns
from ringfence.policy.analysis.cells.segments import SegmentPattern
from ringfence.policy.analysis.world import Effect, WorldService
from ringfence.policy.conditions import Conditions
from ringfence.policy.model import NarrowedCallers, PolicySet, Rule
from ringfence.spiffe import TrustDomain


class Kind(IntEnum):
    """The dimensions; the order is that of ``DenyReason``, so that what ends in a cell ended there for one reason."""

    CALLER = 0
    ADDRESS = 1
    PORT = 2
    PATH = 3
    METHOD = 4
    HOST = 5
    HEADER = 6
    TOKEN = 7
    ISSUER = 8
    SCOPE = 9
    CLAIM = 10
    ACR = 11
    AMR = 12
    AGE = 13
    WHEN = 14


class Dimension(NamedTuple):
    """A kind, and which header, scope, claim, method of authentication or condition it is about."""

    kind: Kind
    name: str = ""


CALLER: Final = Dimension(Kind.CALLER)
ADDRESS: Final = Dimension(Kind.ADDRESS)
PORT: Final = Dimension(Kind.PORT)
PATH: Final = Dimension(Kind.PATH)
METHOD: Final = Dimension(Kind.METHOD)
HOST: Final = Dimension(Kind.HOST)
TOKEN: Final = Dimension(Kind.TOKEN)
ISSUER: Final = Dimension(Kind.ISSUER)
ACR: Final = Dimension(Kind.ACR)
AGE: Final = Dimension(Kind.AGE)

GRPC_METHOD: Final = "POST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the policies that are looked at together: of ``service``, None where the mesh does not have it."""

    trust_domain: TrustDomain
    service: WorldService | None
    policy: PolicySet

    @property
    def issuers(self) -> frozenset[str]:
        """Whose tokens are believed; a token of anybody else is as good as none."""
        return frozenset(one.name for one in self.service.token_issuers) if self.service is not None else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class SideRule:
    """A rule of the side at ``side``, with the dimensions in which it says something.

    ``calls``: the paths of its gRPC methods. ``reads_requests``: it speaks of requests alone.
    ``refuses_unread``: the ports at which it refuses whatever nobody reads, since that may be a request which its
    condition refuses.
    """

    side: int
    effect: Effect
    rule: Rule
    paths: frozenset[SegmentPattern]
    calls: frozenset[SegmentPattern]
    reads_requests: bool
    refuses_unread: frozenset[int]
    dimensions: frozenset[Dimension]


def side_rules(sides: Sequence[Side]) -> tuple[SideRule, ...]:
    """The rules of all sides."""
    found = []
    differ = len({side.issuers for side in sides}) > 1
    for at, side in enumerate(sides):
        for effect, lists in ((Effect.DENY, side.policy.denylists), (Effect.ALLOW, side.policy.allowlists)):
            for one in lists:
                for rule in one.rules:
                    found.append(
                        SideRule(
                            side=at,
                            effect=effect,
                            rule=rule,
                            paths=path_patterns(rule),
                            calls=grpc_patterns(rule),
                            reads_requests=rule.speaks_http or (effect is Effect.ALLOW and reads_requests(rule.when)),
                            refuses_unread=_unread(side, rule) if effect is Effect.DENY else frozenset(),
                            dimensions=frozenset(_dimensions(rule, issuers_differ=differ)),
                        )
                    )
    return tuple(found)


def _unread(side: Side, rule: Rule) -> frozenset[int]:
    if side.service is None or not reads_requests(rule.when):
        return frozenset()
    return frozenset(port.port for port in side.service.ports if port.may_be_http and not port.is_http)


@lru_cache(maxsize=10_000)
def reads_requests(when: str) -> bool:
    """Whether a condition reads what only requests have, so that with it no rule permits opaque TCP."""
    return bool(when) and Conditions().compile(when).reads_call


def _dimensions(rule: Rule, *, issuers_differ: bool) -> Iterable[Dimension]:
    yield CALLER
    yield PORT
    if any(isinstance(callers, NarrowedCallers) for callers in rule.callers):
        yield ADDRESS
    if rule.paths or rule.grpc:
        yield PATH
    if rule.methods or rule.grpc:
        yield METHOD
    if rule.hosts:
        yield HOST
    for header in rule.headers:
        yield Dimension(Kind.HEADER, header.name)
    token = rule.token
    if token is not None:
        yield TOKEN
        if token.issuers or issuers_differ:
            yield ISSUER
        yield from (Dimension(Kind.SCOPE, scope) for scope in token.scopes)
        yield from (Dimension(Kind.CLAIM, name) for name, _ in token.claims)
        if token.acr:
            yield ACR
        yield from (Dimension(Kind.AMR, name) for name in token.amr)
        if token.max_age_seconds is not None:
            yield AGE
    if rule.when:
        yield Dimension(Kind.WHEN, rule.when)
