"""Compiling refuses what cannot be enforced as it stands, and names it."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.policy.compile import PolicyError, compile_policy
from ringfence.policy.model import Allowlist, PolicySet, Rule, SpiffeIdPattern
from ringfence.spiffe import SpiffeId, TrustDomain

SHOP = TrustDomain("shop.example")
WEB = SpiffeIdPattern(trust_domain=SHOP, segments=("ns", "shop", "sa", "web"))


def compile_rules(*rules: Rule) -> None:
    policy = PolicySet(allowlists=(Allowlist(namespace="shop", name="a", rules=rules),))
    compile_policy(policy, trust_domain=SHOP, http_ports=[80])


@pytest.mark.parametrize(
    "parts",
    [
        {"paths": ("orders",)},
        {"paths": ("/a", "/a/../b")},
        {"paths": ("/a*",)},
        {"methods": ("get",)},
        {"methods": ("GET ",)},
        {"methods": ("",)},
        {"methods": ("GÉT",)},
        {"ports": (0,)},
        {"ports": (65536,)},
        {"callers": (SpiffeIdPattern(trust_domain=SHOP, segments=("ns", "shop", "sa", "web*")),)},
        {"callers": (SpiffeIdPattern(trust_domain=SHOP, segments=("ns", "", "sa")),)},
        {"callers": (SpiffeIdPattern(trust_domain=SHOP, segments=("a/b",)),)},
        {"callers": (SpiffeIdPattern(trust_domain=SHOP, segments=()),)},
    ],
)
def test_what_cannot_be_enforced_is_refused_with_its_names(parts: dict[str, Any]) -> None:
    compile_rules(Rule(name="good", callers=(WEB,), ports=(80,), methods=("GET",), paths=("/a",)))
    with pytest.raises(PolicyError, match="rule bad of allowlist shop/a: "):
        compile_rules(Rule(**{"name": "bad", "callers": (WEB,), **parts}))


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(PolicyError, match="rule r of allowlist shop/a is there twice"):
        compile_rules(
            Rule(name="r", callers=(WEB,)), Rule(name="q", callers=(WEB,)), Rule(name="r", callers=(WEB,), ports=(1,))
        )


def test_a_rule_without_callers_permits_nobody() -> None:
    allowlist = Allowlist(namespace="shop", name="a", rules=(Rule(name="r", callers=()),))
    table = compile_policy(PolicySet(allowlists=(allowlist,)), trust_domain=SHOP, http_ports=[80])
    assert not table.caller(SpiffeId(SHOP, "/ns/shop/sa/web")).request(80, b"GET", b"/").permitted
