"""The two gRPC servers: joining (server TLS) and everything else (mutual TLS), with bounds on all that they take."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import dataclass, replace
from typing import Final

import grpc

from controlplane.push.snapshots import SNAPSHOT_LIMIT_BYTES
from ringfence.kit.addresses import SocketAddress

_REQUEST_LIMIT_BYTES: Final = 64 << 10
_METADATA_LIMIT_BYTES: Final = 8 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Bounds of one server."""

    streams_a_connection: int = 16
    """A sidecar needs two: its control stream and a renewal."""
    connections: int = 4096
    """Connections at once, handshakes included; more are closed at once, those that exist go on."""
    calls: int = 4096
    """Calls at once over all connections; more are told RESOURCE_EXHAUSTED."""
    keepalive_seconds: float = 30.0
    """After so long without a sign the server asks whether the connection lives."""
    keepalive_timeout_seconds: float = 10.0
    """And ends it when there is no answer for so long."""
    client_ping_seconds: float = 5.0
    """Clients that ask more often than this are sent away."""
    handshake_seconds: float = 10.0
    """From accept to the end of the TLS handshake."""
    idle_seconds: float = 300.0
    """A connection without a call is closed after so long."""
    connection_seconds: float | None = None
    """The longest that a connection lasts, whatever is done on it; None: as long as it likes."""
    last_call_seconds: float = 10.0
    """How long a call in hand may go on once its connection's time is over."""

    def within(self, descriptors: int) -> ServerLimits:
        """These limits with no more connections than there are descriptors for."""
        return replace(self, connections=min(self.connections, descriptors))


JOINING_LIMITS: Final = ServerLimits(
    streams_a_connection=2, connections=2048, calls=4096, idle_seconds=30.0, connection_seconds=30.0
)
"""Whoever joins needs two calls, one after the other. A stranger who opens calls and never sends what they ask for
would hold them for ever, as no deadline of a handler runs before its request is there: so a connection ends in any
case, and all connections together cannot use up all calls."""


class AddressTakenError(Exception):
    """The address cannot be listened on; the message says why."""


def check_free(address: SocketAddress) -> None:
    """Try to listen on ``address`` and let go again: gRPC's own error does not say why. Raises AddressTakenError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address.host, address.port))
            probe.listen(1)
    except OSError as error:
        what = "is already in use" if error.errno == errno.EADDRINUSE else "cannot be listened on: "
        reason = "" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
        raise AddressTakenError(f"{what}{reason}") from error


def make_server(limits: ServerLimits) -> grpc.aio.Server:
    """A server with nothing registered and no port yet."""
    age = []
    if limits.connection_seconds is not None:
        age = [
            ("grpc.max_connection_age_ms", _milliseconds(limits.connection_seconds)),
            ("grpc.max_connection_age_grace_ms", _milliseconds(limits.last_call_seconds)),
        ]
    return grpc.aio.server(
        maximum_concurrent_rpcs=limits.calls,
        options=[
            *age,
            # Otherwise a second process could silently share the port and take half of the sidecars.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _REQUEST_LIMIT_BYTES),
            ("grpc.max_send_message_length", SNAPSHOT_LIMIT_BYTES),
            ("grpc.max_metadata_size", _METADATA_LIMIT_BYTES),
            ("grpc.absolute_max_metadata_size", _METADATA_LIMIT_BYTES),
            ("grpc.max_allowed_incoming_connections", limits.connections),
            ("grpc.max_concurrent_streams", limits.streams_a_connection),
            ("grpc.keepalive_time_ms", _milliseconds(limits.keepalive_seconds)),
            ("grpc.keepalive_timeout_ms", _milliseconds(limits.keepalive_timeout_seconds)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(limits.client_ping_seconds)),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", _milliseconds(limits.client_ping_seconds)),
            ("grpc.server_handshake_timeout_ms", _milliseconds(limits.handshake_seconds)),
            ("grpc.max_connection_idle_ms", _milliseconds(limits.idle_seconds)),
            ("grpc.enable_http_proxy", 0),
        ],
    )


async def listen(server: grpc.aio.Server, address: SocketAddress, credentials: grpc.ServerCredentials) -> SocketAddress:
    """Bind and start ``server``; the address it got, where port 0 was asked for. Raises AddressTakenError."""
    await asyncio.to_thread(check_free, address)
    try:
        port = server.add_secure_port(str(address), credentials)
    except RuntimeError as error:
        raise AddressTakenError("cannot be listened on") from error
    if port == 0:
        raise AddressTakenError("cannot be listened on")
    await server.start()
    return SocketAddress(address.host, port)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
