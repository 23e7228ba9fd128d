"""Outbound: each connection of the app to a mesh service becomes a stream of a link. Adapter.

Explicit mode: a local listening port an upstream. Transparent: what the kernel redirects to the outbound port comes by
``sidecar.interception``, for which this class is the router; it may also lead outside the mesh, by an egress rule.

An app connection to an opaque port opens its stream at once, since the server may speak first. One to an HTTP port
opens it with the first bytes of a request, so that a refusal always finds a request to answer
(``sidecar.outbound_http``).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from ringfence.kit.addresses import SocketAddress
from ringfence.policy.decide import Deny, Permit
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import EgressRule, Protocol, Upstream
from ringfence.spiffe import SpiffeId
from sidecar import http2, refusal
from sidecar.balance import Member
from sidecar.detections import Detections
from sidecar.egress import EgressFlow
from sidecar.egress_judge import EgressJudge
from sidecar.egress_relay import EgressRelay
from sidecar.first_bytes import Spoken
from sidecar.forward_proxy import ForwardProxy
from sidecar.http1 import Heads
from sidecar.http2_relay import Http2Relay
from sidecar.interception import Destination, DestinationOf, Intercepted
from sidecar.listening import Listen, listen, listen_failed
from sidecar.live import LiveRelays
from sidecar.mesh_names import MeshNames
from sidecar.openers import Openers
from sidecar.outbound_detection import OutboundDetection
from sidecar.outbound_direct import DirectDialler
from sidecar.outbound_http import OutboundHttpRelay
from sidecar.outbound_http2 import OutboundHttp2Relay
from sidecar.outbound_relay import OutboundOpaqueRelay, OutboundRelay
from sidecar.outbound_split import OutboundSplitRelay
from sidecar.proxy_routes import OutboundParts, ProxyRoutes, RelayMaker
from sidecar.recording import Recorder, new_request_id
from sidecar.redirect.canary import CANARIES
from sidecar.redirect_check import RedirectCheck
from sidecar.relay import Relay, RelayFacts, TurnedAway
from sidecar.routed_relay import accept_limit
from sidecar.sniff import Sniffed
from sidecar.target import Target, link_limits
from sidecar.targets import Targets
from sidecar.tls import TlsIdentity
from sidecar.tunnel.link import Link
from sidecar.tunnel.link_context import LinkContext
from sidecar.tunnel.pool import Pool

RELAY_LIMIT: Final = 16_384
_CANARIES: Final = frozenset((canary.address, canary.port) for canary in CANARIES)
OUTSIDE: Final = "outside"  # the service, in logs and metrics, of what is no service of the mesh
AnyOutbound = OutboundRelay | OutboundSplitRelay
_REASONS: Final[dict[str, DenyReason]] = {reason.value: reason for reason in DenyReason}


class Outbound:
    """The outbound side of the sidecar: its listeners, the pool of links, the relays."""

    def __init__(
        self,
        *,
        context: LinkContext,
        identity: Callable[[], TlsIdentity],
        recorder: Recorder,
        own_id: SpiffeId,
        listen: Listen = listen,
        resolvers: Collection[str] = (),
    ) -> None:
        self._context = context
        self._recorder = recorder
        self._own_id = own_id
        self._listen = listen
        self._upstreams: dict[Destination, Upstream] = {}
        self._targets = Targets(recorder.metrics)
        self._detections = Detections(recorder)
        self._egress = EgressJudge(context.clock.now, resolvers)
        self._servers: dict[Destination, asyncio.Server] = {}
        self._intercepting: list[asyncio.Server] = []
        self.undecided: set[Intercepted] = set()
        self._draining = False
        self.redirect_check: RedirectCheck | None = None
        self._heads = Heads(refusal_name=refusal.HEADER)
        self._heads2 = http2.Heads(refusal_name=refusal.HEADER)
        tunnels = recorder.metrics.tunnels.at("outbound")

        def established() -> None:
            tunnels.value += 1

        self.pool = Pool(context=context, identity=identity, established=established, draining=self._link_draining)
        self.direct = DirectDialler(context=context, identity=identity)
        self._openers = Openers(pool=self.pool, direct=self.direct, monotonic=context.clock.monotonic)
        self.relays: LiveRelays[Upstream | EgressFlow] = LiveRelays()
        self._proxied = ProxyRoutes(self._lent())
        self.proxy = ForwardProxy(self._proxied, listen)
        self._proxied.is_own = self.proxy.is_own

    def _lent(self) -> OutboundParts:
        """To the forward proxy."""
        return OutboundParts(
            owner=self,
            openers=self._openers,
            recorder=self._recorder,
            own_id=str(self._own_id),
            unwilling=self._unwilling,
            facts=self._facts,
            lead=self._to_upstream,
            usual=self._relay,
            egress=self._egress,
            lead_outside=self._let_out,
            deny=self._deny,
            outside=OUTSIDE,
        )

    # -- upstreams ----------------------------------------------------------------------------------------------------

    async def prepare(self, upstreams: Sequence[Upstream]) -> None:
        """Open the listening ports that are not open yet; ListenFailedError if one is taken, and none is opened then.

        Until ``enforce`` names their upstream, a connection to a new port is closed at once.
        """
        opened: list[Destination] = []
        for upstream in upstreams:
            where = (upstream.listen_host, upstream.listen_port)
            if where in self._servers or not upstream.has_listener:
                continue
            try:
                self._servers[where] = await self._listen(self._acceptor(where), *where, backlog=1024)
            except OSError as error:
                for done in opened:
                    self._servers.pop(done).close()
                name = f"upstream {upstream.namespace}/{upstream.service}"
                raise listen_failed(f"{name}, listen {where[0]}:{where[1]}", error) from error
            opened.append(where)

    async def intercept(self, port: int, destination_of: DestinationOf) -> None:
        """Take the app's redirected connections on loopback ``port``, IPv4 and, where there is any, IPv6."""

        def accept() -> asyncio.BaseProtocol:
            if self._draining or self._full:
                return self._turned_away("")
            return Intercepted(self, destination_of, self.undecided)

        for host in ("127.0.0.1", "::1"):
            try:
                self._intercepting.append(await self._listen(accept, host, port, backlog=1024))
            except OSError as error:
                if host == "::1" and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # a machine without IPv6 has none to redirect either
                for server in self._intercepting:
                    server.close()
                self._intercepting.clear()
                raise listen_failed(f"intercept, outbound port {host}:{port}", error) from error

    def enforce(
        self, upstreams: Sequence[Upstream], egress: Sequence[EgressRule] = (), observe_until: float | None = None
    ) -> None:
        """The upstreams and egress rules in force from now on; what they no longer lead to or permit ends.
        ``observe_until`` (Unix seconds): till then what no egress rule permits passes."""
        self._upstreams = {(up.listen_host, up.listen_port): up for up in upstreams if up.has_listener}
        self.discard()
        self._egress.enforce(egress, observe_until)
        self._proxied.names = MeshNames(upstreams, self._own_id.namespace)
        self._targets.enforce(upstreams, self._context.clock.monotonic())

        def rejudge(relay: Relay, leads: Upstream | EgressFlow) -> None:
            if isinstance(leads, EgressFlow):
                self._rejudge_egress(relay, leads, "the egress rules changed")
            elif not self._targets.names(leads):
                relay.end(DenyReason.PORT_NOT_ALLOWED, "the upstream is gone")
            elif isinstance(relay, OutboundSplitRelay | OutboundHttp2Relay):
                relay.endpoints_changed()

        self.relays.each(rejudge)
        limits = link_limits(upstreams)
        self.pool.keep(limits)
        self.direct.keep(limits)

    def _rejudge_egress(self, relay: Relay, flow: EgressFlow, occasion: str) -> None:
        permit = self._egress.again(flow)
        if permit is not None:
            relay.facts.decision = permit
            return
        self._deny(relay.facts, DenyReason.EGRESS_NOT_ALLOWED, occasion)
        relay.end(DenyReason.EGRESS_NOT_ALLOWED, occasion)

    def time_passed(self) -> None:
        """What passed for a time only may not pass any more."""

        def rejudge(relay: Relay, leads: Upstream | EgressFlow) -> None:
            if isinstance(leads, EgressFlow):
                self._rejudge_egress(relay, leads, "its time is over")

        self.relays.each(rejudge)

    def reverify(self) -> None:
        """New bundles: what leads to a peer that is no longer trusted ends."""
        self.pool.reverify()
        self.direct.reverify()

    @property
    def targets(self) -> Collection[Target]:
        """Of all upstreams."""
        return self._targets.all

    def discard(self) -> None:
        """Close the listening ports that lead to no upstream in force."""
        for where in self._servers.keys() - self._upstreams.keys():
            self._servers.pop(where).close()

    def _acceptor(self, where: Destination) -> Callable[[], asyncio.BaseProtocol]:
        def accept() -> asyncio.BaseProtocol:
            upstream = self._upstreams.get(where)
            service = f"{upstream.namespace}/{upstream.service}" if upstream is not None else ""
            if upstream is None or self._draining or self._full:
                return self._turned_away(service)
            return self._to_upstream(upstream) or self._turned_away(service)

        return accept

    @property
    def _full(self) -> bool:
        return len(self.relays) + len(self.undecided) + len(self.proxy.undecided) >= RELAY_LIMIT

    def _unwilling(self) -> DenyReason | None:
        return DenyReason.DRAINING if self._draining else DenyReason.OVERLOADED if self._full else None

    def _turned_away(self, service: str) -> asyncio.BaseProtocol:
        """Close what comes now, and count it; there may be too many of them to log."""
        reason = self._unwilling() or DenyReason.UPSTREAM_UNREACHABLE
        self._recorder.metrics.denials.at("outbound", "", service, reason).value += 1
        return TurnedAway()

    def _to_upstream(self, upstream: Upstream, made: RelayMaker | None = None) -> Relay | None:
        return self._to_target(self._targets.of(upstream), made)

    def _to_target(self, target: Target, made: RelayMaker | None = None) -> Relay | None:
        member = target.balancer.choose(self._context.clock.monotonic())
        if member is None:
            return None
        let_in = accept_limit(target)
        relay = (made or self._relay)(target, member)
        relay.shut_out = not let_in
        self.relays.add(relay, target.upstream)
        return relay

    # -- interception -------------------------------------------------------------------------------------------------

    def tried(self, destination: Destination, remote: Destination) -> bool:
        if destination not in _CANARIES:
            return False
        if self.redirect_check is not None:
            self.redirect_check.arrived(remote)
        return True

    def leads_to_mesh(self, destination: Destination) -> bool:
        return self._targets.reached_by(destination) is not None

    def upstream_relay(self, destination: Destination) -> Relay | None:
        target = self._targets.at(destination, self._context.clock.monotonic())
        return self._to_target(target) if target is not None else None

    def egress_by_address(self, destination: Destination) -> Relay | None:
        return self._to_outside(self._egress.by_address(*destination), "", destination, b"")

    def host_seconds(self, destination: Destination) -> float:
        return self._egress.host_seconds(destination[1])

    def egress_by_host(self, destination: Destination, told: Sniffed, first: bytes) -> Relay | None:
        return self._to_outside(self._egress.by_host(told.host, destination[1]), told.host, destination, first)

    def egress_observed(self, destination: Destination, first: bytes) -> Relay | None:
        return self._to_outside(self._egress.observed, "", destination, first)

    def _to_outside(self, permit: Permit | None, host: str, destination: Destination, first: bytes) -> Relay | None:
        if permit is None:
            return None
        address, port = destination
        facts = self._facts("", OUTSIDE, port, "tcp")
        facts.destination = str(SocketAddress(host or address, port))
        relay = EgressRelay(self, facts, host or address, port, first)
        relay.dialled = not host
        self._let_out(relay, permit, EgressFlow(address=address, host=host, port=port))
        return relay

    def _let_out(self, relay: Relay, permit: Permit, flow: EgressFlow) -> None:
        """Register what leads outside the mesh."""
        relay.facts.decision = permit
        if permit.would_deny is not None:
            self._recorder.remarks.would_deny(relay.facts, permit)
        self.relays.add(relay, flow)

    def denied(self, destination: Destination, reason: DenyReason, detail: str) -> None:
        upstream = self._targets.reached_by(destination)
        if upstream is not None:
            facts = self._facts("", f"{upstream.namespace}/{upstream.service}", upstream.port, upstream.protocol)
        else:
            facts = self._facts("", OUTSIDE, destination[1], "tcp")
        facts.destination = str(SocketAddress(*destination)) if destination[0] else ""
        self._deny(facts, reason, detail)

    def _deny(self, facts: RelayFacts, reason: DenyReason, detail: str) -> None:
        facts.decision = decision = Deny(reason)
        facts.request_id = new_request_id()
        facts.origin = str(self._own_id)
        self._recorder.connection_denied(facts, decision, detail=detail)

    def _facts(self, peer: str, service: str, port: int, protocol: str) -> RelayFacts:
        return RelayFacts(
            direction="outbound",
            peer=peer,
            service=service,
            port=port,
            protocol=protocol,
            started=self._context.clock.monotonic(),
        )

    def _relay(self, target: Target, member: Member) -> AnyOutbound:
        return self._speaking(target.upstream.protocol, target, member)

    def _speaking(self, protocol: Protocol, target: Target, member: Member) -> AnyOutbound:
        facts = self._facts(str(member.endpoint.spiffe_id), target.service, target.upstream.port, protocol)
        own_id = str(self._own_id)
        if protocol is Protocol.HTTP:
            return OutboundHttpRelay(self, facts, self._openers, target, member, self._heads, self._recorder, own_id)
        if protocol is Protocol.TCP:
            return OutboundOpaqueRelay(self, facts, self._openers, target, member)
        if protocol is Protocol.AUTO:
            return OutboundDetection(self, facts, self._openers, target, member, self._detections)
        if target.balancer.single is None:
            return OutboundSplitRelay(self, facts, self._openers, target, self._heads2, self._recorder, own_id)
        return OutboundHttp2Relay(self, facts, self._openers, target, member, self._heads2, self._recorder, own_id)

    # -- upstreams of protocol auto -----------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        return self._draining

    def begin_anew(self, before: OutboundDetection, spoken: Spoken) -> Relay | None:
        before.leave_target()
        made, lent = partial(self._speaking, Protocol(spoken)), before.lent
        relay = self._to_target(before.target, made if lent is None else lambda target, _: made(target, lent))
        if relay is not None:
            relay.facts.started = before.facts.started
            if isinstance(relay, Http2Relay):
                relay.name_protocol = True
            self.relays.discard(before)
        return relay

    async def close(self, drain_seconds: float) -> None:
        """Take nothing new, let what lives end within ``drain_seconds``, then end it."""
        self._draining = True
        for server in (*self._servers.values(), *self._intercepting):
            server.close()
        for undecided in list(self.undecided):
            undecided.turn_away()
        self.proxy.close()
        self.relays.drain()
        await self.relays.drained(drain_seconds)
        self.relays.each(lambda relay, _: relay.end(DenyReason.DRAINING, "the sidecar stops"))
        self.pool.close(DenyReason.DRAINING, "the sidecar stops")
        self.direct.close()

    # -- relays -------------------------------------------------------------------------------------------------------

    def _link_draining(self, link: Link) -> None:
        """HTTP moves to another link between requests; what is opaque stays to its end."""

        def drain(relay: Relay, _: object) -> None:
            if isinstance(relay, OutboundSplitRelay) or (isinstance(relay, OutboundRelay) and relay.uses(link)):
                relay.move_from(link)

        self.relays.each(drain)

    def relay_connected(self, relay: Relay) -> None:
        """The app came to us: nothing waits for it."""

    def relay_ended(self, relay: Relay, reason: str, detail: str) -> None:
        self.relays.discard(relay)
        facts = relay.facts
        if reason not in ("closed", "reset") and not facts.request_id:
            facts.request_id = new_request_id()
        if facts.decision is None and facts.origin and reason in _REASONS:
            facts.decision = Deny(_REASONS[reason])
        self._recorder.connection_ended(facts, reason, detail)

    def relay_failed(self, relay: Relay, error: Exception) -> None:
        self._recorder.defect(relay.facts, error)
