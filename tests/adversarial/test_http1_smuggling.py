"""Smuggled, ambiguous and oversized HTTP/1.x messages: each is refused for its own reason, and its neighbour is not.

A refused request reaches neither the judge nor the server; not one byte of it. Each is tried whole and byte by byte.
"""

from __future__ import annotations

import httptools
import pytest

from sidecar.http1 import Heads, Malformed
from sidecar.http1.fields import FIELDS_LIMIT, LINE_LIMIT_BYTES
from sidecar.http1.head import HEAD_LIMIT_BYTES
from sidecar.http1.lines import METHODS, REQUEST_LINE_LIMIT_BYTES
from tests.http1_ends import Between, bytewise, request, response

POST = b"POST /orders HTTP/1.1"
GET = b"GET /orders HTTP/1.1"
CL = b"Content-Length: "
TE = b"Transfer-Encoding: "
HOST = b"Host: orders:8080\r\n"


def _raw(*lines: bytes) -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n"


REFUSED = [
    # framing: two lengths, or a length and a coding
    (request(POST, CL + b"5", TE + b"chunked"), Malformed.CONTENT_LENGTH_WITH_TRANSFER_ENCODING),
    (request(POST, TE + b"chunked", CL + b"5"), Malformed.CONTENT_LENGTH_WITH_TRANSFER_ENCODING),
    (request(POST, CL + b"0", TE + b"identity"), Malformed.CONTENT_LENGTH_WITH_TRANSFER_ENCODING),
    (request(POST, CL + b"5", CL + b"6"), Malformed.DUPLICATE_CONTENT_LENGTH),
    (request(POST, CL + b"5", CL + b"5"), Malformed.DUPLICATE_CONTENT_LENGTH),
    (request(POST, CL + b"5", b"content-LENGTH: 5"), Malformed.DUPLICATE_CONTENT_LENGTH),
    # content-length
    *(
        (request(POST, CL + value), Malformed.BAD_CONTENT_LENGTH)
        for value in (
            b"+5",
            b"-5",
            b"",
            b" ",
            b"5, 5",
            b"5,6",
            b"0x5",
            b"5 5",
            b"5;",
            b"5.0",
            b"1e3",
            b"05",
            b"00",
            b"_5",
            b"5_0",
            b"9223372036854775808",
            b"99999999999999999999",
            b"\xb2",
            b"\xd9\xa5",
            b"5\t",
            b"5 ",
            b"\t5",
            b'"5"',
        )
    ),
    # transfer-encoding
    *(
        (request(POST, TE + value), Malformed.TRANSFER_ENCODING_UNSUPPORTED)
        for value in (
            b"gzip, chunked",
            b"chunked, gzip",
            b"chunked, chunked",
            b"identity",
            b"xchunked",
            b"chunked;q=1",
            b"",
            b"Chunked",
            b"CHUNKED",
            b"chunked,",
            b",chunked",
            b"\tchunked",
            b"chunked ",
            b"chunked\t",
            b'"chunked"',
            b"x",
            b"chunk",
            b"cow, chunked",
            b"chunked\xa0",
        )
    ),
    (request(POST, TE + b"chunked", TE + b"chunked"), Malformed.TRANSFER_ENCODING_UNSUPPORTED),
    (request(POST, TE + b"chunked", TE + b"x"), Malformed.TRANSFER_ENCODING_UNSUPPORTED),
    (request(b"POST / HTTP/1.0", TE + b"chunked"), Malformed.TRANSFER_ENCODING_IN_HTTP10),
    (request(POST, TE + b"\x0bchunked"), Malformed.BAD_FIELD_VALUE),
    (request(POST, TE + b"chunked\x00"), Malformed.BAD_FIELD_VALUE),
    (request(POST, b"Transfer_Encoding: chunked"), Malformed.BAD_FIELD_NAME),
    (request(POST, b"Content_Length: 5"), Malformed.BAD_FIELD_NAME),
    (request(POST, b"content.length: 5"), Malformed.BAD_FIELD_NAME),
    (request(POST, b"Transfer-Encoding : chunked"), Malformed.SPACE_BEFORE_COLON),
    (request(POST, b"Transfer-Encoding\t: chunked"), Malformed.SPACE_BEFORE_COLON),
    (request(POST, b"Transfer Encoding: chunked"), Malformed.BAD_FIELD_NAME),
    (request(POST, b"\xefTransfer-Encoding: chunked"), Malformed.BAD_FIELD_NAME),
    (request(POST, b"Transfer-Encoding"), Malformed.BAD_FIELD_NAME),
    (request(POST, b": chunked"), Malformed.BAD_FIELD_NAME),
    (request(POST, b"(a): chunked"), Malformed.BAD_FIELD_NAME),
    (request(POST, b"a\x00: b"), Malformed.BAD_FIELD_NAME),
    (request(POST, b"a: b\x00"), Malformed.BAD_FIELD_VALUE),
    (request(POST, b"a: b\x7f"), Malformed.BAD_FIELD_VALUE),
    (request(POST, b"a: b\x08"), Malformed.BAD_FIELD_VALUE),
    # line ends
    (request(POST, b"X: a\n" + TE + b"chunked"), Malformed.BARE_LF),
    (request(POST, b"X: a\r" + TE + b"chunked"), Malformed.BARE_CR),
    (request(POST, b"X: a\r\r"), Malformed.BARE_CR),
    (b"GET / HTTP/1.1\nHost: orders\n\n", Malformed.BARE_LF),
    (b"GET / HTTP/1.1\r\nHost: orders\r\n\n", Malformed.BARE_LF),
    (b"GET / HTTP/1.1\r\nHost: orders\n\r\n", Malformed.BARE_LF),
    (b"GET / HTTP/1.1\rHost: orders\r\n\r\n", Malformed.BAD_REQUEST_LINE),
    (request(POST, b"X: a", b" b"), Malformed.OBS_FOLD),
    (request(POST, b"X: a", b"\tb"), Malformed.OBS_FOLD),
    (request(POST, TE.rstrip(), b" chunked"), Malformed.OBS_FOLD),
    (_raw(GET, b" Host: orders"), Malformed.OBS_FOLD),
    (b"\r\n\r\n" + request(GET), Malformed.BAD_REQUEST_LINE),
    (b"\n" + request(GET), Malformed.BAD_REQUEST_LINE),
    (b"\r" + request(GET), Malformed.BAD_REQUEST_LINE),
    (b" " + request(GET), Malformed.BAD_REQUEST_LINE),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Malformed.BAD_REQUEST_LINE),
    # the request line
    (request(b"GET  / HTTP/1.1"), Malformed.BAD_REQUEST_LINE),
    (request(b"GET / HTTP/1.1 "), Malformed.BAD_REQUEST_LINE),
    (request(b"GET /a b HTTP/1.1"), Malformed.BAD_REQUEST_LINE),
    (request(b"GET\t/\tHTTP/1.1"), Malformed.BAD_REQUEST_LINE),
    (request(b"GET"), Malformed.BAD_REQUEST_LINE),
    (request(b"GET /"), Malformed.BAD_VERSION),
    (request(b"GET / HTTP/0.9"), Malformed.BAD_VERSION),
    (request(b"GET / HTTP/2.0"), Malformed.BAD_VERSION),
    (request(b"GET / HTTP/1.2"), Malformed.BAD_VERSION),
    (request(b"GET / http/1.1"), Malformed.BAD_VERSION),
    (request(b"GET / HTTP/1.1\x00"), Malformed.BAD_VERSION),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Malformed.BAD_METHOD),
    (request(b"get / HTTP/1.1"), Malformed.BAD_METHOD),
    (request(b"Get / HTTP/1.1"), Malformed.BAD_METHOD),
    (request(b"GETT / HTTP/1.1"), Malformed.BAD_METHOD),
    (request(b"SOURCE / HTTP/1.1"), Malformed.BAD_METHOD),
    (request(b"DESCRIBE / HTTP/1.1"), Malformed.BAD_METHOD),
    (request(b"CONNECT orders:8080 HTTP/1.1"), Malformed.BAD_METHOD),
    (request(b"CONNECT / HTTP/1.1"), Malformed.BAD_METHOD),
    (request(b"G@T / HTTP/1.1"), Malformed.BAD_METHOD),
    (request(b"GET orders HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"GET * HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"OPTIONS ** HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"GET https://orders:8080/ HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"GET http:///orders HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"GET http://user@orders:8080/ HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"GET http:/orders HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"GET /\x00 HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"GET /\x7f HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"GET /\xc3\xa9 HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"GET /\x0b HTTP/1.1"), Malformed.BAD_TARGET),
    (request(b"GET /a#b HTTP/1.1"), Malformed.FRAGMENT_IN_TARGET),
    (request(b"GET http://orders:8080/#b HTTP/1.1"), Malformed.FRAGMENT_IN_TARGET),
    # whom it is for
    (request(GET, host=None), Malformed.HOST_MISSING),
    (request(GET, b"Host: orders:8080"), Malformed.HOST_DUPLICATE),
    (request(GET, b"host: payments"), Malformed.HOST_DUPLICATE),
    (request(GET, b"Ho_st: payments", host=b"or@ders"), Malformed.HOST_INVALID),
    *(
        (request(GET, host=host), Malformed.HOST_INVALID)
        for host in (
            b"",
            b"a b",
            b"a,b",
            b"a/b",
            b"a@b",
            b"a?b",
            b"a#b",
            b"a:",
            b"a:b",
            b"a:65536",
            b"a:-1",
            b"a:1:2",
            b"[::1",
            b"::1",
            b"[zz]",
            b"a%2f",
            b"\xc3\xa9",
            b"a\t",
            b"a\\b",
            b"http://a",
            b"a" * 256,
        )
    ),
    (request(b"GET http://payments/ HTTP/1.1"), Malformed.HOST_MISMATCH),
    (request(b"GET http://orders/ HTTP/1.1"), Malformed.HOST_MISMATCH),
    (request(b"GET http://orders:8080/ HTTP/1.0", host=None), Malformed.HOST_MISMATCH),
    # fields that a later hop would take out
    *(
        (request(GET, b"Connection: " + value), Malformed.CONNECTION_NAMES_PROTECTED_FIELD)
        for value in (
            b"host",
            b"close, Host",
            b"Content-Length",
            b"transfer-encoding",
            b"X-Forwarded-Client-Cert",
            b"x-forwarded-for",
            b"x_forwarded_client_cert",
            b"x-ringfence-any",
            b"authorization",
            b"cookie",
        )
    ),
    (request(GET, b"Connection: close", b"Connection: host"), Malformed.CONNECTION_NAMES_PROTECTED_FIELD),
    (request(GET, b"Connection: a b"), Malformed.BAD_CONNECTION),
    (request(GET, b"Connection: upgrade", b"Upgrade: a b"), Malformed.BAD_CONNECTION),
    # the rest
    (request(POST, b"Expect: 200-ok"), Malformed.BAD_EXPECTATION),
    (request(POST, b"Expect: 100-continue", b"Expect: 100-continue"), Malformed.BAD_EXPECTATION),
    (request(POST, b"Expect:"), Malformed.BAD_EXPECTATION),
    (request(b"TRACE / HTTP/1.1", CL + b"5"), Malformed.BODY_ON_TRACE),
    (request(b"TRACE / HTTP/1.1", TE + b"chunked"), Malformed.BODY_ON_TRACE),
    (request(b"GET /" + b"a" * REQUEST_LINE_LIMIT_BYTES + b" HTTP/1.1"), Malformed.LINE_TOO_LONG),
    (request(GET, b"X: " + b"a" * LINE_LIMIT_BYTES), Malformed.LINE_TOO_LONG),
    (request(GET, *[b"X: a"] * FIELDS_LIMIT), Malformed.TOO_MANY_FIELDS),
    (request(GET, *[b"X: " + b"a" * 1000] * 70), Malformed.HEAD_TOO_LARGE),
    (b"GET /" + b"a" * HEAD_LIMIT_BYTES, Malformed.HEAD_TOO_LARGE),
]

NEIGHBOURS = [
    request(POST, CL + b"5", body=b"hello"),
    request(POST, CL + b"0"),
    request(POST, b"content-length:5", body=b"hello"),
    request(POST, b"Content-Length:   5", body=b"hello"),
    request(POST, TE + b"chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
    request(POST, b"transfer-encoding:chunked", body=b"0\r\n\r\n"),
    request(POST, b"TE: trailers"),
    request(POST, b"Content-Lengths: 5"),
    request(GET, b"X: a\tb"),
    request(GET, b"X:"),
    request(GET, b"X: "),
    request(GET, b"X:\t\xc3\xa9 "),
    request(GET, b"X_Y: 1"),
    request(GET, b"!#$%&'*+-.^_`|~: 1"),
    request(b"GET /%00/..;/#".replace(b"#", b"%23") + b" HTTP/1.1"),
    request(b"GET //admin HTTP/1.1"),
    request(b"GET /a?b=http://c/d HTTP/1.1"),
    request(b'GET /{a}|"<>^`\\[] HTTP/1.1'),
    request(b"GET / HTTP/1.0", host=None),
    request(b"GET / HTTP/1.0"),
    request(b"OPTIONS * HTTP/1.1"),
    request(b"PROPFIND / HTTP/1.1"),
    request(b"TRACE / HTTP/1.1"),
    request(GET, host=b"ORDERS.shop_1.svc-a:65535"),
    request(GET, host=b"127.0.0.1"),
    request(GET, host=b"[::1]:80"),
    request(GET, b"Connection: keep-alive, TE, x-hop"),
    request(GET, b"Connection:"),
    request(GET, b"Connection: ,keep-alive,,"),
    request(POST, b"Expect: 100-Continue", CL + b"0"),
    request(b"GET /" + b"a" * 15_900 + b" HTTP/1.1"),
    request(GET, b"X: " + b"a" * (LINE_LIMIT_BYTES - 3)),
    request(GET, *[b"X: a"] * (FIELDS_LIMIT - 1)),
    request(GET, *[b"X: " + b"a" * 1000] * 64),
]


@pytest.mark.parametrize(("data", "reason"), REFUSED, ids=[f"{at}-{case[1]}" for at, case in enumerate(REFUSED)])
def test_a_request_that_two_readers_may_read_in_two_ways_is_refused(data: bytes, reason: Malformed) -> None:
    whole, dripped = Between(), Between()
    whole.client(data)
    dripped.client(*bytewise(data))
    assert whole.flaws == [reason]
    assert dripped.flaws == [reason]
    for wire in (whole, dripped):
        assert wire.to_server == b""
        assert wire.exchanges == []
        assert wire.inspector.close_after
        assert wire.to_client.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(("data", "reason"), REFUSED, ids=[f"{at}-{case[1]}" for at, case in enumerate(REFUSED)])
def test_it_is_refused_behind_a_lawful_one_too(data: bytes, reason: Malformed) -> None:
    """After one lawful request on the connection, and again after the same bytes were refused on another."""
    lawful = request(GET)
    heads = Heads()
    wire = Between(heads=heads)
    assert wire.client(lawful + data) == lawful
    assert wire.flaws == [reason]
    again = Between(heads=heads)
    again.client(data)
    assert again.flaws == [reason]


@pytest.mark.parametrize("data", NEIGHBOURS, ids=range(len(NEIGHBOURS)))
def test_the_neighbours_are_taken(data: bytes) -> None:
    whole, dripped = Between(), Between()
    assert whole.client(data) == data
    assert dripped.client(*bytewise(data)) == data
    assert whole.flaws == dripped.flaws == []
    assert len(whole.exchanges) == 1
    assert whole.inspector.outstanding()[0].request_open is False


def test_one_empty_line_before_a_request_is_dropped() -> None:
    data = request(GET)
    for pieces in ((b"\r\n" + data,), bytewise(b"\r\n" + data), (b"\r\n", data), (b"\r", b"\n" + data)):
        wire = Between()
        assert wire.client(*pieces) == data
        assert wire.client(b"\r\n" + data) == data
        assert wire.flaws == []


def test_every_method_that_is_taken_is_taken_by_llhttp_too() -> None:
    for method in METHODS:
        wire = Between()
        assert wire.client(request(method + b" / HTTP/1.1")), method
        httptools.HttpRequestParser(object()).feed_data(request(method + b" / HTTP/1.1"))


LET_THROUGH_BY_LLHTTP = [
    request(GET, host=None),
    request(GET, b"Host: a"),
    request(b"GET http://payments/ HTTP/1.1"),
    request(b"POST / HTTP/1.0", TE + b"chunked"),
    request(POST, TE + b"gzip, chunked"),
    request(b"GET / HTTP/0.9"),
    request(b"GET / HTTP/2.0"),
    request(b"SOURCE / HTTP/1.1"),
    request(b"GET /a#b HTTP/1.1"),
    request(GET, b"X: " + b"a" * 2_000_000),
]


@pytest.mark.parametrize("data", LET_THROUGH_BY_LLHTTP, ids=range(len(LET_THROUGH_BY_LLHTTP)))
def test_what_the_other_parser_would_let_through_is_refused(data: bytes) -> None:
    httptools.HttpRequestParser(object()).feed_data(data)
    wire = Between()
    wire.client(data)
    assert len(wire.flaws) == 1
    assert wire.to_server == b""


CHUNKED = request(POST, TE + b"chunked")
BAD_CHUNKS = [
    (b"5;a=b\r\nhello\r\n", Malformed.CHUNK_EXTENSION),
    (b"5;\r\nhello\r\n", Malformed.CHUNK_EXTENSION),
    (b"0;a\r\n\r\n", Malformed.CHUNK_EXTENSION),
    (b"5 ;a\r\nhello\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"5 \r\nhello\r\n", Malformed.BAD_CHUNK_SIZE),
    (b" 5\r\nhello\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"+5\r\nhello\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"-5\r\nhello\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"0x5\r\nhello\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"5_0\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"g\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"\xd9\xa5\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"5\rhello\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"5\nhello\r\n", Malformed.BARE_LF),
    (b"8000000000000000\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"00000000000000005\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"fffffffffffffffff\r\n", Malformed.BAD_CHUNK_SIZE),
    (b"5\r\nhello\n0\r\n\r\n", Malformed.BAD_CHUNK_END),
    (b"5\r\nhelloXX0\r\n\r\n", Malformed.BAD_CHUNK_END),
    (b"5\r\nhello!\r\n0\r\n\r\n", Malformed.BAD_CHUNK_END),
    (b"5\r\nhello\rX", Malformed.BAD_CHUNK_END),
    (b"0\r\nContent-Length: 5\r\n\r\n", Malformed.BAD_TRAILER),
    (b"0\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed.BAD_TRAILER),
    (b"0\r\nHost: a\r\n\r\n", Malformed.BAD_TRAILER),
    (b"0\r\nA: b\r\nAuthorization: a\r\n\r\n", Malformed.BAD_TRAILER),
    (b"0\r\nX-Forwarded-Client-Cert: a\r\n\r\n", Malformed.BAD_TRAILER),
    (b"0\r\nx_forwarded_client_cert: a\r\n\r\n", Malformed.BAD_TRAILER),
    (b"0\r\nX-Ringfence-A: a\r\n\r\n", Malformed.BAD_TRAILER),
    (b"0\r\nx_ringfence_a: a\r\n\r\n", Malformed.BAD_TRAILER),
    (b"0\r\nX-Forwarded-For: a\r\n\r\n", Malformed.BAD_TRAILER),
    (b"0\r\ncontent_length: a\r\n\r\n", Malformed.BAD_FIELD_NAME),
    (b"0\r\nA: " + b"a" * 9000 + b"\r\n\r\n", Malformed.BAD_TRAILER),
    (b"0\r\nA : b\r\n\r\n", Malformed.SPACE_BEFORE_COLON),
    (b"0\r\nA: b\r\n c\r\n\r\n", Malformed.OBS_FOLD),
    (b"0\r\nA: b\nB: c\r\n\r\n", Malformed.BARE_LF),
    (b"0\r\nGET /admin HTTP/1.1\r\n\r\n", Malformed.BAD_FIELD_NAME),
    (b"0\r\nA: \x00\r\n\r\n", Malformed.BAD_FIELD_VALUE),
]
GOOD_CHUNKS = [
    b"0\r\n\r\n",
    b"000\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    b"A\r\n0123456789\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nServer-Timing: a\r\nX-Checksum: b\r\n\r\n",
    b"0\r\nX-Forwarded: a\r\n\r\n",
]


@pytest.mark.parametrize(("body", "reason"), BAD_CHUNKS, ids=[f"{at}-{case[1]}" for at, case in enumerate(BAD_CHUNKS)])
def test_a_chunk_that_two_readers_may_read_in_two_ways_is_refused(body: bytes, reason: Malformed) -> None:
    whole, dripped = Between(), Between()
    whole.client(CHUNKED + body)
    dripped.client(*bytewise(CHUNKED + body))
    assert whole.flaws == dripped.flaws == [reason]
    assert whole.to_server == dripped.to_server
    assert whole.to_client == dripped.to_client
    assert whole.to_client.startswith(b"HTTP/1.1 400 ")
    assert whole.open_count == dripped.open_count == 0


@pytest.mark.parametrize(("body", "reason"), BAD_CHUNKS, ids=[f"{at}-{case[1]}" for at, case in enumerate(BAD_CHUNKS)])
def test_nothing_of_a_bad_chunk_line_reaches_the_server(body: bytes, reason: Malformed) -> None:
    wire = Between()
    wire.client(CHUNKED, *bytewise(body))
    passed = wire.to_server[len(CHUNKED) :]
    assert body.startswith(passed)
    assert passed in (b"", b"0\r\n", b"5\r\nhello")


@pytest.mark.parametrize("body", GOOD_CHUNKS)
def test_lawful_chunks_pass(body: bytes) -> None:
    whole, dripped = Between(), Between()
    assert whole.client(CHUNKED + body) == CHUNKED + body
    assert dripped.client(*bytewise(CHUNKED + body)) == CHUNKED + body
    assert whole.inspector.progress == dripped.inspector.progress == "response"


BAD_RESPONSES = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", Malformed.DUPLICATE_CONTENT_LENGTH),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na", Malformed.BAD_CONTENT_LENGTH),
    (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        Malformed.CONTENT_LENGTH_WITH_TRANSFER_ENCODING,
    ),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Malformed.TRANSFER_ENCODING_UNSUPPORTED),
    (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed.TRANSFER_ENCODING_IN_HTTP10),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", Malformed.BODY_NOT_ALLOWED),
    (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed.BODY_NOT_ALLOWED),
    (b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello", Malformed.BODY_NOT_ALLOWED),
    (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", Malformed.UNEXPECTED_UPGRADE),
    (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", Malformed.PARSERS_DISAGREE),
    (b"HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\n", Malformed.BARE_LF),
    (b"HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", Malformed.BARE_CR),
    (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Malformed.OBS_FOLD),
    (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Malformed.SPACE_BEFORE_COLON),
    (b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", Malformed.BAD_FIELD_VALUE),
    (b"HTTP/1.1 200 OK\r\nA\x00: \r\n\r\n", Malformed.BAD_FIELD_NAME),
    (b"HTTP/1.1 200 OK\r\nConnection: content-length\r\n\r\n", Malformed.CONNECTION_NAMES_PROTECTED_FIELD),
    (b"HTTP/1.1 99 OK\r\n\r\n", Malformed.BAD_STATUS_LINE),
    (b"HTTP/1.1 600 OK\r\n\r\n", Malformed.BAD_STATUS_LINE),
    (b"HTTP/1.1 2000 OK\r\n\r\n", Malformed.BAD_STATUS_LINE),
    (b"HTTP/1.1  200 OK\r\n\r\n", Malformed.BAD_STATUS_LINE),
    (b"HTTP/2 200 OK\r\n\r\n", Malformed.BAD_STATUS_LINE),
    (b"HTTP/1.1 200 \x00\r\n\r\n", Malformed.BAD_STATUS_LINE),
    (b"ICY 200 OK\r\n\r\n", Malformed.BAD_STATUS_LINE),
    (b"\r\nHTTP/1.1 200 OK\r\n\r\n", Malformed.BAD_STATUS_LINE),
    (b"HTTP/1.1 200 OK\r\nA: " + b"a" * HEAD_LIMIT_BYTES, Malformed.HEAD_TOO_LARGE),
]


@pytest.mark.parametrize(
    ("data", "reason"), BAD_RESPONSES, ids=[f"{at}-{case[1]}" for at, case in enumerate(BAD_RESPONSES)]
)
def test_a_response_that_two_readers_may_read_in_two_ways_is_refused(data: bytes, reason: Malformed) -> None:
    for pieces in ((data,), tuple(bytewise(data))):
        wire = Between()
        wire.client(request(GET))
        wire.server(*pieces)
        assert wire.flaws == [reason]
        assert wire.to_client.startswith(b"HTTP/1.1 502 ")
        assert wire.inspector.close_after
        assert wire.open_count == 0


@pytest.mark.parametrize(
    "data",
    [
        response(b"HTTP/1.1 200"),
        response(b"HTTP/1.1 200 "),
        response(b"HTTP/1.1 599 \xe9t\xe9\t!"),
        response(b"HTTP/1.1 204 No Content", b"Content-Length: 0", body=None),
        response(b"HTTP/1.0 200 OK", body=b"a"),
        response(b"HTTP/1.1 200 OK", b"Upgrade: h2c", b"Connection: Upgrade"),
        response(b"HTTP/1.1 200 OK", b"Set-Cookie: a", b"Set-Cookie: b"),
    ],
)
def test_lawful_responses_pass(data: bytes) -> None:
    for pieces in ((data,), tuple(bytewise(data))):
        wire = Between()
        wire.client(request(GET))
        assert wire.server(*pieces) == data
        assert wire.flaws == []
        assert wire.inspector.idle


def test_a_chunked_response_to_an_http10_client_is_refused() -> None:
    wire = Between()
    wire.client(request(b"GET / HTTP/1.0"))
    wire.server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert wire.flaws == [Malformed.TRANSFER_ENCODING_IN_HTTP10]


def test_a_smuggled_request_in_a_body_stays_a_body() -> None:
    inner = request(b"GET /admin HTTP/1.1")
    outer = request(POST, CL + b"%d" % len(inner), body=inner)
    wire = Between()
    assert wire.client(outer) == outer
    assert [exchange.target for exchange in wire.exchanges] == [b"/orders"]


def test_a_request_behind_a_last_chunk_is_judged() -> None:
    wire = Between(refuses=lambda exchange: exchange.target == b"/admin")
    wire.client(CHUNKED + b"0\r\n\r\n" + request(b"GET /admin HTTP/1.1"))
    assert [exchange.target for exchange in wire.exchanges] == [b"/orders", b"/admin"]
    assert wire.to_server == CHUNKED + b"0\r\n\r\n"


def test_a_refused_block_is_not_remembered() -> None:
    heads = Heads()
    Between(heads=heads).client(request(GET, CL + b"+5"))
    assert not heads.requests


def test_a_block_is_remembered_for_its_version_only() -> None:
    heads = Heads()
    block = (TE + b"chunked",)
    first = Between(heads=heads)
    first.client(request(b"POST / HTTP/1.1", *block))
    second = Between(heads=heads)
    second.client(request(b"POST / HTTP/1.0", *block))
    assert first.flaws == []
    assert second.flaws == [Malformed.TRANSFER_ENCODING_IN_HTTP10]


def test_a_version_in_a_field_is_no_request_line() -> None:
    """The short way looks for the first " HTTP/1.1": it must be the request line's."""
    heads = Heads()
    Between(heads=heads).client(request(GET))
    for line in (b"GET / HTTP/1.0\r\nX: a HTTP/1.1", b"GET / HTTP/1.1 HTTP/1.1", b"GET /a HTTP/1.1"):
        other = Between(heads=heads)
        other.client(request(line))
        if line == b"GET /a HTTP/1.1":
            assert other.exchanges[0].target == b"/a"
        elif b"1.0" in line:
            assert other.exchanges[0].fields.http11 is False
        else:
            assert other.flaws == [Malformed.BAD_REQUEST_LINE]


def test_hostile_blocks_do_not_grow_the_memory() -> None:
    heads = Heads()
    for at in range(5000):
        wire = Between(heads=heads)
        wire.client(request(GET, b"X-Id: %d" % at + b"y" * 2000))
    kept = sum(map(len, heads.requests))
    assert kept <= 1024 * 1024
    assert len(heads.requests) <= 1024
