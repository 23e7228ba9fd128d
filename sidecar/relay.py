"""One app connection joined to one stream of a tunnel, bytes as they are. The base of both directions and of HTTP.

Theory of operation. Two sources, two sinks. A full sink stops its source and nothing else: when the stream keeps
bytes, the app's transport is not read until ``on_writable``; when the app's transport is full, the stream gets no
credit until ``resume_writing``. What is held meanwhile is at most one read towards the tunnel, and one stream window
towards the app. A half-close travels as a half-close. The relay ends once, says why, and is counted and logged then.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Final, Protocol, cast

from ringfence.policy.decide import Decision
from ringfence.policy.reasons import DenyReason
from sidecar.http2.frames import CANCEL, CONNECT_ERROR, ENHANCE_YOUR_CALM, NO_ERROR
from sidecar.in_place import descriptor_of, write_in_place
from sidecar.tunnel.stream import Headers

_APP_HIGH_BYTES: Final = 256 * 1024
_LINGER_ABORT: Final = struct.pack("ii", 1, 0)
CLOSE_SECONDS: Final = 30.0  # in which the reader of a closed connection must take something of what is left for it


@dataclass(slots=True, kw_only=True)
class RelayFacts:
    """What is known of a relayed connection, for its log line, its metrics and the list of connections."""

    direction: str  # "inbound" | "outbound"
    peer: str  # SPIFFE ID; "" while unknown
    service: str  # namespace/name of the called service
    port: int
    protocol: str
    started: float  # monotonic seconds
    decision: Decision | None = None
    request_id: str = ""
    origin: str = ""  # SPIFFE ID of the sidecar that refused, if one did
    remote: str = ""  # address of a caller without a tunnel; never a metric's label
    address: bytes = b""  # of the direct peer of an inbound one, its sidecar's or its own, without a port
    destination: str = ""  # outside the mesh: what was dialled; never a metric's label, since an app chooses it
    sni: str = ""  # of TLS of the app's own, passed through unread; never a metric's label, and so
    alpn: str = ""  # is this, which that TLS offers
    requests: int = 0
    would_deny: int = 0  # of these, and of opaque connections this one, that pass only because the service is observed
    bytes_from_app: int = 0
    bytes_to_app: int = 0


class ByteStream(Protocol):
    """The mesh side of a relay: a stream of a tunnel, or a peer without one (``sidecar.direct``)."""

    @property
    def local_ended(self) -> bool:
        """Whether it sends no more."""

    @property
    def writable(self) -> bool:
        """Whether ``send`` would answer True."""

    def send(self, data: bytes) -> bool: ...

    def end(self) -> None: ...

    def close(self) -> None: ...

    def reset(self, code: int) -> None: ...

    def credit(self, size: int) -> None: ...


class RelayOwner(Protocol):
    """Who keeps the relay: inbound or outbound."""

    def relay_connected(self, relay: Relay) -> None:
        """The app's side is there; nothing was read of it yet."""

    def relay_ended(self, relay: Relay, reason: str, detail: str) -> None:
        """Called once; ``reason`` is ``closed``, ``reset`` or a DenyReason."""

    def relay_failed(self, relay: Relay, error: Exception) -> None:
        """A defect of ours met while handling this connection's bytes: log it; the relay is ended."""


class JudgingOwner(RelayOwner, Protocol):
    """The inbound side, of a relay whose requests it judges."""

    def look_again(self, relay: Relay) -> None:
        """What a request under way stands on is known anew: judge what the relay carries again."""


