"""Callers without a tunnel: SPIFFE peers that have no sidecar, and plaintext on permissive ports. Adapter.

The kernel redirects them to the inbound port; ``sidecar.arrival`` finds out what each is, ``sidecar.direct`` gives it
the face of a stream, and the inbound side admits it as it admits a stream of a link.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Final, Protocol

from ringfence.policy.decide import CallerView, Deny
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Port
from ringfence.snapshot import Protocol as PortProtocol
from ringfence.spiffe import SpiffeId, VerifiedPeer
from sidecar.arrival import Arrival
from sidecar.caller import Caller
from sidecar.direct import DirectEnd
from sidecar.interception import Destination, DestinationOf
from sidecar.listening import listen
from sidecar.recording import Recorder
from sidecar.relay import Relay, RelayFacts, TurnedAway
from sidecar.tls import TlsIdentity
from sidecar.tunnel.link_context import LinkContext

ARRIVAL_LIMIT: Final = 16_384
LONGEST_TIMER_SECONDS: Final = 3600.0
_ALPN: Final[dict[PortProtocol, bytes | None]] = {
    PortProtocol.HTTP: b"http/1.1",
    PortProtocol.HTTP2: b"h2",
    PortProtocol.GRPC: b"h2",
    PortProtocol.TCP: None,
}


class Admitter(Protocol):
    """The inbound side, as this part sees it."""

    @property
    def accepting(self) -> bool:
        """Whether there is a policy to judge by, and no drain."""

    @property
    def service(self) -> str: ...

    def port_at(self, destination: Destination) -> Port | None:
        """The workload's port at this address, if it has one there."""

    def view_of(self, spiffe_id: SpiffeId | None) -> CallerView: ...

    def identity_of(self, peer: VerifiedPeer) -> str:
        """What the app is told of its caller."""

    def facts_of(self, peer: str) -> RelayFacts: ...

    def admit(
        self, stream: DirectEnd, port: Port, caller: Caller, facts: RelayFacts, remote: tuple[str, int]
    ) -> None: ...

    def deny(self, facts: RelayFacts, decision: Deny, detail: str) -> None:
        """Log and count a connection that is refused before it is anything."""


class DirectCallers:
    """The redirected connections to one workload, and what is known of each that was let in."""

    def __init__(
        self, admitter: Admitter, *, context: LinkContext, identity: Callable[[], TlsIdentity], recorder: Recorder
    ) -> None:
        self._admitter = admitter
        self._context = context
        self._identity = identity
        self._recorder = recorder
        self._servers: list[asyncio.Server] = []
        self._arrivals: set[Arrival] = set()
        self._callers: dict[DirectEnd, Caller] = {}

    async def intercept(self, port: int, destination_of: DestinationOf) -> None:
        """Take what the kernel redirects of connections to the workload, on every address; OSError if it cannot."""

        def accept() -> asyncio.Protocol:
            if len(self._callers) + len(self._arrivals) >= ARRIVAL_LIMIT or not self._admitter.accepting:
                self._recorder.metrics.handshake_failures.at("inbound", "overloaded").value += 1
                return TurnedAway()
            arrival = Arrival(self, destination_of)
            self._arrivals.add(arrival)
            return arrival

        for host in ("0.0.0.0", "::"):
            try:
                self._servers.append(await listen(accept, host, port, backlog=1024))
            except OSError as error:
                if host == "::" and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                self.stop()
                raise

    def stop(self) -> None:
        """Take nothing new."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    def rejudge(self) -> None:
        """A new policy: every caller gets its view of it."""
        for caller in self._callers.values():
            caller.view = self._admitter.view_of(caller.spiffe_id)

    def forget(self, end: DirectEnd) -> None:
        self._callers.pop(end, None)

    # -- the arrivals' owner ------------------------------------------------------------------------------------------

    def port_at(self, destination: Destination) -> Port | None:
        return self._admitter.port_at(destination)

    def arrived(self, arrival: Arrival, port: Port, *, tls: bool, first: bytes) -> asyncio.Protocol:
        self._arrivals.discard(arrival)
        engine = self._identity().direct_server(_ALPN[port.protocol]) if tls else None
        return DirectEnd(_Admission(self, port), engine, first=first)

    def arrival_refused(
        self, arrival: Arrival, remote: Destination, port: Port | None, reason: DenyReason, detail: str
    ) -> None:
        self._arrivals.discard(arrival)
        facts = self._admitter.facts_of("")
        facts.port = port.port if port is not None else 0
        facts.protocol = port.protocol if port is not None else "tcp"
        facts.destination = f"from {remote[0]}"
        self._admitter.deny(facts, Deny(reason), detail)

    # -- the ends' owner ----------------------------------------------------------------------------------------------

    def admitted(self, end: DirectEnd, port: Port) -> None:
        """Connected and verified: a caller with the identity that it proved by TLS, or with none."""
        admitter = self._admitter
        peer = end.engine.peer if end.engine is not None else None
        spiffe_id = peer.spiffe_id if peer is not None else None
        caller = Caller(spiffe_id=spiffe_id, view=admitter.view_of(spiffe_id))
        if peer is not None:
            caller.tell(admitter.identity_of(peer))
        facts = admitter.facts_of(str(spiffe_id or ""))
        if peer is None:
            # So that a team can see who still blocks ``strict``.
            self._recorder.metrics.plaintext.at(admitter.service, str(port.port), end.remote[0]).value += 1
            facts.destination = f"from {end.remote[0]}"
        else:
            self._arm_expiry(end, peer)
        self._callers[end] = caller
        admitter.admit(end, port, caller, facts, end.remote)

    def refused(self, end: DirectEnd, code: str, detail: str) -> None:
        self._context.count_failure("inbound", code)
        remote = f"{end.remote[0]}:{end.remote[1]}"
        self._context.log.warning("handshake refused", direction="inbound", reason=code, detail=detail, remote=remote)

    def _arm_expiry(self, end: DirectEnd, peer: VerifiedPeer) -> None:
        """A direct peer cannot prove a newer SVID on its connection, so the connection ends with the one it showed."""
        left = max(0.0, min(peer.not_after - self._context.clock.now(), LONGEST_TIMER_SECONDS))
        asyncio.get_running_loop().call_later(left, self._over, end, peer)

    def _over(self, end: DirectEnd, peer: VerifiedPeer) -> None:
        if end not in self._callers:
            return
        if self._context.clock.now() < peer.not_after:
            self._arm_expiry(end, peer)
            return
        relay = end.endpoint
        if isinstance(relay, Relay):
            relay.end(DenyReason.IDENTITY_EXPIRED, "the peer's SVID is over", abort=True)
        end.reset(0)


class _Admission:
    """The owner of one direct caller's connection: it knows which port was dialled."""

    __slots__ = ("_callers", "_port")

    def __init__(self, callers: DirectCallers, port: Port) -> None:
        self._callers = callers
        self._port = port

    def direct_ready(self, end: DirectEnd) -> None:
        self._callers.admitted(end, self._port)

    def direct_refused(self, end: DirectEnd, reason: DenyReason, code: str, detail: str) -> None:
        self._callers.refused(end, code, detail)
