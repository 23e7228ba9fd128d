"""The name servers of a pod: what its file says, read as the C library reads it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringfence.kit.clock import FakeClock
from sidecar.egress import EgressFlow
from sidecar.egress_judge import EgressJudge
from sidecar.resolvers import resolvers_in


def test_the_first_three_name_servers_are_found() -> None:
    text = """\
search shop.svc.cluster.local svc.cluster.local
nameserver 10.96.0.10
 nameserver\tfd96::000a
nameserver 10.96.0.10
# nameserver 192.0.2.1
nameserver
nameserver dns.example
nameservers 192.0.2.2
nameserver 192.0.2.3 # a comment
nameserver 192.0.2.4
options ndots:5
"""
    assert resolvers_in(text) == ("10.96.0.10", "fd96::a", "192.0.2.3")
    assert resolvers_in("") == ()


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    assert len(resolvers_in(text + "\nnameserver 10.0.0.1\n")) <= 3


def test_a_resolver_is_reached_at_its_port_and_nothing_else_is() -> None:
    judge = EgressJudge(FakeClock().now, ("10.96.0.10",))
    permit = judge.by_address("10.96.0.10", 53)
    assert permit is not None
    assert permit.rule_name == "egress/resolver"
    assert judge.again(EgressFlow(address="10.96.0.10", host="", port=53)) is permit
    assert judge.by_address("10.96.0.10", 443) is None
    assert judge.by_address("10.96.0.11", 53) is None
    assert judge.by_host("10.96.0.10", 53) is None
