"""Messages in the bytes of a stream: one byte of flags, four of length, the message (gRPC's "Length-Prefixed-Message").

Pure. Compression is never offered, so a compressed message is the other side's fault.
"""

from __future__ import annotations

from typing import Final

from sidecar.rpc.status import RpcError, Status, StatusCode

PREFIX_BYTES: Final = 5


def framed(message: bytes, limit_bytes: int) -> bytes:
    """``message`` with its prefix; RpcError RESOURCE_EXHAUSTED if it is larger than the other side takes."""
    if len(message) > limit_bytes:
        raise RpcError(_too_large(len(message), limit_bytes))
    return b"\0" + len(message).to_bytes(4, "big") + message


class MessageBuffer:
    """What has arrived and was not taken yet. Messages are cut only when they are taken, so a flood of small ones costs
    no more memory than their bytes. ``refusal`` is set once what stands at the front may not be taken."""

    __slots__ = ("_buffer", "_limit_bytes", "_needed_bytes", "refusal")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._needed_bytes = PREFIX_BYTES  # of the buffer, before anything can be done with it
        self.refusal: Status | None = None

    @property
    def holds_message(self) -> bool:
        """Whether ``take`` has one to give."""
        return self.refusal is None and len(self._buffer) >= self._needed_bytes

    @property
    def is_empty(self) -> bool:
        """Whether the last message is taken, and nothing of a next one is there."""
        return not self._buffer

    def feed(self, data: bytes) -> None:
        """More bytes, any amount."""
        self._buffer += data
        self._look()

    def take(self) -> bytes | None:
        """The message at the front; None if it is not complete."""
        if not self.holds_message:
            return None
        buffer, end = self._buffer, self._needed_bytes
        message = bytes(memoryview(buffer)[PREFIX_BYTES:end])
        del buffer[:end]
        self._needed_bytes = PREFIX_BYTES
        self._look()
        return message

    def _look(self) -> None:
        """Read the prefix at the front, once it is there."""
        buffer = self._buffer
        if self._needed_bytes > PREFIX_BYTES or len(buffer) < PREFIX_BYTES:
            return
        length = int.from_bytes(buffer[1:PREFIX_BYTES], "big")
        if buffer[0]:
            # No encoding was offered, so a set flag is a fault whichever it is.
            self.refusal = Status(code=StatusCode.INTERNAL, details=f"a message with flags {buffer[0]:#04x}")
        elif length > self._limit_bytes:
            self.refusal = _too_large(length, self._limit_bytes)
        else:
            self._needed_bytes = PREFIX_BYTES + length


def _too_large(size: int, limit: int) -> Status:
    return Status(code=StatusCode.RESOURCE_EXHAUSTED, details=f"a message of {size} bytes is larger than max {limit}")
