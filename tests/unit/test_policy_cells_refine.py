"""The walk over the dimensions: what it costs, and what it refuses."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from ringfence.policy.analysis.cells import refine
from ringfence.policy.analysis.cells.dimensions import Side
from ringfence.policy.analysis.cells.refine import Looking, ModelError, cells
from ringfence.policy.analysis.cells.segments import CellsError
from ringfence.policy.analysis.world import WorldPort, WorldService
from ringfence.policy.decision import Deny, Permit
from ringfence.policy.model import (
    Allowlist,
    HeaderMatch,
    NamespaceCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TokenMatch,
)
from ringfence.policy.reasons import DenyReason
from ringfence.spiffe import SpiffeId, TrustDomain

SHOP = TrustDomain("shop.example")
IN_SHOP = NamespaceCallers(namespace="shop")


def side(*rules: Rule) -> Side:
    policy = PolicySet(allowlists=(Allowlist(namespace="shop", name="a", rules=rules),))
    service = WorldService(
        namespace="shop",
        name="orders",
        spiffe_id=SpiffeId.workload(SHOP, "shop", "orders"),
        ports=(WorldPort(port=8080, protocol="http"), WorldPort(port=7000, protocol="tcp")),
        policy=policy,
    )
    return Side(trust_domain=SHOP, service=service, policy=policy)


def named(name: str) -> SpiffeIdPattern:
    return SpiffeIdPattern(trust_domain=SHOP, segments=("ns", "shop", "sa", name))


def test_cells_of_many_rules_are_about_as_many_and_not_the_product_of_their_words() -> None:
    """Three hundred rules, each for a caller, a path and methods of its own, and with a header: the product of these
    words would be above twenty million."""
    rules = [
        Rule(
            name=f"r{number}",
            callers=(named(f"c{number % 30}"),),
            methods=("GET",) if number % 2 else ("GET", "POST"),
            paths=(f"/part-{number}/{{id}}",),
            headers=(HeaderMatch(name=f"x-{number % 5}", values=("1", "2")),),
        )
        for number in range(300)
    ]
    count = sum(1 for _ in cells("shop/orders", [side(*rules)], Looking()))

    assert 300 < count < 3000


def test_too_many_cells_are_refused_by_the_name_of_the_service() -> None:
    rules = [Rule(name=f"r{at}", callers=(IN_SHOP,), headers=(HeaderMatch(name=f"x-{at}"),)) for at in range(30)]

    with pytest.raises(CellsError, match=r"policy of shop/orders cannot be looked at whole: .* more than 1000 classes"):
        list(cells("shop/orders", [side(*_until_the_last(rules))], Looking(limit_cells=1000)))


def _until_the_last(rules: list[Rule]) -> list[Rule]:
    """Each wants two headers, so that every set of headers is a class of its own."""
    pairs = itertools.pairwise(rules)
    return [replace(one, headers=(*one.headers, *other.headers)) for one, other in pairs]


def test_a_claim_that_another_word_speaks_of_too_is_refused() -> None:
    rules = (
        Rule(name="a", callers=(IN_SHOP,), token=TokenMatch(claims=(("acr", ("high",)),))),
        Rule(name="b", callers=(IN_SHOP,), token=TokenMatch(acr=("high",))),
    )
    with pytest.raises(CellsError, match="rules speak of the claim acr under claims, and otherwise"):
        list(cells("shop/orders", [side(*rules)], Looking()))


def test_a_verdict_that_the_model_does_not_predict_is_an_error_and_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def otherwise(*_: object) -> Permit:
        return Permit("shop/a", "r")

    monkeypatch.setattr("ringfence.policy.analysis.cells.verdicts.decide", otherwise)
    with pytest.raises(ModelError, match="which the model does not"):
        list(cells("shop/orders", [side(Rule(name="r", callers=(IN_SHOP,), methods=("GET",)))], Looking()))


def test_a_service_that_a_side_lacks_or_that_has_no_sidecar_permits_nothing() -> None:
    whole = side(Rule(name="r", callers=(IN_SHOP,)))
    assert whole.service is not None
    bare = replace(whole, service=replace(whole.service, has_sidecar=False))
    none = Side(trust_domain=SHOP, service=None, policy=PolicySet())
    found = list(cells("shop/orders", [whole, bare, none], Looking()))

    assert any(cell.decisions[0].permitted for cell in found)
    assert {decision for cell in found for decision in cell.decisions[1:]} == {Deny(DenyReason.NOT_OWN_ADDRESS)}
    assert refine.LIMIT_CELLS == 200_000
