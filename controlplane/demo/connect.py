"""A client of the mesh port that plays by no rules but the wire's: one CONNECT over HTTP/2, sans-IO.

Just enough of RFC 9113 to be answered: preface, SETTINGS and their acknowledgement, one HEADERS frame each way. The
sidecar's own engine is not used on purpose: a rogue brings its own.
"""

from __future__ import annotations

from typing import Final

import hpack

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEADER_BYTES: Final = 9
_FRAME_LIMIT_BYTES: Final = 16_384
_HEADERS: Final = 0x1
_RST_STREAM: Final = 0x3
_SETTINGS: Final = 0x4
_GOAWAY: Final = 0x7
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_PRIORITY: Final = 0x20
_ACK: Final = 0x1
_STREAM: Final = 1


class Connect:
    """One ``CONNECT authority``. Send ``start()``, feed what arrives to ``receive`` and send what it returns."""

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._received = b""
        self._decoder = hpack.Decoder()
        self.answer: dict[str, str] | None = None
        self.over = False
        """The answer is there, or none will come."""

    def start(self) -> bytes:
        block = hpack.Encoder().encode([(":method", "CONNECT"), (":authority", self._authority)])
        return _PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, _STREAM, block)

    def receive(self, received: bytes) -> bytes:
        """Take in bytes, in any pieces; returns what to send. ValueError if they are no HTTP/2 that we understand."""
        self._received += received
        reply = b""
        while len(self._received) >= _FRAME_HEADER_BYTES:
            length = int.from_bytes(self._received[:3], "big")
            if length > _FRAME_LIMIT_BYTES:
                raise ValueError(f"frame of {length} bytes is more than we allowed")
            end = _FRAME_HEADER_BYTES + length
            if len(self._received) < end:
                break
            kind, flags = self._received[3], self._received[4]
            stream = int.from_bytes(self._received[5:9], "big") & 0x7FFFFFFF
            payload, self._received = self._received[_FRAME_HEADER_BYTES:end], self._received[end:]
            reply += self._frame(kind, flags, stream, payload)
        return reply

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        if kind == _HEADERS and stream == _STREAM and self.answer is None:
            if not flags & _END_HEADERS or flags & (_PADDED | _PRIORITY):
                raise ValueError("header block in a form that a plain answer does not need")
            fields = self._decoder.decode(payload)
            self.answer = {_text(name): _text(value) for name, value in fields}
            self.over = True
        if kind == _GOAWAY or (kind == _RST_STREAM and stream == _STREAM):
            self.over = True
        return b""


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