class Relay(asyncio.BaseProtocol):
    """Opaque bytes between ``transport`` (the app) and ``stream`` (the mesh); either may come later than the other.

    No ``asyncio.Protocol`` by inheritance, though it is one by its methods: uvloop would not let a subclass read in
    place (``sidecar.opaque``).
    """

    retry_after_seconds = 0  # when the mesh may take this connection, once a limit has refused it

    def __init__(self, owner: RelayOwner, facts: RelayFacts) -> None:
        self.owner = owner
        self.facts = facts
        self.transport: asyncio.Transport | None = None
        self.stream: ByteStream | None = None
        self.ended = False
        self._app_descriptor = -1  # asked for when first needed
        self._app_full = False
        self._app_ended = False
        self._mesh_ended = False
        self._held_bytes = 0  # towards the app, not yet credited to the stream
        self._early: list[bytes] = []  # towards the app, which is still being connected

    # -- the app's transport ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is no instance of it
        transport.set_write_buffer_limits(high=_APP_HIGH_BYTES)
        self.transport = transport  # TCP_NODELAY is set: uvloop and asyncio do that
        if self.ended:
            transport.abort()
            return
        self.owner.relay_connected(self)
        if self._early:
            early, self._early = self._early, []
            for data in early:
                self.facts.bytes_to_app += len(data)
                transport.write(data)
            if not self._app_full:
                self._credit()
        if self._mesh_ended:
            self._close_towards_app()

    def data_received(self, data: bytes) -> None:
        self.facts.bytes_from_app += len(data)
        self.to_mesh(data)

    def eof_received(self) -> bool:
        self._app_ended = True
        self.app_end()
        if self._mesh_ended:
            self.end("closed")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.ended:
            self._drop_stream(CONNECT_ERROR if exc is not None else CANCEL)
            self.end("reset" if exc is not None else "closed", str(exc or ""))

    def pause_writing(self) -> None:
        self._app_full = True

    def resume_writing(self) -> None:
        self._app_full = False
        self._credit()

    # -- the stream ---------------------------------------------------------------------------------------------------

    def on_data(self, data: bytes) -> bool:
        return self.to_app(data, len(data))

    def on_end(self) -> None:
        self._mesh_ended = True
        if self.transport is not None:
            self._close_towards_app()

    def on_headers(self, headers: Headers) -> None:
        """The inbound end expects none after CONNECT: trailers carry nothing for the app."""

    def on_reset(self, code: int) -> None:
        if code == NO_ERROR and self._mesh_ended:
            self.end("closed")
        else:
            reason = DenyReason.OVERLOADED if code == ENHANCE_YOUR_CALM else "reset"
            self.end(reason, f"stream reset, code {code}", abort=True)

    def on_writable(self) -> None:
        if self.transport is not None and not self.ended:
            self.transport.resume_reading()

    # -- moving bytes -------------------------------------------------------------------------------------------------

    def to_mesh(self, data: bytes) -> None:
        if not self.stream.send(data) and self.transport is not None:  # type: ignore[union-attr]
            self.transport.pause_reading()

    def to_app(self, data: bytes | memoryview, received: int) -> bool:
        """Write to the app; ``received`` bytes of the stream's window stand behind it. True: consumed."""
        transport = self.transport
        if transport is None:
            self._early.append(bytes(data))
            self._held_bytes += received
            return False
        self.facts.bytes_to_app += len(data)
        if type(data) is memoryview:
            if self._app_descriptor < 0:
                self._app_descriptor = descriptor_of(transport)
            write_in_place(transport, self._app_descriptor, data)
        else:
            transport.write(data)
        if self._app_full:
            self._held_bytes += received
            return False
        return True

    def _credit(self) -> None:
        held, self._held_bytes = self._held_bytes, 0
        if held and self.stream is not None and not self.ended:
            self.stream.credit(held)

    def sweep(self, now: float) -> None:
        """Nothing: opaque bytes have no beginning or end that could be late."""

    def drain(self) -> None:
        """Nothing: opaque bytes do not tell between which of them one may stop."""

    # -- ends ---------------------------------------------------------------------------------------------------------

    def app_end(self) -> None:
        """The app sends no more."""
        if self.stream is not None:
            self.stream.end()

    def _close_towards_app(self) -> None:
        assert self.transport is not None
        if self._app_ended:
            self.end("closed")
        elif self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def _drop_stream(self, code: int) -> None:
        if self.stream is None:
            return
        if self.stream.local_ended:
            self.stream.close()  # what was said last still goes out
        else:
            self.stream.reset(code)

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = CANCEL) -> None:
        """End both directions and report; idempotent. ``abort``: the app sees a reset rather than a clean close."""
        if self.ended:
            return
        self.ended = True
        self._early.clear()
        self._drop_stream(code)
        transport = self.transport
        if transport is not None:
            if abort:
                abort_connection(transport)
            else:
                close_connection(transport)
        self.owner.relay_ended(self, reason, detail)


class TurnedAway(asyncio.Protocol):
    """A connection that cannot be served: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def close_connection(transport: asyncio.Transport) -> None:
    """End a TCP connection in order: what is buffered still goes out, for as long as the reader takes any of it."""
    transport.close()
    left_bytes = transport.get_write_buffer_size()
    if left_bytes:
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, _close_late, transport, left_bytes)


def _close_late(transport: asyncio.Transport, before_bytes: int) -> None:
    left_bytes = transport.get_write_buffer_size()
    if left_bytes >= before_bytes:
        transport.abort()
    elif left_bytes:
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, _close_late, transport, left_bytes)


def abort_connection(transport: asyncio.Transport) -> None:
    """End a TCP connection by RST, so that a truncated answer can never be taken for a whole one."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ABORT)
    transport.abort()
