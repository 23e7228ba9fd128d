"""Verification outside of a handshake: what a verified peer tells, and rules that need no rogue handshake.

The zoo of rogues is in tests/adversarial/test_rogue_certificates.py, which goes through the same verifier.
"""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509

from ringfence.spiffe import (
    BundleError,
    ChainVerifier,
    SpiffeId,
    TrustBundle,
    TrustDomain,
    VerificationError,
    VerifiedPeer,
    VerifyReason,
)
from tests.pki import Issuer, TestCa

NOW = 1_800_000_000.0
SHOP = TestCa("shop.example", now=NOW)
PARTNER = TestCa("partner.example", now=NOW)
WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")


def reason_of(verifier: ChainVerifier, chain: object, now: float = NOW, **more: object) -> VerifyReason:
    with pytest.raises(VerificationError) as caught:
        verifier.verify(chain, now, **more)  # type: ignore[arg-type]
    return caught.value.reason


def test_verified_peer_tells_who_and_until_when() -> None:
    svid = SHOP.svid(WEB, lifetime=600)
    peer = ChainVerifier([SHOP.bundle()]).verify(svid.chain, NOW, [WEB])
    assert peer == VerifiedPeer(
        spiffe_id=WEB,
        not_after=NOW + 600,
        serial=svid.serial,
        leaf_sha256=hashlib.sha256(svid.chain[0]).hexdigest(),
        leaf_der=svid.chain[0],
        chain_der=svid.chain,
    )


def test_peer_is_believed_no_longer_than_its_issuer() -> None:
    short = SHOP.intermediate(SHOP.root, lifetime=300)
    peer = ChainVerifier([SHOP.bundle()]).verify(SHOP.svid(WEB, lifetime=600, issuer=short).chain, NOW)
    assert peer.not_after == NOW + 300


def test_each_trust_domain_has_its_own_roots_and_no_others() -> None:
    verifier = ChainVerifier([SHOP.bundle(), PARTNER.bundle()])
    assert verifier.verify(SHOP.svid(WEB).chain, NOW).spiffe_id == WEB
    theirs = "spiffe://partner.example/ns/shop/sa/web"
    assert str(verifier.verify(PARTNER.svid(theirs).chain, NOW).spiffe_id) == theirs
    crossed = PARTNER.svid(WEB, issuer=PARTNER.root)
    assert reason_of(verifier, crossed.chain) is VerifyReason.UNTRUSTED


def test_bundle_without_roots_trusts_nobody() -> None:
    verifier = ChainVerifier([TrustBundle(WEB.trust_domain, ())])
    assert reason_of(verifier, SHOP.svid(WEB).chain) is VerifyReason.UNTRUSTED


def test_verifier_without_bundles_knows_no_trust_domain() -> None:
    assert reason_of(ChainVerifier([]), SHOP.svid(WEB).chain) is VerifyReason.UNKNOWN_TRUST_DOMAIN


def test_either_root_of_a_bundle_vouches() -> None:
    other = TestCa("shop.example", now=NOW)
    both = ChainVerifier([TrustBundle(WEB.trust_domain, (SHOP.root.der, other.root.der))])
    for ca in (SHOP, other):
        assert both.verify(ca.svid(WEB).chain, NOW).spiffe_id == WEB


def test_anchor_need_not_have_signed_itself() -> None:
    verifier = ChainVerifier([TrustBundle(WEB.trust_domain, (SHOP.issuing.der,))])
    assert verifier.verify(SHOP.svid(WEB).chain, NOW).spiffe_id == WEB
    assert reason_of(verifier, SHOP.svid(WEB, issuer=SHOP.intermediate(SHOP.root)).chain) is VerifyReason.UNTRUSTED


def test_leaf_published_as_an_anchor_does_not_vouch_for_itself() -> None:
    svid = SHOP.svid(WEB)
    verifier = ChainVerifier([TrustBundle(WEB.trust_domain, (svid.chain[0],))])
    assert reason_of(verifier, svid.chain) is VerifyReason.UNTRUSTED


def test_two_bundles_for_one_trust_domain_are_refused() -> None:
    with pytest.raises(BundleError, match=r"two bundles for trust domain shop\.example"):
        ChainVerifier([SHOP.bundle(), TestCa(TrustDomain("shop.example"), now=NOW).bundle()])


def test_chain_that_is_empty_or_garbage_is_refused() -> None:
    verifier = ChainVerifier([SHOP.bundle()])
    good = SHOP.svid(WEB).chain
    assert reason_of(verifier, []) is VerifyReason.NO_CERTIFICATE
    assert reason_of(verifier, [b"garbage"]) is VerifyReason.MALFORMED
    assert reason_of(verifier, [good[0], b"garbage"]) is VerifyReason.MALFORMED
    assert reason_of(verifier, [good[0] + b"\x00", *good[1:]]) is VerifyReason.MALFORMED
    assert reason_of(verifier, [*good, *good, *good]) is VerifyReason.TOO_LONG_CHAIN


def test_times_are_inclusive_to_the_fraction() -> None:
    verifier = ChainVerifier([SHOP.bundle()])
    chain = SHOP.svid(WEB, lifetime=600, not_before=0).chain
    assert reason_of(verifier, chain, NOW - 0.001) is VerifyReason.NOT_YET_VALID
    assert verifier.verify(chain, NOW).spiffe_id == WEB
    assert verifier.verify(chain, NOW + 600).spiffe_id == WEB
    assert reason_of(verifier, chain, NOW + 600.001) is VerifyReason.EXPIRED


