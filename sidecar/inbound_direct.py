"""Callers without a tunnel: SPIFFE peers that have no sidecar, and plaintext on permissive ports. Adapter.

The kernel redirects them to the inbound port; ``sidecar.arrival`` finds out what each is, ``sidecar.direct`` gives it
the face of a stream, and the inbound side admits it as it admits a stream of a link.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Final, Protocol

from ringfence.kit.addresses import SocketAddress
from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Port, PortMode
from ringfence.snapshot import Protocol as PortProtocol
from ringfence.spiffe import VerifiedPeer
from sidecar.arrival import Arrival
from sidecar.caller import Caller
from sidecar.direct import DirectEnd
from sidecar.http2.frames import CANCEL
from sidecar.http_relay import HttpRelay
from sidecar.inbound_callers import Callers
from sidecar.interception import Destination, DestinationOf
from sidecar.limits.paced import Paced
from sidecar.listening import Listen, listen
from sidecar.recording import Recorder
from sidecar.relay import Relay, RelayFacts, TurnedAway
from sidecar.tenure import Tenure
from sidecar.tls import TlsFailed, TlsIdentity
from sidecar.tunnel.link_context import LinkContext

ARRIVAL_LIMIT: Final = 16_384
_NOWHERE: Final = ("", 0)  # a caller of whom nothing is known yet
_HTTP1_FIRST: Final = (b"http/1.1", b"h2")
_HTTP2_FIRST: Final = (b"h2", b"http/1.1")
_ALPN: Final[dict[PortProtocol, tuple[bytes, ...]]] = {
    # A client that offers both may have either; an app of ``http`` is sure to understand HTTP/1.1 only.
    PortProtocol.HTTP: _HTTP1_FIRST,
    PortProtocol.HTTP2: (b"h2",),
    PortProtocol.GRPC: (b"h2",),
    PortProtocol.TCP: (),
    PortProtocol.AUTO: _HTTP1_FIRST,
}


class Admitter(Protocol):
    """The inbound side, as this part sees it."""

    @property
    def accepting(self) -> bool:
        """Whether there is a policy to judge by, and no drain."""

    @property
    def service(self) -> str: ...

    @property
    def callers(self) -> Callers: ...

    def port_at(self, destination: Destination) -> Port | None:
        """The workload's port at this address, if it has one there."""

    def speaks_http2(self, port: Port) -> bool:
        """Whether HTTP/2 was the last that connections to this port of protocol ``auto`` have spoken."""

    def facts_of(self, peer: str) -> RelayFacts: ...

    def admit(
        self, stream: DirectEnd, port: Port, caller: Caller, facts: RelayFacts, remote: tuple[str, int]
    ) -> None: ...

    def deny(self, facts: RelayFacts, decision: Deny, detail: str) -> None:
        """Log and count a connection that is refused before it is anything."""


