"""Which destinations outside the mesh egress rules permit, and their refused neighbours."""

from __future__ import annotations

import pytest

from ringfence.snapshot import EgressRule
from sidecar.egress import EgressTable, stands_for_near

DATABASES = EgressRule(name="databases", cidrs=("10.8.0.0/16", "fd08::/32"), ports=(5432, 6432))
METADATA = EgressRule(name="metadata", cidrs=("192.0.2.7/32",))
PARTNERS = EgressRule(name="partners", hosts=("api.partner.example", "*.cdn.example"), ports=(443,))
ANY_PORT = EgressRule(name="mirror", hosts=("mirror.example",))
BOTH = EgressRule(name="both", hosts=("both.example",), cidrs=("198.51.100.0/24",), ports=(8443,))
TABLE = EgressTable((DATABASES, METADATA, PARTNERS, ANY_PORT, BOTH))


@pytest.mark.parametrize(
    ("address", "port", "rule"),
    [
        ("10.8.0.0", 5432, "databases"),
        ("10.8.255.255", 6432, "databases"),
        ("10.9.0.0", 5432, None),
        ("10.7.255.255", 5432, None),
        ("10.8.0.1", 5433, None),
        ("fd08::1", 5432, "databases"),
        ("fd08:0:ffff::1", 5432, "databases"),
        ("fd09::1", 5432, None),
        ("192.0.2.7", 1, "metadata"),
        ("192.0.2.7", 65535, "metadata"),
        ("192.0.2.8", 80, None),
        ("198.51.100.9", 8443, "both"),
        ("198.51.100.9", 443, None),
        ("::ffff:10.8.0.1", 5432, None),
        ("api.partner.example", 443, None),
        ("", 443, None),
    ],
)
def test_by_address(address: str, port: int, rule: str | None) -> None:
    assert TABLE.by_address(address, port) == rule


@pytest.mark.parametrize(
    ("host", "port", "rule"),
    [
        ("api.partner.example", 443, "partners"),
        ("api.partner.example", 80, None),
        ("partner.example", 443, None),
        ("x.api.partner.example", 443, None),
        ("api.partner.example.evil.example", 443, None),
        ("xapi.partner.example", 443, None),
        ("a.cdn.example", 443, "partners"),
        ("a.b.cdn.example", 443, "partners"),
        ("cdn.example", 443, None),
        ("acdn.example", 443, None),
        (".cdn.example", 443, None),
        ("mirror.example", 1, "mirror"),
        ("both.example", 8443, "both"),
        ("both.example", 443, None),
        ("10.8.0.1", 5432, None),
        ("", 443, None),
    ],
)
def test_by_host(host: str, port: int, rule: str | None) -> None:
    assert TABLE.by_host(host, port) == rule


def test_a_host_is_worth_waiting_for_only_where_a_rule_could_permit_one() -> None:
    assert EgressTable((PARTNERS,)).asks_for_host(443)
    assert not EgressTable((PARTNERS,)).asks_for_host(80)
    assert EgressTable((ANY_PORT,)).asks_for_host(80)
    assert not EgressTable((DATABASES, METADATA)).asks_for_host(5432)
    assert EgressTable((EgressRule(name="wild", hosts=("*.example",)),)).asks_for_host(1)


def test_without_rules_nothing_leaves() -> None:
    table = EgressTable(())
    assert table.by_address("10.8.0.1", 5432) is None
    assert table.by_host("api.partner.example", 443) is None
    assert not table.asks_for_host(443)


def test_the_order_of_rules_decides_only_their_names() -> None:
    wide = EgressRule(name="wide", cidrs=("10.0.0.0/8",))
    for rules in ((DATABASES, wide), (wide, DATABASES)):
        table = EgressTable(rules)
        assert table.by_address("10.8.0.1", 5432) is not None
        assert table.by_address("10.9.0.1", 80) == "wide"


@pytest.mark.parametrize(
    ("host", "address", "near"),
    [
        ("api.partner.example", "203.0.113.5", False),
        ("api.partner.example", "10.1.2.3", False),
        ("api.partner.example", "2001:db8::5", False),
        ("api.partner.example", "127.0.0.1", True),
        ("api.partner.example", "127.8.9.1", True),
        ("api.partner.example", "::1", True),
        ("api.partner.example", "::ffff:127.0.0.1", True),
        ("api.partner.example", "169.254.169.254", True),
        ("api.partner.example", "::ffff:169.254.169.254", True),
        ("api.partner.example", "fe80::1%eth0", True),
        ("api.partner.example", "0.0.0.0", True),
        ("api.partner.example", "::", True),
        ("api.partner.example", "224.0.0.1", True),
        ("api.partner.example", "", True),
        ("api.partner.example", "0.1.2.3", True),
        ("api.partner.example", "1.0.0.0", False),
        ("api.partner.example", "64:ff9b::a9fe:a9fe", True),  # what a NAT64 makes of it
        ("api.partner.example", "64:ff9b::7f00:1", True),
        ("api.partner.example", "64:ff9b:1::a9fe:a9fe", True),
        ("api.partner.example", "64:ff9b::cb00:7105", False),
        ("api.partner.example", "2002:a9fe:a9fe::1", True),  # by 6to4
        ("api.partner.example", "2002:cb00:7105::1", False),
        ("api.partner.example", "::127.0.0.1", True),
        ("api.partner.example", "fd00:ec2::254", True),  # metadata that does not stand on the link
        ("api.partner.example", "fd00:ec3::254", False),
        ("api.partner.example", "fd20:ce::254", True),
        ("api.partner.example", "fd20:ce::253", False),
        ("api.partner.example", "100.100.100.200", True),
        ("api.partner.example", "100.100.100.201", False),
        ("api.partner.example", "168.63.129.16", True),
        ("api.partner.example", "64:ff9b::a83f:8110", True),
        ("localhost", "64:ff9b::7f00:1", True),
        ("localhost", "127.0.0.1", False),
        ("db.localhost", "::1", False),
        ("localhost", "169.254.169.254", True),
        ("notlocalhost", "127.0.0.1", True),
        ("169.254.169.254", "169.254.169.254", False),  # asked for by address, so permitted by address
    ],
)
def test_a_name_leads_to_this_machine_or_its_link_by_a_rule_of_addresses_alone(
    host: str, address: str, near: bool
) -> None:
    assert stands_for_near(host, address) is near


def test_a_name_leads_to_no_address_of_this_machine() -> None:
    """Whoever dials an own address is given that very address to dial from."""
    assert stands_for_near("api.partner.example", "203.0.113.5", own="203.0.113.5")
    assert not stands_for_near("api.partner.example", "203.0.113.5", own="203.0.113.6")
    assert not stands_for_near("203.0.113.5", "203.0.113.5", own="203.0.113.5")
    assert not stands_for_near("localhost", "127.0.0.1", own="127.0.0.1")
