"""The values of the command line, and each refused neighbour."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from sidecar.redirect.settings import Mark
from sidecar.redirect.words import parse_gid, parse_mark, parse_network, parse_port, parse_uid


def test_ports_are_decimal_numbers() -> None:
    assert parse_port("8080") == 8080
    for text in ("", "http", "80 81", "-1", "+80", "0x50", "8_0", "٨٠", "9" * 5000):
        with pytest.raises(ValueError, match="is no port"):
            parse_port(text)


def test_users_and_groups_are_numbers_or_names() -> None:
    assert (parse_uid("1337"), parse_gid("1337")) == (1337, 1337)
    assert parse_uid("root") == pwd.getpwnam("root").pw_uid
    name = grp.getgrgid(0).gr_name
    assert parse_gid(name) == 0


@pytest.mark.parametrize("text", ["no-such-name-here", "", "-1", "a\0b", "1337 "])
@pytest.mark.parametrize("parse", [parse_uid, parse_gid])
def test_names_that_nobody_bears_are_refused(parse: Callable[[str], int], text: str) -> None:
    with pytest.raises(ValueError, match=r"there is no (user|group) .* here \(give the number\)"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("1", Mark(value=1)),
        ("0x539/0xfff", Mark(value=0x539, mask=0xFFF)),
        ("0X10/16", Mark(value=16, mask=16)),
        ("010", Mark(value=10)),
    ],
)
def test_marks_are_values_with_or_without_a_mask(text: str, mark: Mark) -> None:
    assert parse_mark(text) == mark


@pytest.mark.parametrize("text", ["", "0x", "x1", "1/", "/1", "1/2/3", "-1", "0x123456789", "1 /2", "1\n"])
def test_other_texts_are_no_marks(text: str) -> None:
    with pytest.raises(ValueError, match="is no mark"):
        parse_mark(text)


def test_networks_are_in_cidr_form_or_single_addresses() -> None:
    assert parse_network("10.0.0.0/8") == ip_network("10.0.0.0/8")
    assert parse_network("192.0.2.1") == ip_network("192.0.2.1/32")
    assert parse_network("fd00::/8") == ip_network("fd00::/8")


def test_bits_beyond_the_prefix_are_refused_with_what_may_be_meant() -> None:
    with pytest.raises(ValueError, match=r"'10\.0\.0\.1/8' has bits set .*write 10\.0\.0\.0/8"):
        parse_network("10.0.0.1/8")


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "10.0.0", "example.com", "10.0.0.0/8; drop", "fe80::1%eth0/x"])
def test_other_texts_are_no_networks(text: str) -> None:
    with pytest.raises(ValueError, match="is no network"):
        parse_network(text)
