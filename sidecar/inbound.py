"""Inbound: links from other sidecars, each CONNECT judged, joined to the app behind this sidecar. Adapter.

A CONNECT registers, then is judged, then is judged again at each new policy (``enforce``). On an opaque port the stream
itself is judged; on an HTTP port the stream is let in and each request is judged in ``sidecar.inbound_http``. The
data goes on to the app through a relay; the way back is the same relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ringfence.policy.decide import DecisionTable, Deny
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Port, PortMode, Workload
from ringfence.spiffe import SpiffeId
from sidecar.authority import authority_of, connect_authority
from sidecar.caller import Caller
from sidecar.direct import DirectEnd
from sidecar.first_bytes import Spoken
from sidecar.http2.frames import NO_ERROR
from sidecar.inbound_callers import Callers
from sidecar.inbound_connects import AppConnects
from sidecar.inbound_detection import AnyInbound, HttpInbound, InboundDetection
from sidecar.inbound_direct import DirectCallers
from sidecar.inbound_http import InboundHttpRelay
from sidecar.inbound_http2 import InboundHttp2Relay
from sidecar.inbound_making import InboundRelays
from sidecar.inbound_refusals import InboundRefusals
from sidecar.inbound_relay import InboundOpaqueRelay, InboundRelay
from sidecar.interception import Destination
from sidecar.limits.limiter import Limiter
from sidecar.limits.paced import Paced, mesh_end
from sidecar.listening import Listen, listen, listen_on_all
from sidecar.live import LiveRelays
from sidecar.recording import Recorder
from sidecar.relay import Relay, RelayFacts, TurnedAway
from sidecar.tls import TlsIdentity
from sidecar.tokens.reader import NO_TOKENS, TokenReader
from sidecar.tunnel.link import Link
from sidecar.tunnel.link_context import LinkContext
from sidecar.tunnel.stream import Headers, Stream

LINK_LIMIT: Final = 1024
RELAY_LIMIT: Final = 16_384  # connections to the app, of all callers


class Inbound:
    """The inbound side of the sidecar: one listener, its links, their relays."""

    def __init__(
        self,
        *,
        context: LinkContext,
        identity: Callable[[], TlsIdentity],
        recorder: Recorder,
        own_id: SpiffeId,
        listen: Listen = listen,
        app_refused: Callable[[Port], None] = lambda _: None,
        limiter: Limiter | None = None,
        own_addresses: tuple[str, ...] = (),
    ) -> None:
        """``own_addresses``: of a pod, by any of which its callers may mean it."""
        self._context = context
        self._identity = identity
        self._recorder = recorder
        self._own_id = own_id
        self._listen = listen
        self._ports: dict[bytes, Port] = {}
        self.service = ""
        self._occasion = ""  # of the last time that what lives was judged again
        self.callers = Callers(own_id, recorder.remarks, context.clock.now)
        self._links: set[Link] = set()
        self._handshaking: dict[Link, None] = {}  # of those, in the order of their arrival
        self.direct = DirectCallers(self, context=context, identity=identity, recorder=recorder, listen=listen)
        self._servers: list[asyncio.Server] = []
        self._own_addresses = own_addresses
        self._draining = False
        self._limiter = limiter or Limiter(recorder.metrics, clock=context.clock)
        self._making = InboundRelays(self, recorder, str(own_id))
        self.refusals = InboundRefusals(recorder, str(own_id))
        self.connects = AppConnects(self.refusals, app_refused, self.relay_failed)
        self.relays: LiveRelays[Caller] = LiveRelays()

    # -- listening ----------------------------------------------------------------------------------------------------

    async def listen(self, host: str, port: int) -> None:
        """Open the mesh port, on ``host`` and, if that is an own address, on the others; OSError when it cannot be
        had."""
        others = self._own_addresses if host in self._own_addresses else ()
        self._servers = await listen_on_all(self._listen, self._accept, dict.fromkeys((host, *others)), port)

    def _accept(self) -> asyncio.BaseProtocol:
        full = len(self._links) >= LINK_LIMIT
        if self.callers.judging is None or self._draining or (full and not self._crowd_out()):
            reason = "draining" if self._draining else "no_snapshot" if self.callers.judging is None else "overloaded"
            self._context.count_failure("inbound", reason)
            return TurnedAway()
        link = Link(self._identity().server(), server=True, owner=self, context=self._context)
        self._links.add(link)
        self._handshaking[link] = None
        return link

    def _crowd_out(self) -> bool:
        """Make room for a newcomer: of the handshakes that are not over, the one that began first is given up.

        An honest one takes milliseconds, so whoever holds many open loses these and no other. False: all links are
        verified.
        """
        oldest = next(iter(self._handshaking), None)
        if oldest is None:
            return False
        self._context.count_failure("inbound", "crowded_out")
        oldest.close(DenyReason.OVERLOADED, "crowded out by newer handshakes")
        return True

    async def close(self, drain_seconds: float) -> None:
        """Take nothing new, let what lives end within ``drain_seconds``, then end it."""
        self._draining = True
        for server in self._servers:
            server.close()
        self.direct.stop()
        for link in list(self._links):
            link.drain()
        self.relays.drain()
        await self.relays.drained(drain_seconds)
        for link in list(self._links):
            link.close(DenyReason.DRAINING, "the sidecar stops")
        self.relays.each(lambda relay, _: relay.end(DenyReason.DRAINING, "the sidecar stops"))
        self.connects.stop_all()

    @property
    def links(self) -> frozenset[Link]:
        return frozenset(self._links)

    # -- policy -------------------------------------------------------------------------------------------------------

    def enforce(
        self,
        workload: Workload,
        table: DecisionTable,
        *,
        shadow: DecisionTable | None = None,
        tokens: TokenReader = NO_TOKENS,
    ) -> None:
        """A new snapshot: everything that lives is judged again, and exactly what is newly denied ends. ``shadow``:
        of the policy that is judged beside it."""
        self.callers.enforce(table, shadow, tokens)
        self.service = f"{workload.namespace}/{workload.service}"
        self._ports = {
            authority_of(address, port.port): port
            for port in workload.ports
            for address in (port.address, *self._own_addresses)
        }
        self._limiter.enforce(workload.ports)
        self._judge_again("policy changed")

    def time_passed(self) -> None:
        """A moment has come at which what passed so far may not pass any more."""
        if self.callers.judging is not None:
            self._judge_again("its time is over")

    async def look_at_time(self) -> None:
        """Judge again what lives and may have become denied by time alone, a few in each turn of the loop."""
        judging = self.callers.judging
        if judging is not None and judging.uses_time:
            self._occasion = "its time is over"
            await self.relays.each_in_turns(self._rejudge_timed)

    def _rejudge_timed(self, relay: Relay, caller: Caller) -> None:
        if not caller.plain:
            self._rejudge(relay, caller)

    def look_again(self, relay: Relay) -> None:
        """A token has been asked about."""
        assert isinstance(relay, InboundHttpRelay | InboundHttp2Relay)
        self._occasion = "its token was asked about again"
        self._rejudge(relay, relay.caller)

    def changes_at(self) -> float | None:
        """When ``time_passed`` is due, Unix seconds."""
        judging = self.callers.judging
        return judging.changes_at() if judging is not None else None

    def _judge_again(self, occasion: str) -> None:
        self._occasion = occasion
        self.callers.meet(*self.direct.callers)
        self.relays.each(self._rejudge, self._hurry)

    def _hurry(self) -> None:
        """Of many that end at once the first are told while the last are still judged."""
        for link in self.links:
            link.hurry()

    def _rejudge(self, relay: Relay, caller: Caller) -> None:
        """What is no matter of permission, as where the app listens now, ends nothing that lives."""
        assert isinstance(relay, InboundOpaqueRelay | InboundHttpRelay | InboundHttp2Relay)
        before = relay.app_port
        port = self._ports.get(authority_of(before.address, before.port))
        relay.limits = self._limiter.of(self.service, port, caller) if port is not None else None
        if isinstance(relay.stream, Paced):
            relay.stream.look_again()
        if port is None or port.protocol is not before.protocol:
            self.refuse(relay, Deny(DenyReason.NOT_OWN_ADDRESS))
        elif caller.spiffe_id is None and port.mode is not PortMode.PERMISSIVE:
            self.refuse(relay, Deny(DenyReason.PLAINTEXT_REFUSED))
        elif isinstance(relay, InboundHttp2Relay):
            relay.rejudge()
        elif isinstance(relay, InboundHttpRelay):
            denied = relay.rejudge(self._occasion)
            if denied is not None:
                self.refuse(relay, denied)
        else:
            decision = caller.connection(port.port)
            if isinstance(relay, InboundDetection) and not relay.opaque:
                relay.judge(decision)
            elif isinstance(decision, Deny):
                self.refuse(relay, decision)
            else:
                relay.facts.decision = decision

    def reverify(self) -> None:
        """New bundles: what belongs to a peer that is no longer trusted ends."""
        for link in list(self._links):
            link.reverify()
        self.direct.reverify()

    def refuse(self, relay: Relay, decision: Deny, detail: str = "") -> None:
        """Deny, and end, a connection that was let in."""
        detail = detail or self._occasion
        self.refusals.deny(relay.facts, decision, mesh_end(relay.stream), detail)
        relay.end(decision.reason, detail, code=NO_ERROR)

    # -- links --------------------------------------------------------------------------------------------------------

    def link_ready(self, link: Link) -> None:
        assert link.peer is not None
        self._handshaking.pop(link, None)
        self.callers.of_links[link] = self.callers.made(link.peer, link.remote)
        self._recorder.metrics.tunnels.at("inbound").value += 1

    def link_reproved(self, link: Link) -> None:
        assert link.peer is not None
        self.callers.proved(self.callers.of_links[link], link.peer)

    def link_draining(self, link: Link) -> None:
        """The client opens no more streams here: HTTP ends between requests, what is opaque goes on."""
        leaving = self.callers.of_links.get(link)

        def drain(relay: Relay, caller: Caller) -> None:
            if caller is leaving:
                relay.drain()

        self.relays.each(drain)

    def link_lost(self, link: Link) -> None:
        self._links.discard(link)
        self._handshaking.pop(link, None)
        self.callers.of_links.pop(link, None)

    def link_connect(self, link: Link, stream: Stream, headers: Headers) -> None:
        caller = self.callers.of_links[link]
        facts = self.facts_of(str(caller.spiffe_id))
        port = self._ports.get(connect_authority(headers) or b"")
        if port is None:
            self.refusals.refuse(stream, facts, Deny(DenyReason.NOT_OWN_ADDRESS))
            return
        self.admit(stream, port, caller, facts, link.remote)

    def facts_of(self, peer: str) -> RelayFacts:
        now = self._context.clock.monotonic()
        return RelayFacts(direction="inbound", peer=peer, service=self.service, port=0, protocol="tcp", started=now)

    def admit(
        self, stream: Stream | DirectEnd, port: Port, caller: Caller, facts: RelayFacts, remote: tuple[str, int]
    ) -> None:
        """Register, then judge, then connect to the app: one way in for streams of links and for direct callers."""
        if len(self.relays) >= RELAY_LIMIT:
            facts.port, facts.protocol = port.port, port.protocol
            self.refusals.refuse(stream, facts, Deny(DenyReason.OVERLOADED))
            return
        relay = self._making.made(stream, port, caller, facts, remote)
        self.relays.add(relay, caller)
        if isinstance(relay, InboundRelay):
            decision = caller.connection(port.port)
            caller.admitted(facts, decision)
            if isinstance(decision, Deny):
                self.relays.discard(relay)
                relay.ended = True
                self.refusals.refuse(stream, facts, decision)
                return
            self._recorder.connection_judged(facts, decision, caller.shadow_verdict)
        if port.limits and not self._within_limits(relay, stream, port, caller):
            return
        if self._draining:
            self.refusals.unavailable(relay, DenyReason.DRAINING, "the sidecar stops")
        elif isinstance(relay, InboundDetection):
            relay.begin(caller.connection(port.port))
        else:
            self.connects.begin(relay)

    def connect(self, relay: AnyInbound) -> None:
        """Connect a relay to its app."""
        self.connects.begin(relay)

    def _within_limits(self, relay: AnyInbound, stream: Stream | DirectEnd, port: Port, caller: Caller) -> bool:
        """Have the port's limits hold for a connection that policy lets in, and ask whether they let it in, too."""
        limits = relay.limits = self._limiter.of(self.service, port, caller)
        if limits is None:
            return True
        seconds = limits.connection()
        if not seconds:
            if limits.paces:
                stream.endpoint = relay.stream = Paced(stream, relay)
            return True
        relay.retry_after_seconds = seconds
        if isinstance(stream, DirectEnd) and not isinstance(relay, InboundRelay):
            self.refusals.unavailable(relay, DenyReason.RATE_LIMITED, "connections are limited")
            return False
        self.relays.discard(relay)
        relay.ended = True
        self.refusals.refuse(stream, relay.facts, Deny(DenyReason.RATE_LIMITED), seconds)
        return False

    # -- for ports of protocol auto -----------------------------------------------------------------------------------

    def accept(self, relay: Relay) -> None:
        """Answer the CONNECT, unless it has been."""
        stream = mesh_end(relay.stream)
        if isinstance(stream, Stream) and not stream.replied:
            stream.machine.reply(stream, [(b":status", b"200")])

    def http_relay(self, before: InboundDetection, spoken: Spoken) -> HttpInbound:
        relay = self._making.after(before, spoken)
        self.relays.discard(before)
        self.relays.add(relay, before.caller)
        return relay

    # -- for callers without a tunnel ---------------------------------------------------------------------------------

    @property
    def accepting(self) -> bool:
        return self.callers.judging is not None and not self._draining

    def port_at(self, destination: Destination) -> Port | None:
        return self._ports.get(authority_of(*destination))

    def speaks_http2(self, port: Port) -> bool:
        return self._making.speaks_http2(port)

    def deny(self, facts: RelayFacts, decision: Deny, detail: str) -> None:
        self.refusals.deny(facts, decision, None, detail)

    # -- relays -------------------------------------------------------------------------------------------------------

    def relay_connected(self, relay: Relay) -> None:
        """Answer the CONNECT, before a word of the app."""
        self.connects.over(relay)
        self.accept(relay)

    def relay_ended(self, relay: Relay, reason: str, detail: str) -> None:
        self.relays.discard(relay)
        self.connects.stop(relay)
        stream = mesh_end(relay.stream)
        if isinstance(stream, DirectEnd):
            self.direct.forget(stream)
        self._recorder.connection_ended(relay.facts, reason, detail)

    def relay_failed(self, relay: Relay, error: Exception) -> None:
        self._recorder.defect(relay.facts, error)
