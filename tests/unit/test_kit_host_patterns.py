"""Host patterns: one DNS name, or all names below one, in one spelling only."""

from __future__ import annotations

import pytest

from ringfence.kit.host_patterns import HostPatternError, parse_host_pattern


@pytest.mark.parametrize(
    "text",
    [
        "api.example.org",
        "*.example.net",
        "*.net",
        "db",
        "xn--bcher-kva.example",
        "a-b.c--d.e1",
        "1.2.3.4.in-addr.arpa",
        "0xa.0xg",
        "a" * 63 + ".b",
        ".".join(["a" * 61] * 4) + ".abcde",  # 253 characters
    ],
)
def test_a_dns_name_is_taken_as_it_is(text: str) -> None:
    assert parse_host_pattern(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a DNS name"),
        (".", "dot at the end"),
        ("*", "wildcard"),
        ("**", "wildcard"),
        ("*.", "dot at the end"),
        ("*.*.net", "wildcard"),
        ("a.*.net", "wildcard"),
        ("*a.net", "wildcard"),
        ("a*.net", "wildcard"),
        ("net.*", "wildcard"),
        ("Example.org", "capitals"),
        ("*.example.Org", "capitals"),
        ("example.org.", "dot at the end"),
        (".example.org", "is not a DNS name"),
        ("a..b", "is not a DNS name"),
        ("-a.b", "is not a DNS name"),
        ("a-.b", "is not a DNS name"),
        ("a_b.example", "is not a DNS name"),
        ("a b", "is not a DNS name"),
        ("a.b\n", "is not a DNS name"),
        ("a.b\x00", "is not a DNS name"),
        ("a.b:443", "is not a DNS name"),
        ("https://a.b", "is not a DNS name"),
        ("b\u00fccher.example", "is not a DNS name"),
        ("ex\u0430mple.org", "is not a DNS name"),
        ("a\u3002b", "is not a DNS name"),
        ("a" * 64 + ".b", "is not a DNS name"),
        (".".join(["a" * 61] * 4) + ".abcdef", "is not a DNS name"),
        ("a." * 100_000 + "b", "is not a DNS name"),
        ("10.0.0.1", "is an address"),
        ("127.1", "is an address"),
        ("*.10", "is an address"),
        ("2130706433", "is an address"),
        ("0x7f000001", "is an address"),
        ("127.0.0.0x1", "is an address"),
        ("0x", "is an address"),
        ("::1", "is not a DNS name"),
        ("[::1]", "is not a DNS name"),
    ],
)
def test_what_is_not_plainly_a_name_is_refused(text: str, message: str) -> None:
    with pytest.raises(HostPatternError, match=message) as caught:
        parse_host_pattern(text)
    assert caught.value.mend
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 600
