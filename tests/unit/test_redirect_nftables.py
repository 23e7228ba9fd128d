"""Settings to nftables rulesets, word by word."""

from __future__ import annotations

from ipaddress import ip_network

from sidecar.redirect.nftables import install_script, remove_script, ruleset
from sidecar.redirect.settings import Inbound, Mark, Outbound, OwnTraffic, RedirectSettings

PLAIN = RedirectSettings(inbound=Inbound(), outbound=Outbound(own=OwnTraffic(uid=1337)))

PLAIN_RULESET = """table inet ringfence {
	chain inbound {
		type nat hook prerouting priority -110; policy accept;
		meta l4proto != tcp return
		tcp flags & (fin | syn | rst | ack) != syn return
		iifname "lo" return
		fib daddr type != local return
		tcp dport { 15008 } return
		meta l4proto tcp redirect to :15006
	}

	chain output {
		type nat hook output priority -110; policy accept;
		meta l4proto != tcp return
		tcp flags & (fin | syn | rst | ack) != syn return
		oifname "lo" return
		ip daddr 192.0.2.106 tcp dport 15001 redirect to :15001
		ip6 daddr 2001:db8::7266 tcp dport 15001 redirect to :15001
		meta skuid 1337 return
		meta l4proto tcp redirect to :15001
	}
}
"""

FULL = RedirectSettings(
    inbound=Inbound(listener=16006, only_ports=frozenset({8080, 80}), exclude_ports=frozenset({9402, 22})),
    outbound=Outbound(
        own=OwnTraffic(uid=1337, gid=1338, mark=Mark(value=0x539, mask=0xFFF)),
        listener=16001,
        exclude_ports=frozenset({53, 25}),
        exclude_networks=frozenset(map(ip_network, ("10.0.0.0/24", "10.0.1.0/24", "192.0.2.1", "fd00::/8"))),
        exclude_uids=frozenset({0, 7}),
        exclude_gids=frozenset({8}),
        exclude_marks=frozenset({Mark(value=2, mask=2), Mark(value=1)}),
    ),
    mesh_port=16008,
)

FULL_RULESET = """table inet ringfence {
	chain inbound {
		type nat hook prerouting priority -110; policy accept;
		meta l4proto != tcp return
		tcp flags & (fin | syn | rst | ack) != syn return
		iifname "lo" return
		fib daddr type != local return
		tcp dport { 22, 9402, 16008 } return
		tcp dport { 80, 8080 } redirect to :16006
	}

	chain output {
		type nat hook output priority -110; policy accept;
		meta l4proto != tcp return
		tcp flags & (fin | syn | rst | ack) != syn return
		oifname "lo" return
		ip daddr 192.0.2.106 tcp dport 15001 redirect to :16001
		ip6 daddr 2001:db8::7266 tcp dport 15001 redirect to :16001
		meta skuid 1337 meta skgid 1338 meta mark & 0x00000fff == 0x00000539 return
		meta skuid { 0, 7 } return
		meta skgid { 8 } return
		meta mark & 0xffffffff == 0x00000001 return
		meta mark & 0x00000002 == 0x00000002 return
		tcp dport { 25, 53 } return
		ip daddr { 10.0.0.0/23, 192.0.2.1/32 } return
		ip6 daddr { fd00::/8 } return
		meta l4proto tcp redirect to :16001
	}
}
"""


def test_the_usual_redirect() -> None:
    assert ruleset(PLAIN) == PLAIN_RULESET


def test_a_redirect_with_every_word() -> None:
    assert ruleset(FULL) == FULL_RULESET


def test_without_ipv6_the_table_is_of_ipv4_alone() -> None:
    alone = ruleset(PLAIN.without_ipv6())
    lines = [line for line in PLAIN_RULESET.splitlines(keepends=True) if "ip6" not in line]
    assert alone == "".join(lines).replace("table inet", "table ip")


def test_a_direction_that_is_left_alone_has_no_chain() -> None:
    assert "chain output" not in ruleset(RedirectSettings(inbound=Inbound(), outbound=None))
    assert "chain inbound" not in ruleset(RedirectSettings(inbound=None, outbound=PLAIN.outbound))


def test_the_sidecar_goes_free_before_anything_of_the_workload_is_judged() -> None:
    lines = ruleset(FULL).splitlines()
    own = next(number for number, line in enumerate(lines) if "skuid 1337" in line)
    before = [line for line in lines[:own] if "redirect to :16001" in line]
    assert [line.split()[2] for line in before] == ["192.0.2.106", "2001:db8::7266"]  # but what is nobody's


def test_installing_takes_the_place_of_what_is_there_in_one_transaction() -> None:
    assert install_script(PLAIN, ()) == PLAIN_RULESET
    assert install_script(PLAIN, ("inet", "ip")) == (
        "delete table inet ringfence\ndelete table ip ringfence\n" + PLAIN_RULESET
    )


def test_removing_deletes_our_tables_and_nothing_else() -> None:
    assert remove_script(()) == ""
    assert remove_script(("ip",)) == "delete table ip ringfence\n"
