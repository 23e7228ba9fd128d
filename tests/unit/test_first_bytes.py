"""What a connection's first bytes make of it: each kind by name, and the neighbour that is another kind."""

from __future__ import annotations

import pytest

from sidecar.first_bytes import FirstLine, Spoken, of_server
from sidecar.http2.frames import PREFACE, SETTINGS, frame, settings
from tests.client_hello import client_hello

HTTP1, HTTP2, OPAQUE = Spoken.HTTP1, Spoken.HTTP2, Spoken.OPAQUE

PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x02"

CLIENTS: list[tuple[bytes, Spoken | None]] = [
    (b"GET / HTTP/1.1\r\n", HTTP1),
    (b"POST /orders HTTP/1.0\r\n", HTTP1),
    (b"OPTIONS * HTTP/1.1\r\n", HTTP1),
    (b"CONNECT db:5432 HTTP/1.1\r\n", HTTP1),
    (b"POST http://orders/ HTTP/1.1\r\n", HTTP1),
    (b"DELETE /long/before/the/line/ends", HTTP1),
    (PREFACE, HTTP2),
    (PREFACE + settings({}), HTTP2),
    # Not sure yet.
    (b"", None),
    (b"G", None),
    (b"DELETE", None),
    (b"DELETE ", None),
    (b"OPTIONS *", None),
    (b"POST http://orders/ HTTP", None),
    (PREFACE[:23], None),
    (b"\r\n", None),
    (b"hello", None),
    # As lenient readers take them; refused by ours, but never passed by unread.
    (b"\r\nGET / HTTP/1.1\r\n", HTTP1),
    (b"\n\n \tPUT x HTTP/1.1\n", HTTP1),
    (b"get x http/1.1\r\n", HTTP1),
    (b"delete x HTTP/1.1\r\n", HTTP1),
    (b"FETCH x HTTP/9.9\r\n", HTTP1),
    (b"PUT\tx\tHTTP/1.1\r\n", HTTP1),
    (b"PUT\x0cx\x0cHTTP/1.1\r\n", HTTP1),
    (b"PUT\rx\rHTTP/1.1\n", HTTP1),
    (b"\xa0PUT\x85x HTTP/1.1\r\n", HTTP1),
    (b"G@T x HTTP/1.1\r\n", HTTP1),
    (b"PUT a b c HTTP/1.1\r\n", HTTP1),
    (b"PUT \0\xff HTTP/1.1\r\n", HTTP1),
    (b"GET x\r\n", HTTP1),
    (b"GET\r\n", HTTP1),
    (b"POST /x\r\n", HTTP1),
    (b"PRI * HTTP/2.0\r\n\r\nXX", HTTP1),
    (b"PRI * HTTP/1.1\r\n", HTTP1),
    # Behind a header of the PROXY protocol, whose sender an app may believe.
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n", HTTP1),
    (b"PROXY UNKNOWN\r\n" + PREFACE, HTTP2),
    (b"PROXY UNKNOWN\r\n", None),
    (PROXY_2 + b"GET / HTTP/1.1\r\n", HTTP1),
    (PROXY_2 + PREFACE, HTTP2),
    (PROXY_2, None),
    (PROXY_2[:20], None),
    (b"\r\n\r\nPUT x HTTP/1.1\r\n", HTTP1),
    # Opaque: lines of other protocols, complete;
    (b"PING\r\n", OPAQUE),
    (b"*1\r\n$4\r\nPING\r\n", OPAQUE),
    (b"get /users/1\r\n", OPAQUE),
    (b"EHLO mail.example\r\n", OPAQUE),
    (b"CONNECT {}\r\n", OPAQUE),
    (b"OPTIONS rtsp://camera RTSP/1.0\r\n", OPAQUE),
    (b"INVITE sip:a@example SIP/2.0\r\n", OPAQUE),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nEHLO mail.example\r\n", OPAQUE),
    (PROXY_2 + b"PING\r\n", OPAQUE),
    (PROXY_2 + PROXY_2, OPAQUE),
    (b"PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n", OPAQUE),
    (b"PROXIED TCP4\r\nGET / HTTP/1.1\r\n", OPAQUE),
    (PROXY_2[:11] + b"\r" + PROXY_2[12:] + b"GET / HTTP/1.1\r\n", OPAQUE),
    (b"SSH-2.0-x\r\n", OPAQUE),
    (b"PR\r\n", OPAQUE),
    # and bytes that no text has.
    (b"\0\0\0\x08\x04\xd2\x16\x2f", OPAQUE),  # PostgreSQL, SSLRequest
    (b"\x16", OPAQUE),
    (b"AMQP\0\0\x09\x01", OPAQUE),
    (b"\x10\x10\0\x04MQTT", OPAQUE),
    (b"\x01\x01\0\x01\0\x08\0\0SERVER_PROTOCOLHTTP/1.1", OPAQUE),  # FastCGI
    (b"70:CONTENT_LENGTH\0" + b"0\0SERVER_PROTOCOL\0HTTP/1.1\0", OPAQUE),  # SCGI
    (b"\xff", OPAQUE),
    (b"GE\0T / HTTP/1.1\r\n", OPAQUE),
]


