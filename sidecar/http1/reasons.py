"""Why an HTTP/1.x message is refused: a closed set of words, and the exception that carries one of them.

Nothing here repairs. A message that two readers could frame or address differently (RFC 9112 section 11.2) is
refused, and the word says which rule it broke; the words are stable, since metrics and logs are labelled with them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_SHOWN_BYTES: Final = 80


class Malformed(StrEnum):
    """Closed set of flaws. The first block concerns requests, the second both, the third responses, the last both
    ends."""

    BAD_REQUEST_LINE = "bad_request_line"
    """Not three words parted by single spaces, or blank lines before it."""
    BAD_METHOD = "bad_method"
    """No registered method in capitals; CONNECT too, as this is no forward proxy."""
    BAD_TARGET = "bad_target"
    """Neither origin form, nor http absolute form, nor ``*`` with OPTIONS; or bytes that no URI may hold."""
    FRAGMENT_IN_TARGET = "fragment_in_target"
    BAD_VERSION = "bad_version"
    """Anything but HTTP/1.0 and HTTP/1.1, an HTTP/0.9 request included."""
    HOST_MISSING = "host_missing"
    HOST_DUPLICATE = "host_duplicate"
    HOST_INVALID = "host_invalid"
    HOST_MISMATCH = "host_mismatch"
    """The authority of an absolute-form target is not the Host."""
    BAD_EXPECTATION = "bad_expectation"
    """An Expect other than ``100-continue``."""
    BODY_ON_TRACE = "body_on_trace"

    BARE_LF = "bare_lf"
    BARE_CR = "bare_cr"
    OBS_FOLD = "obs_fold"
    SPACE_BEFORE_COLON = "space_before_colon"
    BAD_FIELD_NAME = "bad_field_name"
    BAD_FIELD_VALUE = "bad_field_value"
    """A control byte (NUL, DEL, …) in a field value."""
    HEAD_TOO_LARGE = "head_too_large"
    LINE_TOO_LONG = "line_too_long"
    TOO_MANY_FIELDS = "too_many_fields"
    BAD_CONTENT_LENGTH = "bad_content_length"
    """A sign, a space, a list, a leading zero, no digit at all, or more than 2**63 - 1."""
    DUPLICATE_CONTENT_LENGTH = "duplicate_content_length"
    CONTENT_LENGTH_WITH_TRANSFER_ENCODING = "content_length_with_transfer_encoding"
    TRANSFER_ENCODING_UNSUPPORTED = "transfer_encoding_unsupported"
    """Anything but exactly ``chunked``, once."""
    TRANSFER_ENCODING_IN_HTTP10 = "transfer_encoding_in_http10"
    CONNECTION_NAMES_PROTECTED_FIELD = "connection_names_protected_field"
    """``Connection: host`` and its like, which would have a later hop strip what was judged."""
    BAD_CONNECTION = "bad_connection"
    """A Connection or Upgrade value that is no list of tokens."""
    BAD_CHUNK_SIZE = "bad_chunk_size"
    CHUNK_EXTENSION = "chunk_extension"
    BAD_CHUNK_END = "bad_chunk_end"
    """The bytes after a chunk's data are not CR LF."""
    BAD_TRAILER = "bad_trailer"
    """A trailer field that frames, routes, authenticates or names an identity, or trailers above their limit."""
    PARSERS_DISAGREE = "parsers_disagree"
    """llhttp refuses the head, or ends it or its body elsewhere than this engine does."""
    TRUNCATED = "truncated"
    """The connection ended inside a message."""

    BAD_STATUS_LINE = "bad_status_line"
    BODY_NOT_ALLOWED = "body_not_allowed"
    """A 1xx or 204 response that announces a body."""
    UNEXPECTED_RESPONSE = "unexpected_response"
    """Bytes from a server that was asked nothing."""
    UNEXPECTED_UPGRADE = "unexpected_upgrade"
    """101 for what was not asked, or before the request's body had ended."""
    TOO_MANY_INTERIM = "too_many_interim"
    NO_RESPONSE = "no_response"
    """The server closed before the first byte of its response."""
    HELD_TOO_MUCH = "held_too_much"
    """The adapter went on feeding a paused machine beyond its bound."""


class MalformedError(ValueError):
    """A message breaks the rule named by ``reason``; ``detail`` is a short text for the log, never for the peer."""

    def __init__(self, reason: Malformed, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def shown(value: bytes) -> str:
    """``value`` for a log line: escaped, and cut at 80 bytes."""
    return repr(value if len(value) <= _SHOWN_BYTES else value[:_SHOWN_BYTES] + b"...")[1:]
