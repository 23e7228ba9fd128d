"""What a link sends, and when: from the machine through TLS to the transport. Adapter.

Every frame of a turn of the event loop leaves in one TLS write: ``_flush`` runs once a turn, asked for by the machine.
Bulk bytes leave at once (``_seal``), from where they stand. While the transport is full the machine has no room.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ringfence.policy.reasons import DenyReason
from sidecar.in_place import descriptor_of, write_in_place
from sidecar.tls import SEALED_BYTES, RecordBuffers, TlsEndedError, TlsEngine
from sidecar.tunnel.machine import TunnelMachine
from sidecar.tunnel.sending import ROOM_BYTES

WRITE_HIGH_BYTES: Final = 128 * 1024
# Streams stop at the mark above; answers to the peer's own frames do not: a peer that asks and never reads meets this.
_UNREAD_LIMIT_BYTES: Final = 8 * 1024 * 1024


class SendingLink(asyncio.BufferedProtocol):
    """The sending half of a link; ``sidecar.tunnel.link`` makes it whole."""

    machine: TunnelMachine

    def __init__(self, engine: TlsEngine, buffers: RecordBuffers) -> None:
        self._engine = engine
        self._buffers = buffers
        self._cipher = buffers.cipher
        self._descriptor = -1
        self._in_place = False  # the handshake is over, and the buffers are in use
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._unread_bytes = 0  # that waited for a full transport at the last sweep
        self.ready = False  # the TLS handshake is over
        self.closed = False

    def close(self, reason: DenyReason | None, detail: str) -> None:
        """End the link now."""
        raise NotImplementedError

    def defect(self, error: Exception) -> None:
        """A defect of ours: the link ends."""
        raise NotImplementedError

    def _broken(self, reason: DenyReason, code: str, detail: str) -> None:
        """The link cannot go on."""
        raise NotImplementedError

    def _use_buffers(self) -> bytes:
        """From here on bytes come and go by the buffers; gives the plaintext that the handshake's last bytes left."""
        plain = bytes(self._engine.use(self._buffers))
        self._descriptor = descriptor_of(self._transport) if self._transport is not None else -1
        self._in_place = True
        return plain

    def pause_writing(self) -> None:
        self._paused = True
        self.machine.set_room(0)

    def resume_writing(self) -> None:
        self._paused = False
        self._unread_bytes = 0
        self.machine.set_room(ROOM_BYTES)

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _schedule(self) -> None:
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        machine = self.machine
        if not self.ready or self.closed:
            machine.take()
            return
        try:
            self._engine.send(machine.take())
            self._put_out()
            if self._paused:
                self._check_unread()
            else:
                machine.new_turn()
        except TlsEndedError as end:
            self.close(None, str(end))
        except Exception as error:
            self.defect(error)

    def _put_out(self) -> None:
        """Write what is encrypted."""
        transport = self._transport
        if transport is None:
            return
        if not self._in_place:  # the first frames, in the midst of the handshake's last bytes
            transport.write(self._engine.outgoing())
            return
        while sealed := self._engine.outgoing_in_place():
            write_in_place(transport, self._descriptor, sealed)
            if len(sealed) < SEALED_BYTES:
                return

    def hurry(self) -> None:
        """Send what is put out so far without waiting for the end of the turn."""
        if self.machine.out and not self._paused:
            self._seal(0)

    def _seal(self, size: int) -> None:
        """Send what is put out already, and behind it the first ``size`` bytes of the buffers' ``clear``, a frame."""
        if not self._in_place or self.closed:
            return
        engine = self._engine
        machine = self.machine
        try:
            if machine.out:
                engine.send(machine.take_early())
            if size:
                engine.send_in_place(size)
            self._put_out()
        except TlsEndedError as end:
            self.close(None, str(end))
        except Exception as error:
            self.defect(error)

    def _answer_tls(self) -> None:
        """What came was TLS's own, and so is the answer: it must not gather until there is something else to send."""
        answer = self._engine.outgoing()
        if answer:
            self._write(answer)
            if self._paused:
                self._check_unread()

    def _check_unread(self) -> None:
        unread_bytes = self._transport.get_write_buffer_size()  # type: ignore[union-attr]
        if unread_bytes > _UNREAD_LIMIT_BYTES:
            self._broken(DenyReason.OVERLOADED, "unread", f"the peer left {unread_bytes} bytes unread")