def told(data: bytes) -> Spoken | None:
    return FirstLine().feed(data) if data else None


@pytest.mark.parametrize(("data", "kind"), CLIENTS, ids=[repr(data[:40]) for data, _ in CLIENTS])
def test_what_a_client_speaks(data: bytes, kind: Spoken | None) -> None:
    assert told(data) is kind


@pytest.mark.parametrize(("data", "kind"), CLIENTS, ids=[repr(data[:40]) for data, _ in CLIENTS])
def test_it_does_not_matter_how_the_bytes_were_cut(data: bytes, kind: Spoken | None) -> None:
    for cut in range(1, len(data)):
        line = FirstLine()
        assert (line.feed(data[:cut]) or line.feed(data[cut:])) is kind
    line = FirstLine()
    assert next((found for byte in data if (found := line.feed(bytes((byte,))))), None) is kind


def test_tls_is_opaque_at_its_first_byte() -> None:
    assert told(client_hello(b"a.example", alpn=[b"http/1.1"])) is OPAQUE


def test_a_line_that_does_not_end_is_read_at_a_cost_linear_in_its_bytes() -> None:
    """Nothing of it is kept but what two pieces could share."""
    line = FirstLine()
    for _ in range(1000):
        assert line.feed(b"x" * 1000) is None
    assert len(line._word) + len(line._tail) < 100
    assert line.feed(b" HTT") is None
    for _ in range(1000):
        assert line.feed(b"x" * 1000) is None
    assert len(line._word) + len(line._tail) < 100
    assert line.feed(b" HTT") is None
    assert line.feed(b"P/1.1") is HTTP1


SERVERS: list[tuple[bytes, Spoken | None]] = [
    (settings({}), HTTP2),
    (settings({3: 100, 4: 65535}), HTTP2),
    (settings({}) + frame(8, 0, 0, b"\0\0\0\x01"), HTTP2),
    (b"HTTP/1.1 408 Request Timeout\r\n", HTTP1),
    (b"H", None),
    (b"HTTP", None),
    (b"\0", None),
    (settings({})[:8], None),
    (b"220 mail.example ESMTP\r\n", OPAQUE),
    (b"\x4a\0\0\0\x0a8.0.36\0", OPAQUE),  # MySQL
    (b"HELO", OPAQUE),
    (b"SSH-2.0-x", OPAQUE),
    (b"\0\0\0\0", OPAQUE),
    (b"\0\0\x05\x04\0\0\0\0\0", OPAQUE),
    (b"\0\xff\xfc\x04\0\0\0\0\0", OPAQUE),
    (frame(SETTINGS, 1, 0, b""), OPAQUE),
    (frame(SETTINGS, 0, 1, b""), OPAQUE),
]


@pytest.mark.parametrize(("data", "kind"), SERVERS, ids=[repr(data[:30]) for data, _ in SERVERS])
def test_what_a_server_speaks_that_speaks_first(data: bytes, kind: Spoken | None) -> None:
    assert of_server(data) is kind
    assert next((found for size in range(1, len(data) + 1) if (found := of_server(data[:size]))), None) is kind
