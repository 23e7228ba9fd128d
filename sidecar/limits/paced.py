"""The mesh side of a relay whose bytes are limited: reads no faster than they are allowed. Adapter.

Stands between a stream and its relay, with the face of each towards the other, so that neither knows. Nothing is
dropped: towards the app the peer gets its window back late; towards the mesh the relay finds its stream full for a
while and stops reading the app. Both directions use the same allowance.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from sidecar.limits.limiter import CallerLimits
from sidecar.relay import ByteStream
from sidecar.tunnel.stream import Headers, Stream, StreamEndpoint


class Limited(StreamEndpoint, Protocol):
    """A relay, and what limits it now."""

    limits: CallerLimits | None
    ended: bool


class Paced:
    """A stream for ``relay``, an endpoint for ``stream``."""

    def __init__(self, stream: ByteStream, relay: Limited) -> None:
        self.stream = stream
        self.relay = relay
        self._paused = False
        self._owed_bytes = 0  # of the peer's window, until the pause is over
        self._timer: asyncio.TimerHandle | None = None

    # -- the relay's stream -------------------------------------------------------------------------------------------

    @property
    def local_ended(self) -> bool:
        return self.stream.local_ended

    @property
    def writable(self) -> bool:
        return not self._paused and self.stream.writable

    def send(self, data: bytes) -> bool:
        taken = self.stream.send(data)
        self._use(len(data))
        return taken and not self._paused

    def end(self) -> None:
        self.stream.end()

    def close(self) -> None:
        self._over()
        self.stream.close()

    def reset(self, code: int) -> None:
        self._over()
        self.stream.reset(code)

    def credit(self, size: int) -> None:
        if self._paused:
            self._owed_bytes += size
        else:
            self.stream.credit(size)

    # -- the stream's endpoint ----------------------------------------------------------------------------------------

    def on_data(self, data: bytes) -> bool:
        consumed = self.relay.on_data(data)
        self._use(len(data))
        if consumed and self._paused:
            self._owed_bytes += len(data)
            return False
        return consumed

    def on_end(self) -> None:
        self.relay.on_end()

    def on_headers(self, headers: Headers) -> None:
        self.relay.on_headers(headers)

    def on_reset(self, code: int) -> None:
        self._over()
        self.relay.on_reset(code)

    def on_writable(self) -> None:
        if not self._paused:
            self.relay.on_writable()

    # -- pauses -------------------------------------------------------------------------------------------------------

    def _use(self, size: int) -> None:
        limits = self.relay.limits
        if limits is None or self.relay.ended:
            return
        seconds = limits.used(size)
        if seconds > 0.0 and not self._paused:
            self._paused = True
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def look_again(self) -> None:
        """The limits have changed."""
        if self._timer is not None and self._paused:
            self._timer.cancel()
            self._look()

    def _look(self) -> None:
        """What came during the pause, here or on other connections of the same allowance, has to be paid for, too."""
        limits = self.relay.limits
        seconds = limits.used(0) if limits is not None else 0.0
        if seconds > 0.0:
            self._wait(seconds)
            return
        self._paused = False
        owed, self._owed_bytes = self._owed_bytes, 0
        if owed:
            self.stream.credit(owed)
        if self.stream.writable:
            self.relay.on_writable()

    def _over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._paused = False


def mesh_end(stream: ByteStream | None) -> ByteStream | None:
    """The stream of a relay, whether or not its bytes are limited."""
    return stream.stream if isinstance(stream, Paced) else stream


def has_sidecar(stream: ByteStream | None) -> bool:
    """Whether a sidecar of ours is at the other end, which leaves by itself when it has read GOAWAY and has drawn for a
    trace already."""
    end = mesh_end(stream)
    return isinstance(end, Stream) and end.machine.peer_is_ringfence