def test_one_call_s_time_does_not_reach_into_another() -> None:
    verifier = ChainVerifier([SHOP.bundle()])
    chain = SHOP.svid(WEB).chain
    assert reason_of(verifier, chain, NOW + 7200) is VerifyReason.EXPIRED
    assert verifier.verify(chain, NOW).spiffe_id == WEB


def test_expected_identities_are_asked_for_last() -> None:
    verifier = ChainVerifier([SHOP.bundle()])
    other = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")
    chain = SHOP.svid(WEB).chain
    assert verifier.verify(chain, NOW, {other, WEB}).spiffe_id == WEB
    assert reason_of(verifier, chain, expected={other}) is VerifyReason.UNEXPECTED_PEER
    assert reason_of(verifier, chain, expected=()) is VerifyReason.UNEXPECTED_PEER
    assert reason_of(verifier, chain, NOW + 7200, expected={other}) is VerifyReason.EXPIRED


def test_remembered_issuer_does_not_vouch_for_what_it_did_not_sign() -> None:
    verifier = ChainVerifier([SHOP.bundle()])
    good = SHOP.svid(WEB)
    verifier.verify(good.chain, NOW)
    forged = TestCa("shop.example", now=NOW).svid(WEB, chain=good.chain[1:])
    assert reason_of(verifier, forged.chain) is VerifyReason.UNTRUSTED


def remembering(ca: TestCa, issuer: Issuer | None = None) -> ChainVerifier:
    """A verifier that has seen a good leaf below that issuer."""
    verifier = ChainVerifier([ca.bundle()])
    assert verifier.verify(ca.svid(WEB, issuer=issuer).chain, NOW).spiffe_id == WEB
    return verifier


def test_leaf_below_remembered_issuers_is_told_as_by_a_verifier_that_never_saw_them() -> None:
    chain = SHOP.svid(WEB, lifetime=600).chain
    assert remembering(SHOP).verify(chain, NOW, [WEB]) == ChainVerifier([SHOP.bundle()]).verify(chain, NOW, [WEB])
    short = SHOP.intermediate(SHOP.root, lifetime=300)
    below = SHOP.svid(WEB, lifetime=600, issuer=short).chain
    assert remembering(SHOP, short).verify(below, NOW).not_after == NOW + 300


def test_remembered_issuer_still_has_its_names_constrained() -> None:
    verifier = remembering(SHOP)
    foreign = SHOP.svid(WEB, uris=["spiffe://shop.example.evil/ns/shop/sa/web"])
    assert reason_of(verifier, foreign.chain) is VerifyReason.UNKNOWN_TRUST_DOMAIN
    constrained = SHOP.intermediate(SHOP.root, permitted_host="elsewhere.example")
    assert reason_of(verifier, SHOP.svid(WEB, issuer=constrained).chain) is VerifyReason.UNTRUSTED
    host_named = SHOP.intermediate(SHOP.root, permitted_names=[x509.DNSName("shop.example")])
    verifier = remembering(SHOP, host_named)
    beyond = SHOP.svid(WEB, issuer=host_named, dns=["bank.example"])
    assert verifier.verify(SHOP.svid(WEB, issuer=host_named, dns=["web.shop.example"]).chain, NOW).spiffe_id == WEB
    assert reason_of(verifier, beyond.chain) is VerifyReason.UNTRUSTED


def test_names_constrained_further_up_are_constrained_for_every_leaf() -> None:
    upper = SHOP.intermediate(SHOP.root, permitted_names=[x509.DNSName("shop.example")])
    lower = SHOP.intermediate(upper)
    verifier = remembering(SHOP, lower)
    beyond = SHOP.svid(WEB, issuer=lower, dns=["bank.example"])
    assert reason_of(verifier, beyond.chain) is VerifyReason.UNTRUSTED


def test_what_is_remembered_ends_when_any_of_it_ends() -> None:
    long = SHOP.intermediate(SHOP.root, lifetime=20 * 365 * 86400.0)
    verifier = remembering(SHOP, long)
    outliving_the_root = SHOP.svid(WEB, lifetime=15 * 365 * 86400.0, issuer=long).chain
    assert verifier.verify(outliving_the_root, NOW).not_after == NOW + 10 * 365 * 86400
    assert reason_of(verifier, outliving_the_root, NOW + 10 * 365 * 86400 + 1) is VerifyReason.EXPIRED
    assert reason_of(verifier, SHOP.svid(WEB, not_before=-90_000, issuer=long).chain, NOW - 86_401) in (
        VerifyReason.NOT_YET_VALID,
        VerifyReason.UNTRUSTED,
    )
    short = SHOP.intermediate(SHOP.root, lifetime=300)
    below = SHOP.svid(WEB, issuer=short).chain
    assert reason_of(remembering(SHOP, short), below, NOW + 301) is VerifyReason.EXPIRED


def test_issuers_of_one_trust_domain_are_not_remembered_for_another() -> None:
    verifier = ChainVerifier([SHOP.bundle(), PARTNER.bundle()])
    verifier.verify(PARTNER.svid("spiffe://partner.example/ns/shop/sa/web").chain, NOW)
    unconstrained = PARTNER.intermediate(PARTNER.root)
    verifier.verify(PARTNER.svid("spiffe://partner.example/ns/shop/sa/web", issuer=unconstrained).chain, NOW)
    assert reason_of(verifier, PARTNER.svid(WEB, issuer=unconstrained).chain) is VerifyReason.UNTRUSTED
