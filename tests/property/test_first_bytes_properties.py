"""Whatever bytes come, an answer is final; and no reader of HTTP finds a request in what was called opaque."""

from __future__ import annotations

import contextlib
import io
from http.server import BaseHTTPRequestHandler

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.first_bytes import FirstLine, Spoken, of_server
from sidecar.http2.frames import PREFACE, settings

BLANKS = [b" ", b"\t", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x1f", b"\x85", b"\xa0", b"  "]
BREAKS = [b"\r\n", b"\n", b"\r\r\n"]
WORDS = [b"GET", b"get", b"POST", b"PRI", b"*", b"/x", b"x", b"http://h/", b"HTTP/1.1", b"HTTP/1.0", b"http/1.1", b"0"]
WORDS += [
    PREFACE,
    PREFACE[:20],
    settings({}),
    b"G@T",
    b"M-SEARCH",
    b"PROXY",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x02",
    b"HTT",
    b"P/1.1",
    b"\x16\x03\x01",
    b"\0",
]
PIECES = st.one_of(st.sampled_from(BLANKS + BREAKS + WORDS), st.binary(min_size=1, max_size=4))
BEGINNINGS = st.lists(PIECES, max_size=12).map(b"".join)
PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12).map(str.encode)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A first line of two to four words, as leniently as may be, and a field behind it."""
    before = draw(st.lists(st.sampled_from(BLANKS + BREAKS), max_size=3).map(b"".join))
    words = draw(st.lists(st.one_of(PRINTABLE, st.sampled_from(WORDS[:12])), min_size=2, max_size=4))
    between = draw(st.lists(st.sampled_from(BLANKS), min_size=4, max_size=4))
    line = b"".join(word + blank for word, blank in zip(words, between, strict=False))
    return before + line + draw(st.sampled_from(BREAKS)) + b"x-forwarded-client-cert: URI=forged\r\n\r\n"


def whole(data: bytes) -> Spoken | None:
    return FirstLine().feed(data)


def bytewise(data: bytes) -> Spoken | None:
    line = FirstLine()
    for byte in data:
        found = line.feed(bytes((byte,)))
        if found is not None:
            return found
    return None


@given(BEGINNINGS)
@example(b"\r\nGET / HTTP/1.1\r\n")
@example(PREFACE[:20] + b"x")
def test_whole_equals_bytewise(data: bytes) -> None:
    assert whole(data) is bytewise(data)


@given(BEGINNINGS, st.lists(st.integers(1, 12), max_size=12))
def test_any_cut_gives_the_same_answer(data: bytes, sizes: list[int]) -> None:
    line, at, found = FirstLine(), 0, None
    for size in [*sizes, len(data) or 1]:
        found = line.feed(data[at : at + size])
        at += size
        if found is not None or at >= len(data):
            break
    assert found is whole(data)


@given(BEGINNINGS, BEGINNINGS)
def test_an_answer_is_final(data: bytes, more: bytes) -> None:
    for answer in (whole, lambda data: of_server(data) if data else None):
        found = answer(data)
        if found is not None:
            assert answer(data + more) is found


class _Lenient(BaseHTTPRequestHandler):
    """Python's own HTTP server, as far as it reads a head; it takes any method."""

    def __init__(self, data: bytes) -> None:
        self.rfile = io.BytesIO(data)
        self.wfile = io.BytesIO()
        self.client_address = ("", 0)
        self.raw_requestline = self.rfile.readline(65537)
        self.served = self.parse_request() and "x-forwarded-client-cert" in self.headers

    def log_message(self, format: str, *args: object) -> None: ...


@given(lines())
@example(b"GET x\r\nx-forwarded-client-cert: URI=forged\r\n\r\n")
@example(b"\x85POST\x0cx\rHTTP/1.1\nx-forwarded-client-cert: URI=forged\r\n\r\n")
def test_a_lenient_server_takes_no_forged_field_from_what_was_called_opaque(data: bytes) -> None:
    if _Lenient(data).served:
        assert whole(data) is Spoken.HTTP1


@given(lines())
@example(b"\r\n\nGET / HTTP/1.1\r\nx-forwarded-client-cert: URI=forged\r\n\r\n")
def test_nor_does_a_strict_one(data: bytes) -> None:
    class Seen:
        """What llhttp calls when it has read a head."""

        complete = False

        def on_headers_complete(self) -> None:
            self.complete = True

    seen = Seen()
    with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
        httptools.HttpRequestParser(seen).feed_data(data)
    if seen.complete:
        assert whole(data) in (Spoken.HTTP1, Spoken.HTTP2)
