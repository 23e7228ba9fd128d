"""Whom a client of the forward proxy asks for: one spelling of each host, and nothing that two readers could read in
two ways."""

from __future__ import annotations

import pytest

from sidecar.http1 import MalformedError
from sidecar.http1.head import HEAD_LIMIT_BYTES
from sidecar.http1.lines import REQUEST_LINE_LIMIT_BYTES
from sidecar.proxy_request import Asked, read_asked, read_authority


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("http://orders.shop/a", "orders.shop", None),
        ("http://orders.shop:8080/a?b", "orders.shop", 8080),
        ("HTTP://Orders.SHOP:08080", "orders.shop", 8080),
        ("http://10.0.0.1:80/", "10.0.0.1", 80),
        ("http://[FD00::1]:80/", "fd00::1", 80),
        ("http://[fd00::1]/", "fd00::1", None),
        ("http://[::ffff:10.0.0.1]/", "10.0.0.1", None),
        ("http://a?b", "a", None),
    ],
)
def test_an_absolute_form_names_its_host_in_one_spelling(target: str, host: str, port: int | None) -> None:
    request = f"GET {target} HTTP/1.1\r\n".encode()
    assert read_asked(request) == (Asked(host=host, port=port, tunnel=False), 0)
    assert read_asked(b"\r\n" + request + b"host: x") == (Asked(host=host, port=port, tunnel=False), 0)


@pytest.mark.parametrize("host", ["", "host: ledger.shop:9000\r\n", "Host: LEDGER.shop\r\nproxy-connection: x\r\n"])
def test_connect_is_read_to_the_end_of_its_head(host: str) -> None:
    head = f"CONNECT Ledger.shop:9000 HTTP/1.1\r\n{host}\r\n".encode()
    asked = Asked(host="ledger.shop", port=9000, tunnel=True)
    assert read_asked(head + b"early") == (asked, len(head))
    assert all(read_asked(head[:size]) is None for size in range(1, len(head)))
    assert read_asked(b"\r\n" + head) == (asked, len(head) + 2)


@pytest.mark.parametrize(
    "head",
    [
        "GET /orders HTTP/1.1\r\n",
        "GET orders.shop/ HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "GET https://orders.shop/ HTTP/1.1\r\n",
        "GET ftp://orders.shop/ HTTP/1.1\r\n",
        "GET http:///orders HTTP/1.1\r\n",
        "GET http://web@orders.shop/ HTTP/1.1\r\n",
        "GET http://orders.shop:80@evil.example/ HTTP/1.1\r\n",
        "GET http://orders.shop:/ HTTP/1.1\r\n",
        "GET http://orders.shop:0/ HTTP/1.1\r\n",
        "GET http://orders.shop:65536/ HTTP/1.1\r\n",
        "GET http://orders.shop:8o/ HTTP/1.1\r\n",
        "GET http://orders%2eshop/ HTTP/1.1\r\n",
        "GET http://orders.shop\\@evil/ HTTP/1.1\r\n",
        "GET http://2130706433/ HTTP/1.1\r\n",
        "GET http://127.1/ HTTP/1.1\r\n",
        "GET http://0x7f.0.0.0x1/ HTTP/1.1\r\n",
        "GET http://[orders.shop]/ HTTP/1.1\r\n",
        "GET http://[fe80::1%25eth0]/ HTTP/1.1\r\n",
        "GET http://fd00::1/ HTTP/1.1\r\n",
        "GET  http://orders.shop/ HTTP/1.1\r\n",
        "GET http://orders.shop/ HTTP/2.0\r\n",
        "GET http://orders.shop/\r\n",
        "BREW http://orders.shop/ HTTP/1.1\r\n",
        "get http://orders.shop/ HTTP/1.1\r\n",
        "\r\n\r\nGET http://orders.shop/ HTTP/1.1\r\n",
        "\x16\x03\x01\x02\x00",
        "GET http://orders.shop/ HTTP/1.1\n",
        "CONNECT orders.shop HTTP/1.1\r\n\r\n",
        "CONNECT orders.shop:0 HTTP/1.1\r\n\r\n",
        "CONNECT orders.shop:99999 HTTP/1.1\r\n\r\n",
        "CONNECT web:secret@orders.shop:80 HTTP/1.1\r\n\r\n",
        "CONNECT http://orders.shop:80 HTTP/1.1\r\n\r\n",
        "CONNECT orders.shop:80 HTTP/2\r\n\r\n",
        "CONNECT orders.shop:80\r\n\r\n",
        "CONNECT orders.shop:80 HTTP/1.1\r\nhost: ledger.shop:80\r\n\r\n",
        "CONNECT orders.shop:80 HTTP/1.1\r\nhost: orders.shop:81\r\n\r\n",
        "CONNECT orders.shop:80 HTTP/1.1\r\nhost: orders.shop:80\r\nhost: orders.shop:80\r\n\r\n",
        "CONNECT orders.shop:80 HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
        "CONNECT orders.shop:80 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        "CONNECT orders.shop:80 HTTP/1.1\r\nhost : orders.shop:80\r\n\r\n",
        "CONNECT orders.shop:80 HTTP/1.1\r\n folded\r\n\r\n",
        "CONNECT orders.shop:80 HTTP/1.1\r\nhost: orders.shop:80\n\r\n",
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(head: str) -> None:
    with pytest.raises(MalformedError):
        read_asked(head.encode("latin-1"))


def test_a_head_that_never_ends_is_refused_in_time() -> None:
    with pytest.raises(MalformedError):
        read_asked(b"GET http://a/" + b"a" * REQUEST_LINE_LIMIT_BYTES)
    with pytest.raises(MalformedError):
        read_asked(b"CONNECT a:80 HTTP/1.1\r\n" + b"a: b\r\n" * (HEAD_LIMIT_BYTES // 6))


def test_a_host_field_is_read_by_the_same_rules() -> None:
    assert read_authority(b"Orders.shop:8080") == Asked(host="orders.shop", port=8080, tunnel=False)
    for value in (b"", b"a b", b"a@b", b"[::1", b"a:b"):
        with pytest.raises(MalformedError):
            read_authority(value)
