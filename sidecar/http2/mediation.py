"""SETTINGS on their way from one end to the other (RFC 9113 section 6.5): what is lowered, added and left out. Pure.

Settings and their acknowledgements pass end to end, one for one and in order, so both ends always mean the same by
them. What is lowered bounds what this side must hold or read; a receiver may always be told less than the other end
offers. Settings that nobody here understands are left out, and so are frames of unknown kinds: an extension that two
ends agree upon would carry what nobody judges.
"""

from __future__ import annotations

from typing import Final

from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.http2.heads import LIST_LIMIT_BYTES
from sidecar.http2.table import DEFAULT_TABLE_BYTES

FRAME_LIMIT_BYTES: Final = 64 * 1024
"""Largest payload that either end is let send; a frame is held until it is whole."""
STREAM_LIMIT: Final = 1024
"""Requests in flight on one connection."""

_CEILINGS: Final = {
    h2.SETTING_HEADER_TABLE_SIZE: DEFAULT_TABLE_BYTES,
    h2.SETTING_MAX_FRAME_SIZE: FRAME_LIMIT_BYTES,
    h2.SETTING_MAX_HEADER_LIST_SIZE: LIST_LIMIT_BYTES,
    h2.SETTING_MAX_CONCURRENT_STREAMS: STREAM_LIMIT,
}
OWN_SETTINGS: Final = {
    h2.SETTING_MAX_CONCURRENT_STREAMS: STREAM_LIMIT,
    h2.SETTING_MAX_HEADER_LIST_SIZE: LIST_LIMIT_BYTES,
}
"""Told to a client before the server has said anything, where it must be answered all the same."""


class Told:
    """One SETTINGS frame that its receiver has not acknowledged, and what it will then be held to."""

    __slots__ = ("frame_bytes", "ours", "smallest_table_bytes", "table_bytes")

    def __init__(self, *, ours: bool = False) -> None:
        self.ours = ours
        """Made on this side: the acknowledgement goes no further."""
        self.table_bytes: int | None = None
        self.smallest_table_bytes = DEFAULT_TABLE_BYTES
        self.frame_bytes: int | None = None


def mediate(payload: bytes, *, from_server: bool, first: bool, connect: bool) -> tuple[list[tuple[int, int]], Told]:
    """The settings to pass on for those in ``payload``, in order, and what they will hold their receiver to.

    ``connect``: extended CONNECT may be offered. Raises PeerError.
    """
    values = h2.parse_settings(payload)
    if from_server and values.get(h2.SETTING_ENABLE_PUSH):
        raise PeerError(h2.PROTOCOL_ERROR, "a server that enables push")
    told = Told()
    passed: list[tuple[int, int]] = []
    for at in range(0, len(payload), 6):
        key = int.from_bytes(payload[at : at + 2], "big")
        value = int.from_bytes(payload[at + 2 : at + 6], "big")
        if key in _CEILINGS:
            value = min(value, _CEILINGS[key])
        if key == h2.SETTING_HEADER_TABLE_SIZE:
            told.table_bytes = value
            told.smallest_table_bytes = min(told.smallest_table_bytes, value)
        elif key == h2.SETTING_MAX_FRAME_SIZE:
            told.frame_bytes = value
        elif key == h2.SETTING_MAX_CONCURRENT_STREAMS:
            if not from_server:
                continue  # it would bound pushes, and there are none
        elif key == h2.SETTING_ENABLE_CONNECT_PROTOCOL:
            if not (from_server and connect):
                continue
        elif key not in (h2.SETTING_INITIAL_WINDOW_SIZE, h2.SETTING_MAX_HEADER_LIST_SIZE):
            continue
        passed.append((key, value))
    if first:
        if h2.SETTING_MAX_HEADER_LIST_SIZE not in values:
            passed.append((h2.SETTING_MAX_HEADER_LIST_SIZE, LIST_LIMIT_BYTES))
        if not from_server:
            passed.append((h2.SETTING_ENABLE_PUSH, 0))  # a pushed request would be judged by nobody
        elif h2.SETTING_MAX_CONCURRENT_STREAMS not in values:
            passed.append((h2.SETTING_MAX_CONCURRENT_STREAMS, STREAM_LIMIT))
    return passed, told


def settings_frame(passed: list[tuple[int, int]]) -> bytes:
    return h2.frame(
        h2.SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in passed)
    )