class DirectCallers:
    """The redirected connections to one workload, and what is known of each: from its arrival until it is closed."""

    def __init__(
        self,
        admitter: Admitter,
        *,
        context: LinkContext,
        identity: Callable[[], TlsIdentity],
        recorder: Recorder,
        listen: Listen = listen,
    ) -> None:
        self._admitter = admitter
        self._context = context
        self._identity = identity
        self._recorder = recorder
        self._listen = listen
        self._servers: list[asyncio.Server] = []
        self._arrivals: set[Arrival] = set()
        self._ends: dict[DirectEnd, _Admission] = {}
        self._unknown: dict[Arrival | DirectEnd, None] = {}  # of both, in the order of their arrival, until let in

    @property
    def open_count(self) -> int:
        """Connections that are open, whatever has become of them."""
        return len(self._arrivals) + len(self._ends)

    async def intercept(self, port: int, destination_of: DestinationOf) -> None:
        """Take what the kernel redirects of connections to the workload, on every address; OSError if it cannot."""

        def accept() -> asyncio.BaseProtocol:
            full = self.open_count >= ARRIVAL_LIMIT
            if not self._admitter.accepting or (full and not self._crowd_out()):
                self._context.count_failure("inbound", "overloaded")
                return TurnedAway()
            arrival = Arrival(self, destination_of)
            self._arrivals.add(arrival)
            self._unknown[arrival] = None
            return arrival

        for host in ("0.0.0.0", "::"):
            try:
                self._servers.append(await self._listen(accept, host, port, backlog=1024))
            except OSError as error:
                if host == "::" and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                self.stop()
                raise

    def _crowd_out(self) -> bool:
        """Make room for a newcomer, as ``Inbound`` does: of those that have not shown who they are, the oldest goes."""
        oldest = next(iter(self._unknown), None)
        if oldest is None:
            return False
        del self._unknown[oldest]
        self._context.count_failure("inbound", "crowded_out")
        if isinstance(oldest, Arrival):
            self._arrivals.discard(oldest)
            oldest.give_up()
        else:
            oldest.reset(CANCEL)
        return True

    def stop(self) -> None:
        """Take nothing new, and nothing of those that were not let in yet."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for arrival in list(self._arrivals):
            arrival.turn_away()
        for end, admission in list(self._ends.items()):
            if admission.caller is None:
                end.reset(CANCEL)

    @property
    def callers(self) -> list[Caller]:
        """Those that were let in."""
        return [admission.caller for admission in self._ends.values() if admission.caller is not None]

    def reverify(self) -> None:
        """New bundles: connections of peers whose chain leads to none of them end."""
        for admission in list(self._ends.values()):
            if admission.tenure is not None:
                admission.tenure.reverify()

    def forget(self, end: DirectEnd) -> None:
        """Its relay has ended; what is left of the connection still counts until it is closed."""
        admission = self._ends.get(end)
        if admission is not None:
            admission.over()

    # -- the arrivals' owner ------------------------------------------------------------------------------------------

    def port_at(self, destination: Destination) -> Port | None:
        return self._admitter.port_at(destination)

    def server_may_be_first(self, port: Port) -> bool:
        if port.protocol is PortProtocol.TCP:
            return True
        if port.protocol is not PortProtocol.AUTO:
            return False
        return self._admitter.callers.made(None, _NOWHERE).connection(port.port).permitted

    def arrived(self, arrival: Arrival, port: Port, *, tls: bool, first: bytes) -> asyncio.Protocol:
        self._arrivals.discard(arrival)
        self._unknown.pop(arrival, None)
        identity = self._identity()
        admission = _Admission(self, port, identity, self._context.clock.monotonic())
        auto = port.protocol is PortProtocol.AUTO
        alpn = _HTTP2_FIRST if auto and self._admitter.speaks_http2(port) else _ALPN[port.protocol]
        end = DirectEnd(admission, identity.direct_server(alpn, others=auto) if tls else None, first=first)
        self._ends[end] = admission
        self._unknown[end] = None
        return end

    def arrival_refused(
        self, arrival: Arrival, remote: Destination, port: Port | None, reason: DenyReason, detail: str
    ) -> None:
        self._arrivals.discard(arrival)
        self._unknown.pop(arrival, None)
        self._deny(port, remote, reason, detail)

    def _deny(self, port: Port | None, remote: Destination, reason: DenyReason, detail: str) -> None:
        facts = self._admitter.facts_of("")
        facts.port = port.port if port is not None else 0
        facts.protocol = port.protocol if port is not None else "tcp"
        facts.remote = _shown(remote)
        self._recorder.connection_judged(facts, Deny(reason))
        self._admitter.deny(facts, Deny(reason), detail)

    # -- the ends' owner ----------------------------------------------------------------------------------------------

    def admitted(self, end: DirectEnd, admission: _Admission) -> None:
        """Connected and verified: a caller with the identity that it proved by TLS, or with none.

        What was looked up when it arrived may have changed since, so it is looked up again.
        """
        admitter = self._admitter
        self._unknown.pop(end, None)
        was, peer = admission.port, end.engine.peer if end.engine is not None else None
        if peer is not None:
            self._context.time_handshake("inbound", self._context.clock.monotonic() - admission.began)
        port = admitter.port_at((was.address, was.port))
        if port is None:
            self._deny(was, end.remote, DenyReason.NOT_OWN_ADDRESS, "the workload no longer has this port")
            end.reset(CANCEL)
            return
        if peer is None and port.mode is not PortMode.PERMISSIVE:
            self._deny(port, end.remote, DenyReason.PLAINTEXT_REFUSED, "plaintext to a strict port")
            end.reset(CANCEL)
            return
        if peer is not None:
            tenure = admission.watch(end, peer, self._context)
            if admission.identity is not self._identity() and not tenure.reverify():
                return
        caller = admission.caller = admitter.callers.made(peer, end.remote)
        facts = admitter.facts_of(str(caller.spiffe_id or ""))
        facts.remote = _shown(end.remote)
        if peer is None:
            # So that a team can see who still blocks ``strict``.
            self._recorder.metrics.plaintext.at(admitter.service, str(port.port), end.remote[0]).value += 1
        admitter.admit(end, port, caller, facts, end.remote)

    def refused(self, end: DirectEnd, code: str, detail: str) -> None:
        self._context.count_failure("inbound", code)
        remote = _shown(end.remote)
        self._context.log.warning("handshake refused", direction="inbound", reason=code, detail=detail, remote=remote)

    def closed(self, end: DirectEnd) -> None:
        self._unknown.pop(end, None)
        admission = self._ends.pop(end, None)
        if admission is not None:
            admission.over()


class _Admission:
    """The owner of one direct caller's connection: what was known when it came, and what it was let in with."""

    __slots__ = ("_callers", "began", "caller", "identity", "port", "tenure")

    def __init__(self, callers: DirectCallers, port: Port, identity: TlsIdentity, began: float) -> None:
        self._callers = callers
        self.began = began  # monotonic seconds
        self.port = port
        self.identity = identity
        self.caller: Caller | None = None  # None: not let in yet
        self.tenure: Tenure | None = None  # with TLS

    def watch(self, end: DirectEnd, peer: VerifiedPeer, context: LinkContext) -> Tenure:
        """From now on it ends with the SVIDs that were shown."""

        def drain(idle_too: bool) -> None:
            relay = _relay_of(end)
            if isinstance(relay, HttpRelay):
                relay.drain(patient=not idle_too)
            elif relay is not None:
                relay.drain()

        def cut(reason: DenyReason, detail: str) -> None:
            _cut(end, reason, detail)

        tenure = self.tenure = Tenure(context, peer, self.identity.svid, drain=drain, cut=cut)
        return tenure

    def over(self) -> None:
        if self.tenure is not None:
            self.tenure.over()

    def direct_ready(self, end: DirectEnd) -> None:
        self._callers.admitted(end, self)

    def direct_refused(self, end: DirectEnd, reason: DenyReason, code: str, detail: str) -> None:
        self._callers.refused(end, code, detail)

    def direct_broken(self, end: DirectEnd, failed: TlsFailed | None) -> None:
        """The relay is told, and says so when it has ended."""

    def direct_closed(self, end: DirectEnd) -> None:
        self._callers.closed(end)


def _relay_of(end: DirectEnd) -> Relay | None:
    """The relay of a connection that was let in, whether or not its bytes are limited."""
    endpoint = end.endpoint.relay if isinstance(end.endpoint, Paced) else end.endpoint
    return endpoint if isinstance(endpoint, Relay) else None


def _cut(end: DirectEnd, reason: DenyReason, detail: str) -> None:
    relay = _relay_of(end)
    if relay is not None:
        relay.end(reason, detail, abort=True)
    end.reset(CANCEL)


def _shown(remote: Destination) -> str:
    return str(SocketAddress(*remote))
