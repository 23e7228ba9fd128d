"""HTTP/2 frame layer: numbers of RFC 9113 sections 6 and 7, and functions that write one frame each. Pure.

Reading is done where the frames are used, in one loop over one buffer, because a frame object for each frame costs more
than the frame itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

FLAG_ACK: Final = 0x1
FLAG_END_STREAM: Final = 0x1
FLAG_END_HEADERS: Final = 0x4
FLAG_PADDED: Final = 0x8
FLAG_PRIORITY: Final = 0x20

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB

ERROR_NAMES: Final[Mapping[int, str]] = {
    NO_ERROR: "no_error",
    PROTOCOL_ERROR: "protocol_error",
    INTERNAL_ERROR: "internal_error",
    FLOW_CONTROL_ERROR: "flow_control_error",
    STREAM_CLOSED: "stream_closed",
    FRAME_SIZE_ERROR: "frame_size_error",
    REFUSED_STREAM: "refused_stream",
    CANCEL: "cancel",
    COMPRESSION_ERROR: "compression_error",
    CONNECT_ERROR: "connect_error",
    ENHANCE_YOUR_CALM: "enhance_your_calm",
}

SETTING_HEADER_TABLE_SIZE: Final = 0x1
SETTING_ENABLE_PUSH: Final = 0x2
SETTING_MAX_CONCURRENT_STREAMS: Final = 0x3
SETTING_INITIAL_WINDOW_SIZE: Final = 0x4
SETTING_MAX_FRAME_SIZE: Final = 0x5
SETTING_MAX_HEADER_LIST_SIZE: Final = 0x6
SETTING_ENABLE_CONNECT_PROTOCOL: Final = 0x8

DEFAULT_WINDOW_BYTES: Final = 65_535
DEFAULT_FRAME_BYTES: Final = 16_384
LARGEST_FRAME_BYTES: Final = (1 << 24) - 1
LARGEST_WINDOW_BYTES: Final = (1 << 31) - 1


class PeerError(Exception):
    """The peer broke HTTP/2; the connection ends with GOAWAY ``code`` (RFC 9113 section 5.4.1)."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{ERROR_NAMES.get(code, hex(code))}: {detail}")
        self.code = code
        self.detail = detail


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame; ``payload`` must already be within the peer's frame size."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def settings(values: Mapping[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in values.items()))


SETTINGS_ACK: Final = frame(SETTINGS, FLAG_ACK, 0)


def window_update(stream_id: int, increment_bytes: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment_bytes.to_bytes(4, "big"))


def rst_stream(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def goaway(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, last_stream_id.to_bytes(4, "big") + code.to_bytes(4, "big") + debug[:256])


def ping(opaque: bytes, *, ack: bool = False) -> bytes:
    """``opaque`` is exactly eight bytes."""
    return frame(PING, FLAG_ACK if ack else 0, 0, opaque)


def header_frames(stream_id: int, block: bytes, *, end: bool, limit_bytes: int) -> bytes:
    """A header block as HEADERS and, where it is longer than a frame of the receiver's, CONTINUATION frames."""
    flags = FLAG_END_STREAM if end else 0
    if len(block) <= limit_bytes:
        return frame(HEADERS, flags | FLAG_END_HEADERS, stream_id, block)
    parts = [frame(HEADERS, flags, stream_id, block[:limit_bytes])]
    for at in range(limit_bytes, len(block), limit_bytes):
        last = at + limit_bytes >= len(block)
        parts.append(frame(CONTINUATION, FLAG_END_HEADERS if last else 0, stream_id, block[at : at + limit_bytes]))
    return b"".join(parts)


def parse_settings(payload: bytes) -> dict[int, int]:
    """SETTINGS payload to a dict, values checked (RFC 9113 section 6.5.2); later entries win."""
    if len(payload) % 6:
        raise PeerError(FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    found: dict[int, int] = {}
    for at in range(0, len(payload), 6):
        key = int.from_bytes(payload[at : at + 2], "big")
        value = int.from_bytes(payload[at + 2 : at + 6], "big")
        if key == SETTING_INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW_BYTES:
            raise PeerError(FLOW_CONTROL_ERROR, f"initial window of {value}")
        if key == SETTING_MAX_FRAME_SIZE and not DEFAULT_FRAME_BYTES <= value <= LARGEST_FRAME_BYTES:
            raise PeerError(PROTOCOL_ERROR, f"frame size of {value}")
        if key in (SETTING_ENABLE_PUSH, SETTING_ENABLE_CONNECT_PROTOCOL) and value > 1:
            raise PeerError(PROTOCOL_ERROR, f"setting {key} of {value}")
        found[key] = value
    return found


def unpad(payload: bytes, flags: int, *, priority: bool = False) -> bytes:
    """Payload of DATA or HEADERS without padding and, for HEADERS, the deprecated priority fields."""
    start, end = 0, len(payload)
    if flags & FLAG_PADDED:
        if not payload:
            raise PeerError(FRAME_SIZE_ERROR, "padded frame without a pad length")
        start = 1
        end -= payload[0]
    if priority and flags & FLAG_PRIORITY:
        start += 5
    if start > end:
        raise PeerError(PROTOCOL_ERROR, "padding longer than the frame")
    return payload[start:end]
