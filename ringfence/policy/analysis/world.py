"""What questions about policy are asked of: the services of a mesh, and the policy that is in force at each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ringfence.policy.bound import PartlyDenied
from ringfence.policy.model import Allowlist, Denylist, PolicySet, Rule, TokenIssuer
from ringfence.policy.problems import Place
from ringfence.spiffe import SpiffeId, TrustDomain

OPAQUE: Final = "tcp"
_ALWAYS_HTTP: Final = frozenset(("http", "http2", "grpc"))


class Effect(StrEnum):
    """What a rule does to the calls that it speaks of."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldPort:
    """A port of a service: ``protocol`` as in the mesh file; ``permissive``: it takes callers without an identity."""

    port: int
    protocol: str
    permissive: bool = False

    @property
    def is_http(self) -> bool:
        """Whether its bytes are always judged request by request."""
        return self.protocol in _ALWAYS_HTTP

    @property
    def may_be_http(self) -> bool:
        """Whether words that speak of requests mean anything on it."""
        return self.protocol != OPAQUE


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldService:
    """A service and all that decides about calls to it; ``shadow`` is judged beside ``policy`` and never enforced.

    Without a sidecar it judges its callers itself, and no policy of the mesh is enforced there. ``other_ids``: those
    that workloads of it bear beside ``spiffe_id``. ``partly``: what some of its workloads refuse beside ``policy``,
    which all of them hold to: whoever proves something counts on it nowhere.
    """

    namespace: str
    name: str
    spiffe_id: SpiffeId
    labels: tuple[tuple[str, str], ...] = ()
    ports: tuple[WorldPort, ...] = ()
    policy: PolicySet = field(default_factory=PolicySet)
    shadow: PolicySet | None = None
    token_issuers: tuple[TokenIssuer, ...] = ()
    has_sidecar: bool = True
    other_ids: tuple[SpiffeId, ...] = ()
    partly: tuple[PartlyDenied, ...] = ()

    @property
    def identities(self) -> tuple[SpiffeId, ...]:
        """All that its workloads bear."""
        return (self.spiffe_id, *self.other_ids)

    @property
    def full_name(self) -> str:
        """``<namespace>/<name>``, unique in the mesh."""
        return f"{self.namespace}/{self.name}"

    def port(self, number: int) -> WorldPort | None:
        """The port of that number."""
        return next((port for port in self.ports if port.port == number), None)

    @property
    def http_ports(self) -> frozenset[int]:
        """Those on which no connection passes unread."""
        return frozenset(port.port for port in self.ports if port.is_http)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRule:
    """A rule with the document that it stands in; ``policy`` is ``<namespace>/<name>``."""

    effect: Effect
    policy: str
    rule: Rule

    @property
    def full_name(self) -> str:
        """As decisions name it: ``<namespace>/<name>/<rule>``."""
        return f"{self.policy}/{self.rule.name}"


def rules_of(policy: PolicySet) -> tuple[NamedRule, ...]:
    """All rules in the order in which the first of several is named: denylists first, then by name."""
    return (*_named(Effect.DENY, policy.denylists), *_named(Effect.ALLOW, policy.allowlists))


def _named(effect: Effect, lists: tuple[Allowlist, ...] | tuple[Denylist, ...]) -> Iterator[NamedRule]:
    found = [NamedRule(effect=effect, policy=one.full_name, rule=rule) for one in lists for rule in one.rules]
    yield from sorted(found, key=lambda named: (named.policy, named.rule.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A mesh as its policy sees it. ``places``: where each rule stands, by effect and full name, as far as known."""

    trust_domain: TrustDomain
    services: tuple[WorldService, ...]
    root_namespace: str = "ringfence-system"
    places: Mapping[tuple[Effect, str], Place] = field(default_factory=lambda: MappingProxyType({}))

    def service(self, full_name: str) -> WorldService | None:
        """The service of that full name."""
        return next((service for service in self.services if service.full_name == full_name), None)

    def service_of(self, spiffe_id: SpiffeId) -> WorldService | None:
        """The service that bears an identity; of several that share it on a platform the first by name."""
        return next((service for service in self.services if spiffe_id in service.identities), None)

    def in_shadow(self) -> World:
        """The world as it would be with every shadow policy in force; services without one stay as they are."""
        services = (
            replace(one, policy=one.shadow, shadow=None) if one.shadow is not None else one for one in self.services
        )
        return replace(self, services=tuple(services))

    def place(self, named: NamedRule) -> Place | None:
        """Where a rule stands."""
        return self.places.get((named.effect, named.full_name))
