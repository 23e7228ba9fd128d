"""Examples of changes that hang on conditions: a real call where the words of the condition lead to one."""

from __future__ import annotations

import pytest

from ringfence.policy.analysis.calls import Judge
from ringfence.policy.analysis.changes import Change, Comparing, compare
from ringfence.policy.analysis.world import World, WorldPort, WorldService
from ringfence.policy.model import Allowlist, NamespaceCallers, PolicySet, Rule, TokenIssuer, TokenMatch
from ringfence.spiffe import SpiffeId, TrustDomain

SHOP = TrustDomain("shop.example")
NOW = 1_700_000_000.0  # 2023-11-14, a Tuesday, 22:13 UTC
CORP = TokenIssuer(name="shop/corp", issuer="https://corp.test", audiences=("shop",))


def world(*rules: Rule, issuers: tuple[TokenIssuer, ...] = (CORP,)) -> World:
    policy = PolicySet(allowlists=(Allowlist(namespace="shop", name="a", rules=rules),))
    orders = WorldService(
        namespace="shop",
        name="orders",
        spiffe_id=SpiffeId.workload(SHOP, "shop", "orders"),
        ports=(WorldPort(port=8080, protocol="http"),),
        policy=policy,
        token_issuers=issuers,
    )
    return World(trust_domain=SHOP, services=(orders,))


def rule(when: str = "", *, token: TokenMatch | None = None) -> Rule:
    return Rule(name="r", callers=(NamespaceCallers(namespace="shop"),), methods=("GET",), token=token, when=when)


def changes(old: World, new: World) -> tuple[Change, ...]:
    return compare(old, new, Comparing(now=NOW)).changes


@pytest.mark.parametrize(
    "when",
    [
        "request.headers['x-team'] == 'blue'",
        "now.getHours() < 5",
        "now.getDayOfWeek() == 0",
        "request.path.startsWith('/admin')",
        "request.host == 'orders.shop.example'",
        "source.address == '10.0.0.7'",
        "request.headers['x-team'] == 'blue' && request.path == '/x'",
    ],
)
def test_a_call_is_found_that_makes_a_condition_true(when: str) -> None:
    old, new = world(), world(rule(when))
    (change,) = changes(old, new)

    assert change.certain
    call = change.cell.call
    assert (Judge(old).judge(call).permitted, Judge(new).judge(call).permitted) == (False, True)


def test_claims_are_tried_where_there_is_a_token() -> None:
    found = changes(world(), world(rule("token.claims.team == 'blue'", token=TokenMatch())))

    assert [(change.certain, change.cell.call.token is not None) for change in found] == [(True, True)]


def test_what_no_word_leads_to_is_told_as_uncertain() -> None:
    (change,) = changes(world(), world(rule("request.path.size() > 70 && size(request.headers['x-a']) == 3")))

    assert not change.certain
    assert [(one.text[:12], one.value) for one in change.cell.conditions] == [("request.path", True)]


def test_an_issuer_that_is_believed_by_one_policy_alone_changes_calls() -> None:
    more = TokenIssuer(name="shop/more", issuer="https://more.test", audiences=("shop",))
    with_token = rule(token=TokenMatch())
    (change,) = changes(world(with_token), world(with_token, issuers=(CORP, more)))

    assert str(change.became) == "permitted"
    assert getattr(change.cell.call.token, "issuer", None) == "shop/more"


def test_an_issuer_that_is_another_is_a_note() -> None:
    other = TokenIssuer(name="shop/corp", issuer="https://corp.test", audiences=("other",))
    found = compare(world(rule()), world(rule(), issuers=(other,)), Comparing(now=NOW))

    assert found.changes == ()
    assert found.notes == (
        "shop/orders: TokenIssuer shop/corp is another; which of its tokens are valid is not compared",
    )
