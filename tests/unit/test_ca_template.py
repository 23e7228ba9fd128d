"""The template: who may have an identity, for how long, and that the issuer outlives it."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.errors import IdentityRefused, IssuerExpired, LifetimeRefused
from ca.keys import new_key
from ca.settings import LifetimeRules
from ca.template import (
    IssuerSpan,
    LeafTemplate,
    check_workload_id,
    granted_lifetime,
    new_serial,
    prepare_template,
)
from ringfence.spiffe import SpiffeId
from tests.authorities import SHOP, WEB

RULES = LifetimeRules(default_seconds=3600, floor_seconds=300, ceiling_seconds=86_400)
KEY = new_key().public_key()
SPAN = IssuerSpan(not_before=1000, not_after=100_000)


def prepared(now: float, lifetime_seconds: int = 600, backdate_seconds: int = 60) -> LeafTemplate:
    return prepare_template(
        WEB,
        KEY,
        lifetime_seconds=lifetime_seconds,
        backdate_seconds=backdate_seconds,
        now=now,
        issuer=SPAN,
        serial=7,
    )


@pytest.mark.parametrize(("asked", "granted"), [(0, 3600), (300, 300), (301, 301), (86_400, 86_400), (86_401, 86_400)])
def test_lifetimes_between_floor_and_ceiling_are_granted(asked: int, granted: int) -> None:
    assert granted_lifetime(asked, RULES) == granted


@pytest.mark.parametrize("asked", [1, 299])
def test_less_than_the_floor_is_refused_with_the_floor(asked: int) -> None:
    with pytest.raises(LifetimeRefused, match=rf"{asked} s .*at least 300 s"):
        granted_lifetime(asked, RULES)


def test_a_leaf_begins_a_minute_back_and_ends_with_its_lifetime() -> None:
    template = prepared(50_000.9)
    assert (template.not_before, template.not_after) == (49_940, 50_600)


def test_a_leaf_ends_with_its_issuer_at_the_latest_and_begins_no_earlier() -> None:
    assert prepared(99_900.0).not_after == 100_000
    assert prepared(1010.0).not_before == 1000


@given(now=st.floats(1000, 99_998), lifetime=st.integers(1, 10**7), backdate=st.integers(0, 3600))
def test_no_leaf_reaches_beyond_its_issuer_or_misses_now(now: float, lifetime: int, backdate: int) -> None:
    template = prepared(now, lifetime, backdate)
    assert SPAN.not_before <= template.not_before <= now < template.not_after <= SPAN.not_after


@pytest.mark.parametrize("now", [0.0, 999.9, 99_999.0, 100_000.0, 10.0**9])
def test_outside_its_own_time_the_issuer_signs_nothing(now: float) -> None:
    with pytest.raises(IssuerExpired):
        prepared(now)


def test_serials_are_positive_sixteen_bytes_and_all_different() -> None:
    serials = {new_serial(secrets.token_bytes) for _ in range(200)}
    assert len(serials) == 200
    assert all(serial.bit_length() == 127 for serial in serials)
    assert new_serial(lambda size: bytes(size)).bit_length() == 127
    assert new_serial(lambda size: b"\xff" * size).bit_length() == 127


def test_workloads_of_the_trust_domain_may_have_an_identity() -> None:
    check_workload_id(WEB, SHOP)


@pytest.mark.parametrize(
    ("spiffe_id", "why"),
    [
        ("spiffe://partner.example/ns/shop/sa/web", "trust domain"),
        ("spiffe://shop.example.evil/ns/shop/sa/web", "trust domain"),
        ("spiffe://shop.example", "form"),
        ("spiffe://shop.example/ns/shop/sa/web/extra", "form"),
        ("spiffe://shop.example/ns/shop", "form"),
        ("spiffe://shop.example/web", "form"),
        ("spiffe://shop.example/ns/ringfence-system/sa/controlplane", "control plane"),
        ("spiffe://shop.example/ns/ringfence-system/sa/anything", "control plane"),
        ("spiffe://shop.example/ns/shop/sa/" + "w" * 500, "longer"),
    ],
)
def test_nobody_else_may(spiffe_id: str, why: str) -> None:
    with pytest.raises(IdentityRefused, match=why):
        check_workload_id(SpiffeId.parse(spiffe_id), SHOP)
