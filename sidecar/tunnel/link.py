"""One tunnel connection on the wire: TCP transport, TLS engine, machine. Adapter.

How long it lives, and what the peer has to prove for that, is for ``sidecar.tunnel.link_identity``;
what leaves, and when, for ``sidecar.tunnel.link_sending``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final, cast

from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import VerifiedPeer
from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodError
from sidecar.tls import TlsEndedError, TlsEngine, TlsFailed, TlsFault
from sidecar.tunnel.link_context import LinkContext, LinkOwner
from sidecar.tunnel.link_identity import LinkIdentity
from sidecar.tunnel.link_sending import WRITE_HIGH_BYTES, SendingLink
from sidecar.tunnel.machine import TunnelMachine
from sidecar.tunnel.stream import Headers, Stream

HANDSHAKE_SECONDS: Final = 5.0
SWEEP_SECONDS: Final = 15.0  # a silent peer is pinged after one sweep and given up after the next


class Link(SendingLink):
    """One tunnel connection. ``send``-side state is the machine's; this class owns deadlines, and says how it ends."""

    def __init__(
        self,
        engine: TlsEngine,
        *,
        server: bool,
        owner: LinkOwner,
        context: LinkContext,
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        super().__init__(engine, context.buffers)
        self._server = server
        self._handshake_seconds = handshake_seconds
        self._owner = owner
        self._context = context
        self._heard = True
        self._pinged = False
        self._settled = False  # the peer's settings are known
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._began = context.clock.monotonic()
        self._identity = LinkIdentity(self, engine, context)
        self.machine = TunnelMachine(
            server=server,
            handler=self,
            schedule=self._schedule,
            monotonic=context.clock.monotonic,
            seal=self._seal,
            clear=context.buffers.clear,
        )
        self.remote_address = ""
        self.remote = ("", 0)
        self.usable = False  # the owner was told ``link_ready``
        self.end_reason: DenyReason | None = None
        self.end_detail = ""

    # -- transport ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is no instance of it
        if self.closed:  # given up between its accept and this
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        remote = transport.get_extra_info("peername")
        if remote:
            self.remote = (str(remote[0]), int(remote[1]))
            self.remote_address = f"{remote[0]}:{remote[1]}"
        self._timer("handshake", self._handshake_seconds, self._handshake_late)
        if not self._server:
            self._write(self._engine.start())

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._cipher

    def buffer_updated(self, nbytes: int) -> None:
        try:
            if not self._in_place:
                self._shake_hands(bytes(self._cipher[:nbytes]))
                return
            plain = self._engine.receive_in_place(nbytes)
            self._heard = True
            if plain:
                machine = self.machine
                machine.receive(plain if machine.bulky else bytes(plain))
            else:
                self._answer_tls()
        except TlsEndedError as end:
            self._tls_ended(end)
        except PeerError as error:
            self._peer_broke(error)
        except Exception as error:
            self.defect(error)

    def _shake_hands(self, data: bytes) -> None:
        engine = self._engine
        plain = engine.receive(data)
        self._write(engine.outgoing())
        if not engine.established:
            return
        self._established()
        if self.closed:
            return
        if plain:
            self.machine.receive(plain)
        plain = self._use_buffers()
        if plain:
            self.machine.receive(plain)

    def eof_received(self) -> bool:
        self._lost("closed by the peer")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost("connection lost" if exc is None else f"connection lost: {exc}")
        self._cancel("linger")

    def _lost(self, detail: str) -> None:
        """The connection ended without a word of TLS. To a client that had no settings yet that is a refusal."""
        if not self.usable and not self.closed:
            reason = DenyReason.PEER_REFUSED if self.ready else DenyReason.UPSTREAM_UNREACHABLE
            self._refused(reason, "closed", f"{detail} during the handshake")
        self.close(None, detail)

    @property
    def _direction(self) -> str:
        return "inbound" if self._server else "outbound"

    # -- handshake ----------------------------------------------------------------------------------------------------

    def _established(self) -> None:
        self._identity.established()
        self._cancel("handshake")
        self.ready = True
        context = self._context
        context.time_handshake(self._direction, context.clock.monotonic() - self._began)
        if self._identity.bundles_changed:
            self.reverify()  # the bundles changed during the handshake
            if self.closed:
                return
        self._timer("settings", self._handshake_seconds, self._handshake_late)
        self._timer("sweep", SWEEP_SECONDS, self._sweep)
        self._identity.arm_expiry()
        self.machine.start()
        if self._server:
            self._become_usable()

    def _become_usable(self) -> None:
        self.usable = True
        self._owner.link_ready(self)

    def _tls_ended(self, end: TlsEndedError) -> None:
        """TLS is over: what arrived before the end still counts."""
        if end.plaintext and self.ready:
            try:
                self.machine.receive(end.plaintext)
            except PeerError as error:
                self._peer_broke(error)
            except Exception as error:
                self.defect(error)
        if self.closed:
            return
        if not isinstance(end, TlsFailed):
            self._lost("closed by the peer")
        elif self.usable and self._settled:
            self._broken(DenyReason.PROTOCOL_ERROR, f"tls_{end.fault}", end.reason)
        else:
            reason = DenyReason.PLAINTEXT_REFUSED if end.fault is TlsFault.NOT_TLS else DenyReason.PEER_REFUSED
            if end.verification is not None:
                self._refused(reason, str(end.verification.reason), end.verification.detail)
            else:
                self._refused(reason, str(end.fault), end.reason)
            self._write(self._engine.outgoing())  # the alert
            self.close(reason, self.end_detail)

    def _peer_broke(self, error: PeerError) -> None:
        if not self.closed:
            self.machine.goaway(error.code, error.detail)
            if isinstance(error, FloodError):
                code = f"{error.kind}_flood"
            else:
                code = h2.ERROR_NAMES.get(error.code, "protocol_error")
            self._broken(DenyReason.PROTOCOL_ERROR, code, error.detail)

    def defect(self, error: Exception) -> None:
        """A defect of ours met while handling this link: it ends, and no other does."""
        if not self.closed:
            self.machine.goaway(h2.INTERNAL_ERROR)
            self._broken(DenyReason.INTERNAL_ERROR, "internal_error", f"{type(error).__name__}: {error}")

    def _broken(self, reason: DenyReason, code: str, detail: str) -> None:
        """Log, count and end a link that cannot go on; ``code`` is of a closed set."""
        direction = self._direction
        self._context.count_broken(direction, code)
        self._context.log.warning(
            "tunnel broken",
            direction=direction,
            peer=str(self.peer.spiffe_id) if self.peer is not None else "",
            reason=code,
            detail=detail,
            remote=self.remote_address,
        )
        self.close(reason, f"{code}: {detail}")

    def _refused(self, reason: DenyReason, code: str, detail: str) -> None:
        """Log and count a handshake that failed: only the side that refused knows the reason."""
        direction = self._direction
        self.end_reason = reason
        self.end_detail = f"{code}: {detail}"
        self._context.count_failure(direction, code)
        self._context.log.warning(
            "handshake refused", direction=direction, reason=code, detail=detail, remote=self.remote_address
        )

    def _handshake_late(self) -> None:
        self._refused(DenyReason.UPSTREAM_TIMEOUT, "timeout", f"no handshake within {self._handshake_seconds:g} s")
        self.close(DenyReason.UPSTREAM_TIMEOUT, self.end_detail)

    # -- identity -----------------------------------------------------------------------------------------------------

    @property
    def peer(self) -> VerifiedPeer | None:
        """None until the handshake is over."""
        return self._identity.peer

    def renew(self) -> None:
        """``context.svid`` is a new one: prove it on this link; a peer that cannot check it drains.

        Before the peer's settings it is not known whether it can: ``on_settings`` comes back to it.
        """
        if not self._settled or self.closed:
            return
        if self.machine.peer_is_ringfence:
            self._identity.prove()
        else:
            self.drain()
            self._owner.link_draining(self)

    def reverify(self) -> None:
        """New bundles: the peer's chain must still lead to one of them."""
        self._identity.reverify()

    def on_proof(self, payload: bytes) -> None:
        if self._identity.check(payload):
            self._owner.link_reproved(self)

    def send_proof(self, payload: bytes) -> None:
        self.machine.prove(payload)

    def wake_at_expiry(self, seconds: float, callback: Callable[[], None]) -> None:
        self._timer("expiry", seconds, callback)

    def give_up(self, code: int, words: str, reason: DenyReason, detail: str) -> None:
        self.machine.goaway(code, words)
        self.close(reason, detail)

    # -- machine's handler --------------------------------------------------------------------------------------------

    def on_connect(self, stream: Stream, headers: Headers) -> None:
        if self.closed:  # by a frame in front of this one
            return
        self._owner.link_connect(self, stream, headers)

    def on_drained(self) -> None:
        self._loop.call_soon(self.close, None, "drained")

    def on_goaway(self, code: int) -> None:
        self._owner.link_draining(self)

    def on_settings(self) -> None:
        self._settled = True
        self._cancel("settings")
        if not self._server:
            self._become_usable()
        # An SVID that was renewed during the handshake is proved as soon as the peer says that it can check it.
        if self._identity.outdated:
            self.renew()

    # -- end ----------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take no new streams (GOAWAY); the living ones go on."""
        if self.ready and not self.closed and not self.machine.going_away:
            self.machine.goaway(h2.NO_ERROR, "draining")

    def close(self, reason: DenyReason | None, detail: str) -> None:
        """End the link now, telling every stream; what is put out already is sent. Idempotent."""
        if self.closed:
            return
        if self.end_reason is None:
            self.end_reason, self.end_detail = reason, detail
        self.closed = True
        for name in list(self._timers):
            self._cancel(name)
        if self.ready:
            with contextlib.suppress(TlsEndedError):
                self._engine.send(self.machine.take())
                self._put_out()
        self.machine.reset_all(h2.CANCEL)
        if self._transport is not None:
            if self.ready:
                self._engine.close_notify()
                self._write(self._engine.outgoing())
            self._transport.close()
            # close() waits for what is buffered; a peer that does not read must not hold the socket for ever.
            self._timers["linger"] = self._loop.call_later(HANDSHAKE_SECONDS, self._transport.abort)
        self._owner.link_lost(self)

    def _sweep(self) -> None:
        """Every ``SWEEP_SECONDS``: is the peer there, does it read, are both identities still good?"""
        if not self._heard and self._pinged:
            self._broken(DenyReason.UPSTREAM_TIMEOUT, "silent", "the peer fell silent")
            return
        if self._paused and self._transport is not None:
            unread_bytes = self._transport.get_write_buffer_size()
            if 0 < self._unread_bytes <= unread_bytes:
                self._broken(DenyReason.UPSTREAM_TIMEOUT, "unread", f"the peer left {unread_bytes} bytes unread")
                return
            self._unread_bytes = unread_bytes
        self._pinged = not self._heard
        if self._pinged:
            self.machine.put(h2.ping(b"ringfenc"))
        self._heard = False
        self._timer("sweep", SWEEP_SECONDS, self._sweep)
        self._identity.arm_expiry()  # the wall clock may have jumped, as it does when a machine wakes from sleep

    def _timer(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        self._cancel(name)
        if not self.closed:
            self._timers[name] = self._loop.call_later(seconds, callback)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
