"""A call as a value, and its verdict: by the engine and the order of steps that sidecars enforce. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ringfence.policy.analysis.world import World, WorldService
from ringfence.policy.compile import compile_policy
from ringfence.policy.decide import DecisionTable
from ringfence.policy.decision import Decision, Deny
from ringfence.policy.facts import KnownFacts, Token
from ringfence.policy.model import PolicySet
from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import SpiffeId, TrustDomain

_NO_PORT: Final = Deny(DenyReason.NOT_OWN_ADDRESS)
_STRICT: Final = Deny(DenyReason.PLAINTEXT_REFUSED)


class UnknownServiceError(ValueError):
    """The world has no service of that name, or none that enforces policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, or with ``opaque`` one connection whose bytes are no HTTP, to ``service`` (its full name).

    ``caller`` is None without an identity; ``address`` is the direct peer's, "" if not known, which lies in no CIDR.
    ``path`` is the target in origin form. ``headers``: names in any case, in order. ``token`` has been verified, or
    refused, already. ``time``: Unix seconds.
    """

    caller: SpiffeId | None
    service: str
    port: int
    address: str = ""
    method: str = "GET"
    path: str = "/"
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    token: Token = None
    time: float = 0.0
    opaque: bool = False

    @property
    def facts(self) -> KnownFacts:
        """What it says beyond its caller, port, method and path."""
        if self.opaque:
            return KnownFacts(now=self.time)
        headers: dict[bytes, list[bytes]] = {}
        for name, value in self.headers:
            headers.setdefault(name.encode().lower(), []).append(value.encode())
        return KnownFacts(now=self.time, host=self.host.encode().lower(), headers=headers, known_token=self.token)


class Judge:
    """Judges calls in one world; each service's policy is compiled once."""

    def __init__(self, world: World) -> None:
        self._trust_domain = world.trust_domain
        self._services = {service.full_name: service for service in world.services}
        self._in_force: dict[str, DecisionTable] = {}
        self._shadow: dict[str, DecisionTable | None] = {}

    def judge(self, call: Call) -> Decision:
        """The verdict in force. Raises UnknownServiceError."""
        service = self._service(call)
        table = self._in_force.get(call.service)
        if table is None:
            table = self._in_force[call.service] = compile_for(service, service.policy, self._trust_domain)
        return decide(table, service, call)

    def shadow(self, call: Call) -> Decision | None:
        """The verdict of the service's shadow policy; None where it has none. Raises UnknownServiceError."""
        service = self._service(call)
        if call.service not in self._shadow:
            shadow = service.shadow
            made = compile_for(service, shadow, self._trust_domain) if shadow is not None else None
            self._shadow[call.service] = made
        table = self._shadow[call.service]
        return decide(table, service, call) if table is not None else None

    def _service(self, call: Call) -> WorldService:
        service = self._services.get(call.service)
        if service is None:
            raise UnknownServiceError(f"there is no service {call.service}")
        if not service.has_sidecar:
            raise UnknownServiceError(f"service {call.service} has no sidecar: it judges its callers itself")
        return service


def judge(world: World, call: Call) -> Decision:
    """The verdict in force on one call; whoever has several makes a ``Judge``."""
    return Judge(world).judge(call)


def compile_for(service: WorldService, policy: PolicySet, trust_domain: TrustDomain) -> DecisionTable:
    """The table by which ``service`` would enforce ``policy``."""
    return compile_policy(
        policy,
        trust_domain=trust_domain,
        http_ports=service.http_ports,
        maybe_http_ports=[port.port for port in service.ports if port.may_be_http and not port.is_http],
        service=service.full_name,
        labels=service.labels,
        issuers=service.token_issuers,
    )


def decide(table: DecisionTable, service: WorldService, call: Call) -> Decision:
    """The verdict of ``table`` after what a sidecar looks at before it: the port, and who may come to it at all."""
    port = service.port(call.port)
    if port is None:
        return _NO_PORT
    if call.caller is None and not port.permissive:
        return _STRICT
    view = table.caller(call.caller, call.address)
    if call.opaque or not port.may_be_http:
        return view.connection(call.port, replace(call, opaque=True).facts)
    return view.request(call.port, call.method.encode(), call.path.encode(), call.facts)
