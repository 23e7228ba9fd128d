"""Transparent outbound: the app's connections, redirected here by the kernel, led on by where they were going. Adapter.

A destination that is a mesh service goes through the tunnel as an upstream; any other needs an egress rule: by address
at once, so that a server may speak first; by host name when the client has told one (SNI or Host), which it has a
moment to do. What no rule permits is reset, logged and counted.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

from ringfence.policy.reasons import DenyReason
from sidecar.relay import Relay, abort_connection
from sidecar.sniff import SNIFF_LIMIT_BYTES, Sniffed, sniff

Destination = tuple[str, int]
DestinationOf = Callable[[socket.socket], Destination | None]


class Router(Protocol):
    """Says what becomes of a connection to a destination; the outbound side is one."""

    def tried(self, destination: Destination, remote: Destination) -> bool:
        """Whether this is a connection by which it is tried whether anything is led here at all."""

    def leads_to_mesh(self, destination: Destination) -> bool:
        """Whether a mesh service is reached by ``destination``: then it is reached by the mesh or not at all."""

    def upstream_relay(self, destination: Destination) -> Relay | None:
        """A relay to the mesh service at ``destination``, registered; None if it has no endpoint."""

    def egress_by_address(self, destination: Destination) -> Relay | None:
        """A relay to ``destination`` itself if an egress rule permits its address."""

    def host_seconds(self, destination: Destination) -> float:
        """For how long to wait for a host name, by which an egress rule could permit it; 0 if none could."""

    def egress_by_host(self, destination: Destination, told: Sniffed, first: bytes) -> Relay | None:
        """A relay to the host that the client told, if an egress rule permits it; ``first``: what was read already."""

    def egress_observed(self, destination: Destination, first: bytes) -> Relay | None:
        """A relay to ``destination`` itself, if the workload is only observed and so goes where no rule permits."""

    def denied(self, destination: Destination, reason: DenyReason, detail: str) -> None:
        """Log and count a connection that is led nowhere; ("", 0) when it is not known where it was going."""


class Intercepted(asyncio.Protocol):
    """One redirected connection, until it is known where it leads; then a relay takes its transport over.

    While it waits for the client to tell a host it is among the ``undecided``, which their owner bounds.
    """

    def __init__(self, router: Router, destination_of: DestinationOf, undecided: set[Intercepted]) -> None:
        self._router = router
        self._undecided = undecided
        self._destination_of = destination_of
        self._destination: Destination = ("", 0)
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        destination = self._destination_of(transport.get_extra_info("socket"))
        if destination is None:
            # Somebody dialled the port itself; led on, the connection would come back here for ever.
            self._deny(DenyReason.NOT_OWN_ADDRESS, "not redirected here")
            return
        self._destination = destination
        router = self._router
        if router.tried(destination, transport.get_extra_info("peername")[:2]):
            self._transport = None
            transport.abort()  # type: ignore[attr-defined]
            return
        if router.leads_to_mesh(destination):
            relay = router.upstream_relay(destination)
            if relay is None:
                self._deny(DenyReason.UPSTREAM_UNREACHABLE, "the service has no endpoint")
                return
        else:
            relay = router.egress_by_address(destination)
        if relay is not None:
            self._hand_over(relay)
        elif seconds := router.host_seconds(destination):
            self._undecided.add(self)
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(seconds, self._unpermitted, "no host name was told in time")
        else:
            self._unpermitted("no egress rule permits the address")

    def _unpermitted(self, detail: str) -> None:
        """No rule permits it."""
        relay = self._router.egress_observed(self._destination, self._read)
        if relay is not None:
            self._hand_over(relay)
        else:
            self._deny(DenyReason.EGRESS_NOT_ALLOWED, detail)

    def _hand_over(self, relay: Relay) -> None:
        transport, self._transport = self._transport, None
        self._cancel()
        assert transport is not None
        transport.set_protocol(relay)
        relay.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._deadline is None:
            return
        self._read += data
        told = sniff(self._read)
        if told is None and len(self._read) < SNIFF_LIMIT_BYTES:
            return
        relay = self._router.egress_by_host(self._destination, told, self._read) if told is not None else None
        if relay is not None:
            self._hand_over(relay)
        else:
            host = told.host if told is not None and told.host else "none"
            self._unpermitted(f"no egress rule permits the host told: {host}")

    def _deny(self, reason: DenyReason, detail: str) -> None:
        self._cancel()
        transport, self._transport = self._transport, None
        if transport is not None:
            self._router.denied(self._destination, reason, detail)
            abort_connection(transport)

    def turn_away(self) -> None:
        """The sidecar stops: no longer wait for a host."""
        self._deny(DenyReason.DRAINING, "the sidecar stops")

    def eof_received(self) -> bool:
        self._deny(DenyReason.EGRESS_NOT_ALLOWED, "ended before a host name was told")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            # Nothing was led anywhere, yet who only looks whether somebody answers out there must not go unseen.
            self._deny(DenyReason.EGRESS_NOT_ALLOWED, "left before a host name was told")

    def _cancel(self) -> None:
        self._undecided.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
