"""A peer without a tunnel: one TCP connection, plain or mutual TLS, with the face of a tunnel's stream. Adapter.

Plain, it is an unmeshed caller on a permissive port, or a destination outside the mesh; with TLS, it is a SPIFFE peer
that has no sidecar, a client or a server. The relays use it as they use a stream, so judging, counting and ending are
the same code.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Protocol, cast

from ringfence.policy.reasons import DenyReason
from sidecar.http2.frames import CANCEL
from sidecar.relay import abort_connection, close_connection
from sidecar.tls import TlsEndedError, TlsEngine, TlsFailed, TlsFault
from sidecar.tunnel.stream import StreamEndpoint

HANDSHAKE_SECONDS: Final = 5.0
LINGER_SECONDS: Final = 2.0
_LINGER_LIMIT_BYTES: Final = 1024 * 1024
_HIGH_BYTES: Final = 256 * 1024
_UNREAD_LIMIT_BYTES: Final = 4 * 1024 * 1024
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),  # seconds of silence, then a probe
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),  # each so many seconds,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),  # and after so many unanswered the connection is over
)


class DirectOwner(Protocol):
    """Who made the connection."""

    def direct_ready(self, end: DirectEnd) -> None:
        """Connected and, with TLS, the peer verified; sets ``end.endpoint``, or ends it."""

    def direct_refused(self, end: DirectEnd, reason: DenyReason, code: str, detail: str) -> None:
        """The handshake failed: ``code`` is the verification reason or the TLS fault."""

    def direct_broken(self, end: DirectEnd, failed: TlsFailed | None) -> None:
        """TLS or, with None, TCP broke on an established connection; and with nothing heard of it yet, a server may
        have refused us: by TLS 1.3 a client is done before its certificate was judged. The endpoint is told next."""

    def direct_closed(self, end: DirectEnd) -> None:
        """Its TCP connection is gone; the last that is heard of it."""


class DirectEnd(asyncio.Protocol):
    """See the module. ``engine`` None: plain TCP."""

    def __init__(
        self,
        owner: DirectOwner,
        engine: TlsEngine | None,
        *,
        first: bytes = b"",
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        self.owner = owner
        self.engine = engine
        self.endpoint: StreamEndpoint | None = None
        self.heard = False  # whether an endpoint got any bytes of the peer
        self.local_ended = False
        self.held_bytes = 0
        self.remote = ("", 0)
        self.local = ("", 0)
        self._handshake_seconds = handshake_seconds
        self._first = first  # read by whoever found out what this connection is
        self._transport: asyncio.Transport | None = None
        self._full = False
        self._remote_ended = False
        self._fin_sent = False
        self._gone = False  # over for its owner; what is left of the connection takes care of itself
        self._dropped_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    # -- transport ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport = transport
        transport.set_write_buffer_limits(high=_HIGH_BYTES)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Opaque bytes have no deadline: only the kernel finds out that the peer's machine is gone.
            for level, option, value in _KEEPALIVE:
                sock.setsockopt(level, option, value)
        self.remote = _address(transport.get_extra_info("peername"))
        self.local = _address(transport.get_extra_info("sockname"))
        if self.engine is None:
            self.owner.direct_ready(self)
        else:
            self._deadline = asyncio.get_running_loop().call_later(self._handshake_seconds, self._late)
            self._write(self.engine.start())
        if self._first:
            first, self._first = self._first, b""
            self.data_received(first)

    def data_received(self, data: bytes) -> None:
        if self._gone:
            self._drop(data)
            return
        engine = self.engine
        if engine is None:
            self._deliver(data)
            return
        ready = engine.established
        try:
            plain = engine.receive(data)
            if not ready:
                if engine.established:
                    # What the endpoint has to say leaves together with our last handshake message: a server that
                    # refuses us then resets nothing that is still to be written, and its alert is read.
                    self._become_ready()
                self._write(engine.outgoing())
            if plain:
                self._deliver(plain)
            elif ready:
                self._answer_tls()
        except TlsEndedError as end:
            if engine.established and not ready:  # the peer's first words and its last came in one read
                self._become_ready()
            self._tls_ended(end)

    def _answer_tls(self) -> None:
        """What came was TLS's own, as new keys are, and so is the answer; whoever asks without end and reads nothing is
        cut off."""
        assert self.engine is not None
        self._write(self.engine.outgoing())
        transport = self._transport
        if self._full and transport is not None and transport.get_write_buffer_size() > _UNREAD_LIMIT_BYTES:
            self.reset(CANCEL)
            self._tell_reset()

    def _become_ready(self) -> None:
        self._cancel_deadline()
        self.owner.direct_ready(self)

    def _tls_ended(self, end: TlsEndedError) -> None:
        assert self.engine is not None
        if end.plaintext:
            self._deliver(end.plaintext)
        self._write(self.engine.outgoing())
        if not isinstance(end, TlsFailed):
            self._ended_remotely()
            return
        if self.engine.established:
            self.owner.direct_broken(self, end)
            self.reset(CANCEL)
            self._tell_reset()
            return
        reason = DenyReason.PLAINTEXT_REFUSED if end.fault is TlsFault.NOT_TLS else DenyReason.PEER_REFUSED
        verification = end.verification
        code = str(verification.reason) if verification is not None else str(end.fault)
        self._refuse(reason, code, verification.detail if verification is not None else end.reason)

    def _late(self) -> None:
        self._refuse(DenyReason.CALLER_TIMEOUT, "timeout", f"no handshake within {self._handshake_seconds:g} s")

    def _refuse(self, reason: DenyReason, code: str, detail: str) -> None:
        if self._gone:
            return
        self.owner.direct_refused(self, reason, code, detail)
        self._close()

    def _deliver(self, data: bytes) -> None:
        endpoint = self.endpoint
        if endpoint is None or self._gone:
            return
        self.heard = True
        if not endpoint.on_data(data) and not self._gone:
            self.held_bytes += len(data)
            if self._transport is not None:
                self._transport.pause_reading()

    def _drop(self, data: bytes) -> None:
        self._dropped_bytes += len(data)
        if self._dropped_bytes > _LINGER_LIMIT_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        if self._gone:
            if self._transport is not None:
                close_connection(self._transport)
            return False
        if self.engine is not None and not self._remote_ended:
            # TCP ended before close_notify: what was read may be cut short (RFC 8446 section 6.1).
            if self.engine.established:
                self.reset(CANCEL)
                self._tell_reset()
            else:
                self._remote_ended = True
                self._refuse(DenyReason.PEER_REFUSED, "closed", "connection closed during the handshake")
            return False
        self._ended_remotely()
        return True

    def _ended_remotely(self) -> None:
        if self._remote_ended:
            return
        self._remote_ended = True
        if self.endpoint is not None:
            self.endpoint.on_end()
        if self.local_ended:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._cancel_deadline()
        if not self._gone:
            self._gone = True
            if self.engine is not None and not self.engine.established:
                self.owner.direct_refused(
                    self, DenyReason.PEER_REFUSED, "closed", "connection lost during the handshake"
                )
            elif exc is not None and self.engine is not None:
                self.owner.direct_broken(self, None)
            self._tell_reset()
        self.owner.direct_closed(self)

    def _tell_reset(self) -> None:
        endpoint, self.endpoint = self.endpoint, None
        if endpoint is not None:
            endpoint.on_reset(CANCEL)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self.endpoint is not None and not self._gone and not self.local_ended:
            self.endpoint.on_writable()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._fin_sent:
            self._transport.write(data)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # -- a stream's face ----------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether ``send`` would answer True."""
        return not self._full

    def send(self, data: bytes) -> bool:
        """Send ``data``; False: no more may be read from the source until ``on_writable``."""
        if self._gone or self.local_ended:
            return True
        if self.engine is None:
            self._write(data)
        else:
            try:
                self.engine.send(data)
            except TlsEndedError:
                self.reset(CANCEL)
                return True
            self._write(self.engine.outgoing())
        return not self._full

    def end(self) -> None:
        """Send no more (half-close): close_notify, then FIN."""
        if self.local_ended or self._gone:
            return
        self.local_ended = True
        if self.engine is not None:
            self.engine.close_notify()
            self._write(self.engine.outgoing())
        if self._remote_ended:
            self._close()
        else:
            self._fin()

    def _fin(self) -> None:
        transport = self._transport
        if transport is not None and not self._fin_sent and not transport.is_closing():
            self._fin_sent = True
            transport.write_eof()

    def close(self) -> None:
        """Send what is buffered, then end both directions; the endpoint is told nothing more."""
        self.endpoint = None
        self.end()
        self._close()

    def _close(self) -> None:
        """End in order. What the peer still sends is read and dropped for a while: bytes that nobody read when the
        socket is closed reset the connection, and destroy what is on its way to the peer (RFC 9112 section 9.6)."""
        if self._gone:
            return
        self._gone = True
        self._cancel_deadline()
        transport = self._transport
        if transport is None:
            return
        if self._remote_ended:
            close_connection(transport)
            return
        self._fin()
        transport.resume_reading()
        self._deadline = asyncio.get_running_loop().call_later(LINGER_SECONDS, close_connection, transport)

    def reset(self, code: int) -> None:
        """End both directions at once, by RST; the endpoint is not told."""
        if self._gone:
            return
        self._gone = self.local_ended = True
        self._cancel_deadline()
        if self._transport is not None:
            abort_connection(self._transport)

    def drop(self, code: int) -> None:
        """As ``reset``; the endpoint is not told of what is just being read either."""
        self.endpoint = None
        self.reset(code)

    def credit(self, size: int) -> None:
        """``size`` bytes for which ``on_data`` answered False are consumed now."""
        self.held_bytes -= size
        if self.held_bytes <= 0 and self._transport is not None and not self._gone:
            self.held_bytes = 0
            self._transport.resume_reading()


def _address(name: object) -> tuple[str, int]:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else ("", 0)
