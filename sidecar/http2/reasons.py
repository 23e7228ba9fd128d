"""Why an HTTP/2 message or connection is refused: two closed sets of words, and the exceptions that carry them.

A flaw of one message (``Malformed``) costs its stream, a flaw of the framing (``Broken``) the connection (RFC 9113
section 5.4). Nothing here repairs. The words are stable, since metrics and logs are labelled with them; where HTTP/1.x
knows the same flaw, the word is the same.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sidecar.http2 import frames as h2
from sidecar.http2.frames import PeerError
from sidecar.http2.guard import FloodError


class Malformed(StrEnum):
    """Closed set of flaws of one message. The first block concerns requests, the second both, the third responses."""

    BAD_METHOD = "bad_method"
    """No registered method in capitals; plain CONNECT too, and CONNECT to a protocol that was not negotiated."""
    BAD_TARGET = "bad_target"
    """A :path that is neither in origin form nor ``*`` with OPTIONS; or bytes that no URI may hold."""
    FRAGMENT_IN_TARGET = "fragment_in_target"
    BAD_SCHEME = "bad_scheme"
    HOST_MISSING = "host_missing"
    HOST_DUPLICATE = "host_duplicate"
    HOST_INVALID = "host_invalid"
    HOST_MISMATCH = "host_mismatch"
    """:authority and Host name two authorities."""
    BAD_EXPECTATION = "bad_expectation"
    BODY_ON_TRACE = "body_on_trace"

    BAD_PSEUDO_FIELDS = "bad_pseudo_fields"
    """A pseudo-header field is missing, unknown, doubled, out of place, or behind a regular field."""
    BAD_FIELD_NAME = "bad_field_name"
    """Empty, not a token, with capitals, or a framing field in another spelling."""
    BAD_FIELD_VALUE = "bad_field_value"
    """A control byte, or white space at an end."""
    CONNECTION_FIELD = "connection_field"
    """A field that speaks of an HTTP/1.x connection, or ``te`` with anything but ``trailers``."""
    HEAD_TOO_LARGE = "head_too_large"
    TOO_MANY_FIELDS = "too_many_fields"
    BAD_CONTENT_LENGTH = "bad_content_length"
    DUPLICATE_CONTENT_LENGTH = "duplicate_content_length"
    LENGTH_MISMATCH = "length_mismatch"
    """DATA that is more or less than the content-length announced."""
    BAD_TRAILER = "bad_trailer"
    """Trailers that do not end the stream, or hold a field that frames, routes, authenticates or names an identity."""
    STREAM_CLOSED = "stream_closed"
    """A frame on a stream whose sender had ended it."""
    BAD_WINDOW = "bad_window"
    """A window update by nothing."""
    TRUNCATED = "truncated"
    """The connection, or the stream by its framing, ended inside a message."""

    BAD_STATUS = "bad_status"
    """No three digits, 101, or an interim response that ends the stream."""
    BODY_NOT_ALLOWED = "body_not_allowed"
    TOO_MANY_INTERIM = "too_many_interim"
    UNEXPECTED_RESPONSE = "unexpected_response"
    """DATA before the response's header section."""
    NO_RESPONSE = "no_response"
    """The server closed, or broke the connection, before this stream's response had begun."""


class Broken(StrEnum):
    """Closed set of flaws that cost the connection: first breaches of the framing, then what only an attacker does."""

    NO_PREFACE = "no_preface"
    PROTOCOL = "protocol"
    FRAME_SIZE = "frame_size"
    FLOW_CONTROL = "flow_control"
    COMPRESSION = "compression"
    STREAM_CLOSED = "stream_closed"
    STREAM_ID = "stream_id"

    HEADER_BOMB = "header_bomb"
    """A header list, or the block it comes in, far above what any receiver takes."""
    CONTINUATION_FLOOD = "continuation_flood"
    RESET_FLOOD = "reset_flood"
    """Streams opened and reset, or provoked to be reset, in masses (CVE-2023-44487, CVE-2025-8671)."""
    SETTINGS_FLOOD = "settings_flood"
    PING_FLOOD = "ping_flood"
    PRIORITY_FLOOD = "priority_flood"
    EMPTY_DATA_FLOOD = "empty_data_flood"
    WINDOW_FLOOD = "window_flood"
    """Window updates out of proportion to the data, or a few bytes at a time (CVE-2019-9511, -9517)."""
    UNKNOWN_FLOOD = "unknown_flood"
    GOAWAY_FLOOD = "goaway_flood"
    UNREAD_FLOOD = "unread_flood"
    HELD_FLOOD = "held_flood"
    """Masses of answers asked for and not read."""


ANSWERED: Final = frozenset(
    {
        Malformed.BAD_METHOD,
        Malformed.BAD_TARGET,
        Malformed.FRAGMENT_IN_TARGET,
        Malformed.BAD_SCHEME,
        Malformed.HOST_MISSING,
        Malformed.HOST_DUPLICATE,
        Malformed.HOST_INVALID,
        Malformed.HOST_MISMATCH,
        Malformed.BAD_EXPECTATION,
        Malformed.BODY_ON_TRACE,
        Malformed.HEAD_TOO_LARGE,
        Malformed.TOO_MANY_FIELDS,
    }
)
"""Flaws of what a request means: the client is told by a response. Flaws of its form reset the stream (RFC 9113
section 8.1.1)."""

_BY_CODE: Final = {
    h2.FRAME_SIZE_ERROR: Broken.FRAME_SIZE,
    h2.FLOW_CONTROL_ERROR: Broken.FLOW_CONTROL,
    h2.COMPRESSION_ERROR: Broken.COMPRESSION,
    h2.STREAM_CLOSED: Broken.STREAM_CLOSED,
}
_BY_FLOOD: Final = {
    "reset": Broken.RESET_FLOOD,
    "settings": Broken.SETTINGS_FLOOD,
    "ping": Broken.PING_FLOOD,
    "priority": Broken.PRIORITY_FLOOD,
    "empty_data": Broken.EMPTY_DATA_FLOOD,
    "window": Broken.WINDOW_FLOOD,
    "unknown": Broken.UNKNOWN_FLOOD,
    "goaway": Broken.GOAWAY_FLOOD,
    "unread": Broken.UNREAD_FLOOD,
}


class MalformedError(ValueError):
    """A message breaks the rule named by ``reason``; ``detail`` is a short text for the log, never for the peer."""

    def __init__(self, reason: Malformed, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BrokenError(PeerError):
    """A peer broke the connection: GOAWAY ``code``, counted as ``reason``."""

    def __init__(self, code: int, reason: Broken, detail: str) -> None:
        super().__init__(code, detail)
        self.reason = reason


def reason_of(error: PeerError) -> Broken:
    """The word for any error that ends a connection, whichever part of the engine raised it."""
    if isinstance(error, BrokenError):
        return error.reason
    if isinstance(error, FloodError):
        return _BY_FLOOD.get(error.kind, Broken.UNKNOWN_FLOOD)
    return _BY_CODE.get(error.code, Broken.PROTOCOL)
