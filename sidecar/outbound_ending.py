"""HTTP/1.x from the app, wherever it leads: what is made on this side for it, and how its connection ends. Adapter."""

from __future__ import annotations

import asyncio
from typing import Final

from sidecar.http2.frames import NO_ERROR
from sidecar.http_relay import HttpRelay

LINGER_SECONDS: Final = 2.0
_LINGER_LIMIT_BYTES: Final = 1024 * 1024


class EndingHttpRelay(HttpRelay):
    """What relays of the app's requests have in common; stands before the relay that has their stream."""

    _lingering_bytes = -1  # dropped since the last response went out; -1: not yet
    _linger_timer: asyncio.TimerHandle | None = None

    def on_writable(self) -> None:
        if not self.inspector.paused and not self._app_ended and self.stream is not None and self.stream.writable:
            super().on_writable()

    def _attend(self) -> None:
        inspector = self.inspector
        answer = inspector.take_client()
        if answer:
            self.to_app(answer, 0)
        forward = inspector.take_server()
        if forward and self.stream is not None:
            self.to_mesh(forward)
        if inspector.abort:
            self.end("reset", "a message was cut short", abort=True)
        elif inspector.close_after and not self.ended:
            self._linger()

    def resumed(self) -> None:
        """The inspector is no longer paused: what was held back has gone out."""
        if self._app_ended:
            super().app_end()
        self.on_writable()

    def _linger(self) -> None:
        """Close towards the app in two steps: what it still sends would otherwise reset the connection, and with it
        destroy the response that is on its way (RFC 9112 section 9.6)."""
        if self._lingering_bytes >= 0:
            return
        transport = self.transport
        if transport is None or self._app_ended or transport.is_closing():
            self.end("closed")
            return
        self._lingering_bytes = 0
        transport.write_eof()
        transport.resume_reading()
        self._linger_timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self.end, "closed")

    def dropped(self, size: int) -> None:
        """Bytes came while the connection may be lingering."""
        if self._lingering_bytes >= 0:
            self._lingering_bytes += size
            if self._lingering_bytes > _LINGER_LIMIT_BYTES:
                self.end("closed")

    def app_end(self) -> None:
        self.inspector.client_eof()
        if self.inspector.attention:
            self._attend()
        if self.ended:
            return
        if self._lingering_bytes >= 0 or self.asks_nothing:
            self.end("closed")  # it came, asked nothing, and left; or it has its last answer
        elif not self.inspector.paused:
            super().app_end()

    @property
    def asks_nothing(self) -> bool:
        """Whether nobody waits for anything of a client that has ended."""
        raise NotImplementedError

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = NO_ERROR) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        super().end(reason, detail, abort=abort, code=code)
