"""Addresses in documents and flags."""

from __future__ import annotations

import re

import pytest

from ringfence.kit.addresses import AddressError, SocketAddress, check_port, parse_cidr, parse_ip, parse_socket_address


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80, "127.0.0.1:80"),
        ("[::1]:65535", "::1", 65535, "[::1]:65535"),
        ("[2001:DB8:0:0::1]:1", "2001:db8::1", 1, "[2001:db8::1]:1"),
    ],
)
def test_socket_address_is_canonical(text: str, host: str, port: int, shown: str) -> None:
    address = parse_socket_address(text)
    assert (address.host, address.port, str(address)) == (host, port, shown)
    assert parse_socket_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:+80",
        "127.0.0.1:8_0",
        "127.0.0.1:８０",
        "127.0.0.1:000000080",
        "127.0.0.01:80",
        "127.1:80",
        "2130706433:80",
        "0x7f.0.0.1:80",
        "localhost:80",
        "::1:80",
        "[127.0.0.1]:80",
        "[::1%lo]:80",
        "[::1:80",
        " 127.0.0.1:80",
        "127.0.0.1:80\n",
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_socket_address(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.1.0.0/16", "10.1.0.0/16"),
        ("10.1.2.3/32", "10.1.2.3/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("::1/128", "::1/128"),
    ],
)
def test_network_is_canonical(text: str, shown: str) -> None:
    assert parse_cidr(text) == shown
    assert parse_cidr(shown) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.1.0.1/16", "bits set behind its prefix; write 10.1.0.0/16, or 10.1.0.1/32"),
        ("2001:db8::1/32", "bits set behind its prefix; write 2001:db8::/32, or 2001:db8::1/128"),
        ("10.1.0.0/33", "prefix longer than the address; use at most /32"),
        ("::/129", "prefix longer than the address; use at most /128"),
        ("10.1.0.0", "is not a network"),
        ("10.1.0.0/", "is not a network"),
        ("10.1.0.0/255.255.0.0", "is not a network"),
        ("10.1.0.0/+16", "is not a network"),
        ("10.1.0.0/-1", "is not a network"),
        ("10.1.0.0/16 ", "is not a network"),
        ("10.1.0.0/\uff11", "is not a network"),
        ("10.1.0.0/0000000016", "is not a network"),
        ("10.1.0.0/16/16", "is not a network"),
        ("10.1/16", "is not an IP address"),
        ("010.1.0.0/16", "is not an IP address"),
        ("fe80::%1/64", "has a zone"),
        ("example.org/16", "is not an IP address"),
        ("/16", "is not an IP address"),
        ("", "is not a network"),
    ],
)
def test_other_networks_are_refused(text: str, message: str) -> None:
    with pytest.raises(AddressError, match=re.escape(message)) as caught:
        parse_cidr(text)
    assert str(caught.value).isascii()


def test_port_zero_is_for_those_who_ask_the_system_to_choose() -> None:
    assert parse_socket_address("127.0.0.1:0", zero=True).port == 0
    with pytest.raises(AddressError, match="use 1 to 65535"):
        check_port(0)


def test_a_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(AddressError) as caught:
        parse_ip("1" * 100_000)
    assert len(str(caught.value)) < 200


def test_reach_of_an_address() -> None:
    assert SocketAddress("127.8.0.1", 1).loopback
    assert SocketAddress("::1", 1).loopback
    assert not SocketAddress("10.0.0.1", 1).loopback
    assert SocketAddress("0.0.0.0", 1).unspecified
    assert SocketAddress("::", 1).unspecified
    assert not SocketAddress("127.0.0.1", 1).unspecified
