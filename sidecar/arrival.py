"""A connection that the kernel redirected to the inbound port: TLS of a peer without sidecar, or plaintext. Adapter.

Its first byte tells which. On a strict port plaintext is refused. On a permissive port it is let in as a caller without
identity, whom only a rule that says so permits; and where the protocol is opaque the client may be waiting for the
server to speak, so silence for a moment counts as plaintext.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from ringfence.policy.reasons import DenyReason
from ringfence.snapshot import Port, PortMode
from sidecar.interception import Destination, DestinationOf
from sidecar.relay import abort_connection

FIRST_BYTE_SECONDS: Final = 5.0
SERVER_FIRST_SECONDS: Final = 0.05
_TLS_HANDSHAKE: Final = 0x16


class ArrivalOwner(Protocol):
    """The inbound side."""

    def port_at(self, destination: Destination) -> Port | None:
        """The workload's port at this address, if it has one there."""

    def server_may_be_first(self, port: Port) -> bool:
        """Whether a caller without identity may be waiting there for the server to speak, and be permitted to."""

    def arrived(self, arrival: Arrival, port: Port, *, tls: bool, first: bytes) -> asyncio.Protocol:
        """What takes the connection over, ``first`` being what was read already."""

    def arrival_refused(
        self, arrival: Arrival, remote: Destination, port: Port | None, reason: DenyReason, detail: str
    ) -> None:
        """The connection is refused, and reset after this."""


class Arrival(asyncio.Protocol):
    """One redirected inbound connection until it is known what it is."""

    def __init__(self, owner: ArrivalOwner, destination_of: DestinationOf) -> None:
        self._owner = owner
        self._destination_of = destination_of
        self._transport: asyncio.Transport | None = None
        self._port: Port | None = None
        self._remote: Destination = ("", 0)
        self._deadline: asyncio.TimerHandle | None = None
        self._given_up = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._given_up:
            transport.abort()  # type: ignore[attr-defined]
            return
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer:
            self._remote = (str(peer[0]), int(peer[1]))
        destination = self._destination_of(transport.get_extra_info("socket"))
        if destination is None:
            self._refuse(DenyReason.NOT_OWN_ADDRESS, "not redirected here")
            return
        port = self._port = self._owner.port_at(destination)
        if port is None:
            self._refuse(
                DenyReason.NOT_OWN_ADDRESS, f"the workload declares no port {destination[1]} at {destination[0]}"
            )
            return
        permissive = port.mode is PortMode.PERMISSIVE
        loop = asyncio.get_running_loop()
        if permissive and self._owner.server_may_be_first(port):
            self._deadline = loop.call_later(SERVER_FIRST_SECONDS, self._hand_over, b"")
        else:
            self._deadline = loop.call_later(
                FIRST_BYTE_SECONDS, self._refuse, DenyReason.CALLER_TIMEOUT, "not one byte came"
            )

    def data_received(self, data: bytes) -> None:
        port = self._port
        if self._transport is None or port is None:
            return
        if data[0] != _TLS_HANDSHAKE and port.mode is not PortMode.PERMISSIVE:
            self._refuse(DenyReason.PLAINTEXT_REFUSED, "plaintext to a strict port")
            return
        self._hand_over(data)

    def eof_received(self) -> bool | None:
        port = self._port
        if port is not None and port.mode is PortMode.PERMISSIVE and self._owner.server_may_be_first(port):
            taker = self._hand_over(b"")  # it has nothing to say, and the server may still have
            return taker.eof_received() if taker is not None else False
        self._refuse(DenyReason.CALLER_TIMEOUT, "left without a byte")
        return False

    def give_up(self) -> None:
        """End it without a word to anybody: its owner knows."""
        self._cancel()
        transport, self._transport = self._transport, None
        if transport is not None:
            abort_connection(transport)
        else:
            self._given_up = True

    def turn_away(self) -> None:
        """The sidecar stops: no longer wait for the first byte."""
        self._refuse(DenyReason.DRAINING, "the sidecar stops")

    def _hand_over(self, first: bytes) -> asyncio.Protocol | None:
        transport, self._transport = self._transport, None
        self._cancel()
        if transport is None or self._port is None:
            return None
        taker = self._owner.arrived(self, self._port, tls=first[:1] == bytes((_TLS_HANDSHAKE,)), first=first)
        transport.set_protocol(taker)
        taker.connection_made(transport)
        return taker

    def _refuse(self, reason: DenyReason, detail: str) -> None:
        self._cancel()
        transport, self._transport = self._transport, None
        if transport is not None:
            self._owner.arrival_refused(self, self._remote, self._port, reason, detail)
            abort_connection(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._cancel()
            self._owner.arrival_refused(
                self, self._remote, self._port, DenyReason.CALLER_TIMEOUT, "left without a byte"
            )

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
