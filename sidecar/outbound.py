"""Outbound, explicit mode: a local listening port an upstream; each app connection becomes a stream of a link. Adapter.

An app connection to an opaque port opens its stream at once, since the server may speak first. One to an HTTP port
opens it with the first bytes of a request, so that a refusal always finds a request to answer
(``sidecar.http_relay``).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from typing import Final

from ringfence.policy.decide import Deny
from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Endpoint, Protocol, Upstream
from ringfence.spiffe import SpiffeId
from sidecar import refusal
from sidecar.http1 import Heads
from sidecar.http_relay import OutboundHttpRelay
from sidecar.live import LiveRelays
from sidecar.outbound_relay import OutboundRelay
from sidecar.recording import Recorder, new_request_id
from sidecar.relay import Relay, RelayFacts
from sidecar.tls import TlsIdentity
from sidecar.tunnel.link import LinkContext
from sidecar.tunnel.pool import Pool

RELAY_LIMIT: Final = 16_384
_REASONS: Final[dict[str, DenyReason]] = {reason.value: reason for reason in DenyReason}


class ListenFailedError(Exception):
    """A local listening port could not be had; the text names the setting."""


class Outbound:
    """The outbound side of the sidecar: its listeners, the pool of links, the relays."""

    def __init__(
        self, *, context: LinkContext, identity: Callable[[], TlsIdentity], recorder: Recorder, own_id: SpiffeId
    ) -> None:
        self._context = context
        self._recorder = recorder
        self._own_id = own_id
        self._upstreams: dict[tuple[str, int], Upstream] = {}
        self._servers: dict[tuple[str, int], asyncio.Server] = {}
        self._draining = False
        self._heads = Heads(refusal_name=refusal.HEADER)
        tunnels = recorder.metrics.tunnels.at("outbound")

        def established() -> None:
            tunnels.value += 1

        self.pool = Pool(context=context, identity=identity, established=established)
        self.relays: LiveRelays[tuple[str, int]] = LiveRelays()

    # -- upstreams ----------------------------------------------------------------------------------------------------

    async def prepare(self, upstreams: Sequence[Upstream]) -> None:
        """Open the listening ports that are not open yet; ListenFailedError if one is taken, and none is opened then.

        Until ``enforce`` names their upstream, a connection to a new port is closed at once.
        """
        loop = asyncio.get_running_loop()
        opened: list[tuple[str, int]] = []
        for upstream in upstreams:
            where = (upstream.listen_host, upstream.listen_port)
            if where in self._servers:
                continue
            try:
                self._servers[where] = await loop.create_server(self._acceptor(where), *where, backlog=1024)
            except OSError as error:
                for done in opened:
                    self._servers.pop(done).close()
                why = "already in use" if error.errno == errno.EADDRINUSE else error.strerror
                raise ListenFailedError(
                    f"upstream {upstream.namespace}/{upstream.service}, listen {where[0]}:{where[1]}: {why}"
                ) from error
            opened.append(where)

    def enforce(self, upstreams: Sequence[Upstream]) -> None:
        """The upstreams in force from now on; what led to one that is gone, or elsewhere now, ends."""
        wanted = {(upstream.listen_host, upstream.listen_port): upstream for upstream in upstreams}
        for where in self._servers.keys() - wanted.keys():
            self._servers.pop(where).close()
        for relay, where in self.relays:
            before, now = self._upstreams.get(where), wanted.get(where)
            if now is None or before is None or (before.service, before.port) != (now.service, now.port):
                relay.end(DenyReason.PORT_NOT_ALLOWED, "the upstream is gone")
        self._upstreams = wanted
        self.pool.keep(frozenset(endpoint for upstream in upstreams for endpoint in upstream.endpoints))

    def _acceptor(self, where: tuple[str, int]) -> Callable[[], asyncio.Protocol]:
        def accept() -> asyncio.Protocol:
            upstream = self._upstreams.get(where)
            if upstream is None or not upstream.endpoints or self._draining or len(self.relays) >= RELAY_LIMIT:
                return _Turned()
            endpoint = self.pool.choose(upstream.endpoints)
            relay = self._relay(upstream, endpoint)
            self.relays.add(relay, where)
            return relay

        return accept

    def _relay(self, upstream: Upstream, endpoint: Endpoint) -> OutboundRelay:
        facts = RelayFacts(
            direction="outbound",
            peer=str(endpoint.spiffe_id),
            service=f"{upstream.namespace}/{upstream.service}",
            port=upstream.port,
            protocol=upstream.protocol,
            started=self._context.clock.monotonic(),
        )
        if upstream.protocol is Protocol.HTTP:
            return OutboundHttpRelay(self, facts, self.pool, endpoint, self._heads, self._recorder, str(self._own_id))
        return OutboundRelay(self, facts, self.pool, endpoint)

    async def close(self, drain_seconds: float) -> None:
        """Take nothing new, let what lives end within ``drain_seconds``, then end it."""
        self._draining = True
        for server in self._servers.values():
            server.close()
        for relay, _ in self.relays:
            relay.drain()
        await self.relays.drained(drain_seconds)
        for relay, _ in self.relays:
            relay.end(DenyReason.DRAINING, "the sidecar stops")
        self.pool.close(DenyReason.DRAINING, "the sidecar stops")

    # -- relays -------------------------------------------------------------------------------------------------------

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


class _Turned(asyncio.Protocol):
    """A connection that cannot be served: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
