"""Where the frames of a WebSocket end, so that a close can be put between two of them (RFC 6455 section 5). Pure.

Of an upgraded connection nothing else is read: what frames say is between client and server.
"""

from __future__ import annotations

from typing import Final

POLICY_VIOLATION: Final = 1008  # RFC 6455 section 7.4.1
_FINAL_CLOSE: Final = 0x88
_CLOSE: Final = 0x8
_REASON_BYTES: Final = 123  # a control frame holds 125, two of them the code


class FrameEdges:
    """Follows the frames that a server sends, in pieces of any size."""

    __slots__ = ("_head", "_left", "closed")

    def __init__(self) -> None:
        self._head = b""  # of a frame, not whole yet
        self._left = 0  # still to come of a frame's payload
        self.closed = False  # a close frame was sent, behind which there is nothing more

    @property
    def between(self) -> bool:
        """Whether a frame may be put in here; one of several that make a message may have gone before."""
        return not (self._head or self._left or self.closed)

    def passes(self, data: bytes) -> None:
        pos, size = 0, len(data)
        while pos < size:
            if self._left:
                taken = min(self._left, size - pos)
                self._left -= taken
                pos += taken
                continue
            missing = _head_bytes(self._head) - len(self._head)
            self._head += data[pos : pos + missing]
            pos += missing
            if len(self._head) == _head_bytes(self._head):
                head, self._head = self._head, b""
                self.closed = self.closed or head[0] & 0xF == _CLOSE
                self._left = _payload_bytes(head)


def _head_bytes(head: bytes) -> int:
    """How long the head is that begins so, as far as it can be told: its first two bytes tell it."""
    if len(head) < 2:
        return 2
    return 2 + {126: 2, 127: 8}.get(head[1] & 0x7F, 0) + (4 if head[1] & 0x80 else 0)


def _payload_bytes(head: bytes) -> int:
    short = head[1] & 0x7F
    if short < 126:
        return short
    return int.from_bytes(head[2:4] if short == 126 else head[2:10], "big")


def close_frame(code: int, reason: str) -> bytes:
    """A server's close frame."""
    payload = code.to_bytes(2, "big") + reason.encode("ascii")[:_REASON_BYTES]
    return bytes((_FINAL_CLOSE, len(payload))) + payload
