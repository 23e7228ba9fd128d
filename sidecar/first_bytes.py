"""What the first bytes of a connection make of it: HTTP/1, HTTP/2 with prior knowledge, or opaque. Pure.

Theory of operation. ``FirstLine`` reads what the client says; its answer depends on the bytes alone, however they were
cut, and once given is final. It is meant to be wrong on one side only: an app that reads HTTP, however leniently, must
not find a request in what was called opaque, or it would read fields that nobody judged, such as a forged identity. So
the first line is HTTP when ``HTTP/`` stands in it, in any case of letters, whatever stands before; also when it asks in
the manner of HTTP/0.9, which some servers still take. Empty lines and blanks before it are passed over, as lenient
readers do, and so is a header of the PROXY protocol, since an app that takes one reads on behind it. It is opaque when
it ends without that, or when its first word holds a byte that no text has: so a binary protocol, TLS among them, is
known at its first bytes.

As long as neither is sure the answer is None; ``sidecar.inbound_detection`` says who may wait, and how long.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from sidecar.http2.frames import PREFACE, SETTINGS


class Spoken(StrEnum):
    """What a connection speaks; the values are those of ``ringfence.snapshot.Protocol``."""

    HTTP1 = "http"
    HTTP2 = "http2"
    OPAQUE = "tcp"


# What Python's own HTTP server, the most lenient reader known, takes for blanks.
_BLANK: Final = b"\\t\\x0b\\x0c\\r\\x1c-\\x1f \\x85\\xa0"
_BEFORE: Final = re.compile(b"[\\n" + _BLANK + b"]*")
_BLANKS: Final = re.compile(b"[" + _BLANK + b"]*")
_WORD: Final = re.compile(rb"[!-~]*")
_ASKING_WORD: Final = re.compile(rb"[A-Z]+").fullmatch
_END: Final = re.compile(rb"\n|HTTP/", re.IGNORECASE)
_VERSION_BYTES: Final = len(b"HTTP/")
_LONGEST_METHOD_BYTES: Final = 32  # of those that ask without a version
_PROXY_WORD: Final = b"PROXY"  # version 1 of the PROXY protocol: a line
_PROXY_SIGNATURE: Final = (
    b"\r\n\r\n\0\r\nQUIT\n"  # version 2: this, two bytes, the length of what follows (section 2.2)
)
_PROXY_HEAD_BYTES: Final = 16


class FirstLine:
    """The client's first line; fed until it answers, at a cost that is linear in the bytes."""

    __slots__ = ("_bytes_of_preface", "_bytes_to_skip", "_phase", "_proxied", "_proxy_head", "_tail", "_word")

    def __init__(self) -> None:
        self._proxy_head: bytes | None = b""  # what may be the beginning of one; None: there is none, or it is over
        self._bytes_to_skip = 0  # of a PROXY header
        self._proxied = False  # one has come, and whoever reads one reads no other
        self._bytes_of_preface = 0  # how much of HTTP/2's preface has come; -1: something else has
        self._phase: Callable[[bytes, int], Spoken | None] = self._before
        self._word = b""
        self._tail = b""

    def feed(self, data: bytes) -> Spoken | None:
        """Take the next bytes; None: it cannot be told yet."""
        if self._bytes_to_skip or self._proxy_head is not None:
            data = self._behind_proxy_header(data)
            if not data:
                return None
        had = self._bytes_of_preface
        if had >= 0:
            begun = PREFACE[had : had + len(data)]
            if data.startswith(begun):
                self._bytes_of_preface += len(begun)
                return Spoken.HTTP2 if self._bytes_of_preface == len(PREFACE) else None
            self._bytes_of_preface = -1
            data = PREFACE[:had] + data
        return self._phase(data, 0)

    def _behind_proxy_header(self, data: bytes) -> bytes:
        """What in ``data`` is not of a header of version 2; a beginning of one is kept until it is whole."""
        if self._proxy_head is not None:
            data = self._proxy_head + data
            if len(data) < _PROXY_HEAD_BYTES and _PROXY_SIGNATURE.startswith(data[: len(_PROXY_SIGNATURE)]):
                self._proxy_head = data
                return b""
            self._proxy_head = None
            if not data.startswith(_PROXY_SIGNATURE):
                return data
            self._proxied = True
            size = int.from_bytes(data[_PROXY_HEAD_BYTES - 2 : _PROXY_HEAD_BYTES], "big")
            self._bytes_to_skip = _PROXY_HEAD_BYTES + size
        skipped = min(len(data), self._bytes_to_skip)
        self._bytes_to_skip -= skipped
        return data[skipped:]

    def _before(self, data: bytes, at: int) -> Spoken | None:
        found = _BEFORE.match(data, at)
        at = found.end() if found else at
        if at == len(data):
            return None
        self._phase = self._in_word
        return self._in_word(data, at)

    def _in_word(self, data: bytes, at: int) -> Spoken | None:
        found = _WORD.match(data, at)
        end = found.end() if found else at
        if len(self._word) <= _LONGEST_METHOD_BYTES:
            self._word += data[at:end][: _LONGEST_METHOD_BYTES + 1]
        if end == len(data):
            return None
        if not self._word or not _BLANKS.fullmatch(data[end : end + 1]):
            return Spoken.OPAQUE
        if self._word == b"GET":
            return Spoken.HTTP1
        self._phase = self._behind_word
        return self._behind_word(data, end)

    def _behind_word(self, data: bytes, at: int) -> Spoken | None:
        found = _BLANKS.match(data, at)
        at = found.end() if found else at
        if at == len(data):
            return None
        if data[at] == 0x2F and len(self._word) <= _LONGEST_METHOD_BYTES and _ASKING_WORD(self._word):
            return Spoken.HTTP1
        self._phase = self._in_rest
        return self._in_rest(data, at)

    def _in_rest(self, data: bytes, at: int) -> Spoken | None:
        rest = self._tail + data[at:]
        found = _END.search(rest)
        if found and found[0] == b"\n" and self._word == _PROXY_WORD and not self._proxied:
            self._proxied = True
            self._bytes_of_preface, self._phase, self._word, self._tail = 0, self._before, b"", b""
            return self.feed(rest[found.end() :])
        if found:
            return Spoken.OPAQUE if found[0] == b"\n" else Spoken.HTTP1
        self._tail = rest[1 - _VERSION_BYTES :]
        return None


def of_server(data: bytes) -> Spoken | None:
    """What a server speaks that says ``data`` before the client has said anything that tells; None: more are needed.

    A server of HTTP/2 may send its SETTINGS before it has read a preface (RFC 9113 section 3.4); one of HTTP/1 has
    nothing to say but that it waited too long. All others greet.
    """
    if data.startswith(b"HTTP/"):
        return Spoken.HTTP1
    if b"HTTP/".startswith(data):
        return None
    # Length (of six bytes a setting, below what a frame may have unasked), type, no flags, stream 0.
    size, kind, rest = int.from_bytes(data[:3], "big"), data[3:4], data[4:9]
    if data[0] != 0 or kind not in (b"", SETTINGS.to_bytes()) or rest.strip(b"\0"):
        return Spoken.OPAQUE
    if len(data) < 9:
        return None
    return Spoken.HTTP2 if size % 6 == 0 and size <= 16_384 else Spoken.OPAQUE
