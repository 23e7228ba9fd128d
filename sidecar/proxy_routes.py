"""Where requests to the forward proxy lead: the upstreams that the workload declares, and what its egress rules permit.
Adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ringfence.policy.decide import Permit
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Protocol, Upstream
from sidecar import refusal
from sidecar.balance import Member
from sidecar.egress import EgressFlow
from sidecar.egress_judge import EgressJudge
from sidecar.egress_relay import EgressOwner
from sidecar.mesh_names import MeshNames
from sidecar.openers import Openers
from sidecar.outbound_relay import OutboundRelay
from sidecar.outbound_split import OutboundSplitRelay
from sidecar.proxied_relay import (
    ConnectEgressRelay,
    ConnectRelay,
    ForwardEgressRelay,
    ForwardHttpRelay,
    TakeOver,
    forward_heads,
)
from sidecar.proxy_request import Asked
from sidecar.recording import Recorder
from sidecar.refusal import Refusal
from sidecar.relay import Relay, RelayFacts
from sidecar.target import Target

RelayMaker = Callable[[Target, Member], OutboundRelay | OutboundSplitRelay]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundParts:
    """What the outbound side lends."""

    owner: EgressOwner
    openers: Openers
    recorder: Recorder
    own_id: str
    unwilling: Callable[[], DenyReason | None]
    facts: Callable[[str, str, int, str], RelayFacts]  # peer, service, port, protocol
    lead: Callable[[Upstream, RelayMaker], Relay | None]  # registers the relay that is made
    usual: RelayMaker
    egress: EgressJudge
    lead_outside: Callable[[Relay, Permit, EgressFlow], None]  # registers it
    deny: Callable[[RelayFacts, DenyReason, str], None]
    outside: str  # in place of a service


class ProxyRoutes:
    """The forward proxy's router (``sidecar.forward_proxy.ProxyRouter``)."""

    def __init__(self, parts: OutboundParts) -> None:
        self._parts = parts
        self._heads = forward_heads(refusal.HEADER)
        self._outside_heads = forward_heads(None)
        self.names = MeshNames()
        self.is_own: Callable[[tuple[str, int]], bool] = lambda _: False
        """Whether a connection there would come back to the proxy."""

    @property
    def unwilling(self) -> DenyReason | None:
        return self._parts.unwilling()

    def named(self, asked: Asked) -> Upstream | None:
        return self.names.find(asked.host, asked.port)

    def proxied(self, upstream: Upstream, asked: Asked, take_over: TakeOver) -> Relay | None:
        parts = self._parts

        def made(target: Target, member: Member) -> OutboundRelay | OutboundSplitRelay:
            if asked.tunnel and upstream.protocol is not Protocol.TCP:
                return parts.usual(target, member)
            protocol = (
                upstream.protocol if asked.tunnel else Protocol.HTTP
            )  # a request in absolute form is nothing else
            facts = parts.facts(str(member.endpoint.spiffe_id), target.service, upstream.port, protocol)
            if asked.tunnel:
                relay = ConnectRelay(parts.owner, facts, parts.openers, target, member)
                relay.own_id = parts.own_id
                return relay
            rest = (parts.openers, target, member, self._heads, parts.recorder, parts.own_id)
            http = ForwardHttpRelay(parts.owner, facts, *rest)
            http.asked, http.take_over = asked, take_over
            return http

        return parts.lead(upstream, made)

    def proxied_outside(self, asked: Asked, take_over: TakeOver) -> Relay | None:
        parts, port = self._parts, asked.port or 80
        host, address = asked.host, ""
        permit = parts.egress.by_host(host, port)
        if permit is None:
            host, address = "", asked.host
            permit = parts.egress.by_address(address, port) or parts.egress.observed
        if permit is None:
            return None
        facts = parts.facts("", parts.outside, port, "tcp" if asked.tunnel else "http")
        facts.destination = str(asked)
        relay: ConnectEgressRelay | ForwardEgressRelay
        if asked.tunnel:
            relay = ConnectEgressRelay(parts.owner, facts, asked.host, port)
            relay.own_id = parts.own_id
        else:
            own = (self._outside_heads, parts.recorder, parts.own_id)
            relay = ForwardEgressRelay(parts.owner, facts, asked.host, port, *own)
            relay.asked, relay.take_over = asked, take_over
        relay.forbidden = self.is_own
        parts.lead_outside(relay, permit, EgressFlow(address=address, host=host, port=port))
        return relay

    def proxied_denied(self, asked: Asked | None, reason: DenyReason, detail: str) -> Refusal:
        parts = self._parts
        facts = parts.facts("", parts.outside, (asked.port if asked is not None else 0) or 0, "http")
        facts.destination = str(asked) if asked is not None else ""
        parts.deny(facts, reason, detail)
        return Refusal(reason=reason, request_id=facts.request_id, origin=facts.origin)
