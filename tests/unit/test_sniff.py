"""What a connection's first bytes tell: real ClientHellos, HTTP heads, junk; whole, and cut at every byte."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from sidecar.client_hello import host_name
from sidecar.sniff import SNIFF_LIMIT_BYTES, Kind, Sniffed, sniff
from tests.client_hello import client_hello


def in_records(hello: bytes, size: int) -> bytes:
    """The same handshake message in records of at most ``size`` bytes."""
    message = hello[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def extensions_at(hello: bytes) -> int:
    """Where the two bytes of the extensions' length stand."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2], "big")
    return at + 1 + hello[at]


def with_extensions(hello: bytes, change: list[tuple[int, bytes]], *, slack: int = 0) -> bytes:
    """``hello`` with these extensions in front of its own; ``slack`` falsifies the length of all of them."""
    at = extensions_at(hello)
    added = b"".join(kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body for kind, body in change)
    body = added + hello[at + 2 :]
    message = hello[9:at] + (len(body) + slack).to_bytes(2, "big") + body
    whole = b"\x01" + len(message).to_bytes(3, "big") + message
    return b"\x16\x03\x01" + len(whole).to_bytes(2, "big") + whole


def names(*entries: tuple[int, bytes]) -> bytes:
    """The body of a server_name extension."""
    listed = b"".join(bytes((kind,)) + len(name).to_bytes(2, "big") + name for kind, name in entries)
    return len(listed).to_bytes(2, "big") + listed


def told(data: bytes) -> tuple[Kind, str]:
    found = sniff(data)
    assert found is not None
    return found.kind, found.host


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize(
    ("name", "host"), [(b"api.example.com", "api.example.com"), (b"API.Example.com", "api.example.com")]
)
def test_the_server_name_of_a_client_hello(name: bytes, host: str, version: int) -> None:
    assert told(client_hello(name, alpn=[b"h2", b"http/1.1"], version=version)) == (Kind.TLS, host)


def test_a_client_hello_without_a_name_tells_no_host() -> None:
    assert told(client_hello(None)) == (Kind.TLS, "")


@pytest.mark.parametrize("name", [b"api.example.com", None])
def test_a_client_hello_cut_anywhere_is_told_only_when_it_is_whole(name: bytes | None) -> None:
    hello = client_hello(name)
    assert [sniff(hello[:size]) for size in range(len(hello))] == [None] * len(hello)
    assert sniff(hello) == sniff(hello + b"early data")


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_a_client_hello_may_span_records(size: int) -> None:
    hello = in_records(client_hello(b"api.example.com"), size)
    assert told(hello) == (Kind.TLS, "api.example.com")
    assert sniff(hello[:-1]) is None


def test_a_hello_that_is_never_complete_tells_no_host_at_the_limit() -> None:
    endless = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(SNIFF_LIMIT_BYTES)
    assert sniff(endless[: SNIFF_LIMIT_BYTES - 1]) is None
    assert told(endless[:SNIFF_LIMIT_BYTES]) == (Kind.TLS, "")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",  # a ClientHello of no bytes
        b"\x16\x03\x01\x00\x02\x01\x00\x17\x03\x03\x00\x01\x00",  # another kind of record in its middle
    ],
)
def test_a_handshake_that_is_no_client_hello_tells_no_host(data: bytes) -> None:
    assert told(data) == (Kind.TLS, "")


@pytest.mark.parametrize(
    "extensions",
    [
        [(0, names((0, b"a.example"), (0, b"b.example")))],
        [(0, names((0, b"a.example"))), (0, names((0, b"b.example")))],
        [(0, names((0, b"a.example"))), (0, names((0, b"a.example")))],
        [(0, names((1, b"a.example")))],
        [(0, names((0, b"a.example:443")))],
        [(0, names((0, b"a.example\0.b.example")))],
        [(0, names((0, b"")))],
        [(0, b"")],
        [(0, b"\x00\x00")],
        [(0, names((0, b"a.example")) + b"\0")],
        [(0, names((0, b"a.example"))[:-1])],
    ],
)
def test_a_name_that_two_readers_could_take_for_two_is_no_name(extensions: list[tuple[int, bytes]]) -> None:
    hello = client_hello(None)
    assert told(with_extensions(hello, [(0, names((0, b"a.example")))])) == (Kind.TLS, "a.example")
    assert told(with_extensions(hello, extensions)) == (Kind.TLS, "")


@pytest.mark.parametrize("slack", [-1, 1])
def test_extensions_of_a_false_length_tell_no_host(slack: int) -> None:
    hello = with_extensions(client_hello(None), [(0, names((0, b"a.example")))], slack=slack)
    assert told(hello) == (Kind.TLS, "")


@pytest.mark.parametrize("data", [b"\x16\x02\x00", b"\x16\x03\x05", b"\x16\x16\x16"])
def test_a_first_byte_alone_makes_no_tls(data: bytes) -> None:
    assert told(data) == (Kind.OPAQUE, "")


# -- HTTP/1 -----------------------------------------------------------------------------------------------------------


