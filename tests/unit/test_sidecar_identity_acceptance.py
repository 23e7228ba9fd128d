"""What a sidecar believes of what the CA sends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.identity.acceptance import accept, is_worth_telling, skew_words
from sidecar.identity.client import Issued
from sidecar.identity.errors import IdentityRefused, UnsoundIdentity, WrongIdentity
from tests.issuing_backends import ORDERS, TRUST_DOMAIN, WEB
from tests.pki import TestCa, new_key

NOW = 1_800_000_000.0


@pytest.fixture
def ca() -> TestCa:
    return TestCa(TRUST_DOMAIN, now=NOW)


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return new_key()


@pytest.fixture
def issued(ca: TestCa, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        spiffe_id=str(ORDERS),
        chain=ca.svid(ORDERS, key=key).chain,
        roots=ca.bundle().roots,
        ca_time=NOW,
        local_time=NOW,
        trusted=ca.bundle(),
    )


def test_a_sound_identity_is_taken(issued: Issued, key: ec.EllipticCurvePrivateKey, ca: TestCa) -> None:
    accepted = accept(issued, key, ORDERS)
    assert accepted.svid.spiffe_id == ORDERS
    assert accepted.bundle == ca.bundle()
    assert accepted.left_seconds == 3600.0
    assert accepted.skew_seconds == 0.0


def test_the_identity_of_another_workload_is_refused(issued: Issued, key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(WrongIdentity, match=f"{ORDERS}, but this sidecar is set to be {WEB}") as refusal:
        accept(issued, key, WEB)
    assert isinstance(refusal.value, IdentityRefused)


def test_a_certificate_that_belies_the_answer_is_refused(issued: Issued, key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(WrongIdentity):
        accept(replace(issued, spiffe_id=str(WEB)), key, ORDERS)


def test_a_certificate_for_another_key_is_refused(issued: Issued) -> None:
    with pytest.raises(UnsoundIdentity, match="another key"):
        accept(issued, new_key(), ORDERS)


def test_a_chain_of_another_ca_is_refused(issued: Issued, key: ec.EllipticCurvePrivateKey) -> None:
    foreign = TestCa(TRUST_DOMAIN, now=NOW).svid(ORDERS, key=key).chain
    with pytest.raises(UnsoundIdentity):
        accept(replace(issued, chain=foreign), key, ORDERS)


def test_a_chain_that_only_its_own_bundle_vouches_for_is_refused(
    issued: Issued, key: ec.EllipticCurvePrivateKey
) -> None:
    other = TestCa(TRUST_DOMAIN, now=NOW)
    swapped = replace(issued, chain=other.svid(ORDERS, key=key).chain, roots=other.bundle().roots)
    with pytest.raises(UnsoundIdentity):
        accept(swapped, key, ORDERS)


def test_a_ca_certificate_is_no_identity(issued: Issued, key: ec.EllipticCurvePrivateKey, ca: TestCa) -> None:
    with pytest.raises(UnsoundIdentity, match="CA certificate"):
        accept(replace(issued, chain=ca.svid(ORDERS, key=key, ca=True).chain), key, ORDERS)


def test_two_uri_names_are_no_identity(issued: Issued, key: ec.EllipticCurvePrivateKey, ca: TestCa) -> None:
    rogue = ca.svid(ORDERS, key=key, uris=[str(ORDERS), str(WEB)]).chain
    with pytest.raises(UnsoundIdentity, match="2 URI names"):
        accept(replace(issued, chain=rogue), key, ORDERS)


def test_garbage_is_refused(issued: Issued, key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(UnsoundIdentity):
        accept(replace(issued, chain=(b"garbage",)), key, ORDERS)
    with pytest.raises(UnsoundIdentity):
        accept(replace(issued, roots=(b"garbage",)), key, ORDERS)
    with pytest.raises(UnsoundIdentity):
        accept(replace(issued, ca_time=float("nan")), key, ORDERS)


def test_an_identity_that_ended_by_the_cas_clock_is_refused(issued: Issued, key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(UnsoundIdentity, match="expired"):
        accept(replace(issued, ca_time=NOW + 3601.0, local_time=NOW + 3601.0), key, ORDERS)


def test_a_clock_that_is_behind_does_not_cost_the_identity(issued: Issued, key: ec.EllipticCurvePrivateKey) -> None:
    accepted = accept(replace(issued, local_time=NOW - 93.0), key, ORDERS)
    assert accepted.left_seconds == 3600.0
    assert skew_words(accepted.skew_seconds) == "your clock is 93 s behind the CA's"


def test_a_clock_far_ahead_is_told_as_such(issued: Issued, key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(UnsoundIdentity, match="your clock is 7200 s ahead of the CA's"):
        accept(replace(issued, local_time=NOW + 7200.0), key, ORDERS)


def test_a_small_difference_of_clocks_is_not_worth_a_line() -> None:
    assert not is_worth_telling(1.5)
    assert is_worth_telling(-30.0)
