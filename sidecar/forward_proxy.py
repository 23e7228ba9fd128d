"""The HTTP proxy on loopback, for apps that know how to use one (``http_proxy``): from first words to a relay. Adapter.

Where it leads is what the workload may reach anyway: its declared upstreams by their names, and what an egress rule
permits; so it is no relay for anybody else's purposes, and what is refused is told in HTTP.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Final, Protocol, cast

from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Protocol as PortProtocol
from ringfence.snapshot import Upstream
from sidecar import refusal
from sidecar.http1 import MalformedError
from sidecar.http1.ending import as_answer
from sidecar.http_relay import HEAD_SECONDS
from sidecar.listening import Listen
from sidecar.proxied_relay import ESTABLISHED, TakeOver
from sidecar.proxy_request import Asked, read_asked
from sidecar.refusal import Refusal
from sidecar.relay import Relay, close_connection

Place = tuple[str, int]

LINGER_SECONDS: Final = 2.0
_LINGER_LIMIT_BYTES: Final = 1024 * 1024


class ProxyRouter(Protocol):
    """Says what becomes of a request; the outbound side is one."""

    @property
    def unwilling(self) -> DenyReason | None:
        """Why nothing new is taken now."""

    def named(self, asked: Asked) -> Upstream | None:
        """The upstream that is meant."""

    def proxied(self, upstream: Upstream, asked: Asked, take_over: TakeOver) -> Relay | None:
        """A relay to ``upstream``, registered; None if it has no endpoint."""

    def proxied_outside(self, asked: Asked, take_over: TakeOver) -> Relay | None:
        """A relay out of the mesh, registered, if an egress rule permits it."""

    def proxied_denied(self, asked: Asked | None, reason: DenyReason, detail: str) -> Refusal:
        """Log and count a request that is led nowhere; what its client is told."""


class ForwardProxy:
    """The listener of one sidecar, and its clients that are not led anywhere yet."""

    def __init__(self, router: ProxyRouter, listen: Listen) -> None:
        self._router = router
        self._listen = listen
        self._servers: dict[Place, asyncio.Server] = {}
        self._wanted: Place | None = None
        self.undecided: set[ProxyClient] = set()

    async def prepare(self, place: Place | None) -> None:
        """Open ``place``, if it is not open; OSError if that cannot be had."""
        if place is not None and place not in self._servers:
            self._servers[place] = await self._listen(lambda: ProxyClient(self, self._router), *place, backlog=1024)

    def enforce(self, place: Place | None) -> None:
        """``place`` is where to listen from now on."""
        self._wanted = place
        self.discard()

    def discard(self) -> None:
        """Close what was opened and is not in force."""
        for place in list(self._servers):
            if place != self._wanted:
                self._servers.pop(place).close()

    def close(self) -> None:
        self.enforce(None)
        for client in list(self.undecided):
            client.turn_away()

    def is_own(self, place: Place) -> bool:
        """Whether a connection to ``place`` would come back here."""
        try:
            ip = ipaddress.ip_address(place[0])
        except ValueError:
            return False
        return (ip.is_loopback or ip.is_unspecified) and any(place[1] == port for _, port in self._servers)


class ProxyClient(asyncio.Protocol):
    """One connection to the proxy, until it is known where it leads; then a relay takes its transport over."""

    def __init__(self, proxy: ForwardProxy, router: ProxyRouter) -> None:
        self._proxy = proxy
        self._router = router
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._answered = False
        self._dropped_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._proxy.undecided.add(self)
        self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._late)
        unwilling = self._router.unwilling
        if unwilling is not None:
            self._refuse(None, unwilling, "nothing new is taken")

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """A client comes back from a relay, with what was read of its next request."""
        transport.set_protocol(self)
        self.connection_made(transport)
        transport.resume_reading()
        if not self._answered:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._answered:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > _LINGER_LIMIT_BYTES:
                self._end()
            return
        self._read += data
        try:
            found = read_asked(self._read)
        except MalformedError as error:
            self._refuse(None, DenyReason.PROTOCOL_ERROR, f"{error.reason}: {error.detail}")
            return
        if found is not None:
            self._lead(*found)

    def _lead(self, asked: Asked, head_bytes: int) -> None:
        router = self._router
        upstream = router.named(asked)
        if upstream is None:
            self._lead_outside(asked, head_bytes)
            return
        if not asked.tunnel and upstream.protocol not in (PortProtocol.HTTP, PortProtocol.AUTO):
            detail = f"the port speaks {upstream.protocol}: a proxy leads there by CONNECT"
            self._refuse(asked, DenyReason.PROTOCOL_ERROR, detail)
            return
        relay = router.proxied(upstream, asked, self._next)
        if relay is None:
            self._refuse(asked, DenyReason.UPSTREAM_UNREACHABLE, "the service has no endpoint")
            return
        at_once = asked.tunnel and upstream.protocol is not PortProtocol.TCP  # HTTP is answered request by request
        self._hand_over(relay, head_bytes, ESTABLISHED if at_once else b"")

    def _lead_outside(self, asked: Asked, head_bytes: int) -> None:
        if self._proxy.is_own((asked.host, asked.port or 80)):
            self._refuse(asked, DenyReason.EGRESS_NOT_ALLOWED, "that is the proxy itself")
            return
        relay = self._router.proxied_outside(asked, self._next)
        if relay is None:
            detail = "no upstream of that name and port, and no egress rule permits it"
            self._refuse(asked, DenyReason.EGRESS_NOT_ALLOWED, detail)
            return
        self._hand_over(relay, head_bytes, b"")

    def _next(self, transport: asyncio.Transport, data: bytes) -> None:
        ProxyClient(self._proxy, self._router).take_over(transport, data)

    def _hand_over(self, relay: Relay, head_bytes: int, answer: bytes) -> None:
        transport, self._transport = self._transport, None
        self._forget()
        assert transport is not None
        if answer:
            transport.write(answer)
        transport.set_protocol(relay)
        relay.connection_made(transport)
        rest = self._read[head_bytes:]
        if rest and not relay.ended:
            relay.data_received(rest)

    # -- refusals -----------------------------------------------------------------------------------------------------

    def _refuse(self, asked: Asked | None, reason: DenyReason, detail: str) -> None:
        """Answer and close, in two steps: what the client still sends would otherwise reset the connection, and with
        it destroy the answer (RFC 9112 section 9.6)."""
        told = self._router.proxied_denied(asked, reason, detail)
        transport = self._transport
        self._answered = True
        head_only = self._read.startswith(b"HEAD ")
        self._read = b""
        if transport is None or transport.is_closing():
            return
        transport.write(as_answer(refusal.http_response(told), close=True, head_only=head_only))
        transport.write_eof()
        self._arm(LINGER_SECONDS)

    def _late(self) -> None:
        if self._answered:
            self._end()
        else:
            self._refuse(None, DenyReason.CALLER_TIMEOUT, f"no request within {HEAD_SECONDS:.0f} s")

    def turn_away(self) -> None:
        """The sidecar stops."""
        self._end()

    def eof_received(self) -> bool:
        if not self._answered and self._read:
            self._refuse(None, DenyReason.PROTOCOL_ERROR, "left in the middle of a head")
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._forget()

    def _end(self) -> None:
        transport, self._transport = self._transport, None
        self._forget()
        if transport is not None:
            close_connection(transport)

    def _arm(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._late)

    def _forget(self) -> None:
        self._proxy.undecided.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
