"""The app's side of a relay and the mesh's, without sockets: they record, and they object as real ones do."""

from __future__ import annotations

import asyncio
import socket
from typing import Any


class FakeTransport(asyncio.Transport):
    """A TCP transport whose reader takes nothing until ``drain``; tells its protocol when it is full."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.written: list[bytes] = []
        self.taken = bytearray()
        self.reading = True
        self.eof = False
        self.closing = False
        self.aborted = False
        self.options: list[tuple[int, int]] = []
        self._high_bytes = 64 * 1024
        self._full = False

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self.options.append((level, option))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else ("127.0.0.1", 4711) if name in ("peername", "sockname") else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_bytes = high or 0

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))

    def write(self, data: Any) -> None:
        if self.eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.closing:
            return
        self.written.append(bytes(data))
        if not self._full and self.get_write_buffer_size() > self._high_bytes:
            self._full = True
            self.protocol.pause_writing()

    def drain(self) -> bytes:
        """The reader takes all there is."""
        data = b"".join(self.written)
        self.taken += data
        self.written.clear()
        if self._full:
            self._full = False
            self.protocol.resume_writing()
        return data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = not self.closing

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.written.clear()

    @property
    def reset(self) -> bool:
        """Ended by RST rather than in order."""
        return self.aborted and (socket.SOL_SOCKET, socket.SO_LINGER) in self.options


class FakeStream:
    """The mesh side: records what is sent; ``room`` False makes it keep, as a stream without window does."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.room = True
        self.local_ended = False
        self.closed = False
        self.code: int | None = None
        self.credited = 0

    @property
    def writable(self) -> bool:
        return self.room

    def send(self, data: bytes) -> bool:
        if not self.local_ended:
            self.sent += data
        return self.room

    def end(self) -> None:
        self.local_ended = True

    def close(self) -> None:
        self.local_ended = self.closed = True

    def reset(self, code: int) -> None:
        self.local_ended = True
        if self.code is None and not self.closed:
            self.code = code

    def credit(self, size: int) -> None:
        self.credited += size