def get(*lines: str, target: str = "/", method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", *lines, "", "")).encode("latin-1")


@pytest.mark.parametrize(
    ("field", "host"),
    [
        ("Host: api.example.com", "api.example.com"),
        ("host:api.example.com", "api.example.com"),
        ("HOST: \t API.example.COM \t", "api.example.com"),
        ("Host: api.example.com:8443", "api.example.com"),
        ("Host: api.example.com:", "api.example.com"),
        ("Host: api.example.com.", "api.example.com"),
        ("Host: localhost", "localhost"),
        ("Host:", ""),
        ("Host: api.example.com:80:80", ""),
        ("Host: api.example.com:http", ""),
        ("Host: api_example.com", ""),
        ("Host: api..example.com", ""),
        ("Host: .example.com", ""),
        ("Host: -a.example.com", ""),
        ("Host: a@b.example.com", ""),
        ("Host: a.example.com, b.example.com", ""),
        ("Host: b\u00fccher.example", ""),
        ("Host: [::1]", ""),
        ("Hostess: api.example.com", ""),
        ("X-Host: api.example.com", ""),
    ],
)
def test_the_host_of_a_request(field: str, host: str) -> None:
    assert told(get("accept: */*", field, "user-agent: x")) == (Kind.HTTP1, host)
    assert told(get(field)) == (Kind.HTTP1, host)


def test_a_request_cut_anywhere_is_told_only_when_its_head_is_whole() -> None:
    request = get("accept: */*", "host: api.example.com")
    assert [sniff(request[:size]) for size in range(len(request))] == [None] * len(request)
    assert told(request + b"body\r\nhost: other.example.com\r\n\r\n") == (Kind.HTTP1, "api.example.com")


@pytest.mark.parametrize(
    "lines",
    [
        ("Host: a.example", "Host: b.example"),
        ("Host: a.example", "Host: a.example"),
        ("Host: a.example", "x: y", "host: b.example"),
        ("Host: a.example", "Host : b.example"),
        ("Host: a.example", " Host: b.example"),
        ("Host: a.example", " b.example"),
        ("Host: a.example", "\tb.example"),
        ("Host: a.example", "x: y\nHost: b.example"),
        ("Host: a.example", "x: y\rHost: b.example"),
        ("Host: a.example", "x: \0"),
    ],
)
def test_hosts_that_two_readers_could_take_for_two_are_none(lines: tuple[str, ...]) -> None:
    assert told(get(*lines)) == (Kind.HTTP1, "")


@pytest.mark.parametrize(
    ("method", "target", "host"),
    [
        ("GET", "http://a.example/x", "a.example"),
        ("GET", "http://A.example:80", "a.example"),
        ("GET", "http://a.example?q", "a.example"),
        ("GET", "http://b.example/x", ""),
        ("GET", "http://b.example@a.example/x", ""),
        ("GET", "http://a.example@b.example/x", ""),
        ("GET", "http:///x", ""),
        ("GET", "a.example/x", ""),
        ("OPTIONS", "*", "a.example"),
        ("CONNECT", "a.example:443", "a.example"),
        ("CONNECT", "b.example:443", ""),
    ],
)
def test_the_authority_of_a_target_must_be_the_host(method: str, target: str, host: str) -> None:
    assert told(get("Host: a.example", target=target, method=method)) == (Kind.HTTP1, host)


def test_a_head_that_never_ends_tells_no_host_at_the_limit() -> None:
    endless = b"GET / HTTP/1.1\r\nhost: a.example\r\nx: ".ljust(SNIFF_LIMIT_BYTES, b"y")
    assert sniff(endless[:-1]) is None
    assert told(endless) == (Kind.HTTP1, "")


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_http2_by_its_preface() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert [sniff(preface[:size]) for size in range(len(preface))] == [None] * len(preface)
    assert told(preface + b"\0\0\0\x04\0\0\0\0\0") == (Kind.HTTP2, "")
    assert told(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n") == (Kind.HTTP1, "")


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\x05\x01\x00",
        b"SSH-2.0-x\r\n",
        b"get / HTTP/1.1\r\n",
        b"EHLO\r\n",
        b"A" * 17,
        b"AB /",
        b"\x15\x03\x03",
        b"\0\0\0\x08\x04\xd2\x16/",  # PostgreSQL asks for TLS
        b"*1\r\n$4\r\nPING\r\n",
    ],
)
def test_other_bytes_are_opaque(data: bytes) -> None:
    assert sniff(data) == Sniffed(kind=Kind.OPAQUE, host="")


def test_nothing_tells_nothing() -> None:
    assert sniff(b"") is None


@pytest.mark.parametrize("length", [63, 64])
def test_labels_and_names_have_their_limits(length: int) -> None:
    label = b"a" * length
    assert host_name(label + b".example") == ((label + b".example").decode() if length == 63 else "")
    long = b".".join([b"a" * 49] * 5)
    assert host_name(long + b"." + b"a" * (length - 60)) == ((long + b".aaa").decode() if length == 63 else "")


@pytest.mark.parametrize(
    ("before", "end", "host"),
    [
        (b"", b"\r\n", ""),
        (b"", b"\n", ""),
        (b"", b"b\r\n", "b"),
        (b"a", b"\r\n", "a"),
        (b"a", b"\n", ""),
        (b"a", b"b\r\n", ""),
    ],
)
def test_a_hostile_host_costs_no_more_than_its_length(before: bytes, end: bytes, host: str) -> None:
    """A line of 2 MB of blanks: linear work is done at once, squared work would run into the test's deadline."""
    head = b"GET / HTTP/1.1\r\nhost:" + before + b" " * 2_000_000 + end + b"\r\n"
    assert told(head + b"\r\n") == (Kind.HTTP1, host)
