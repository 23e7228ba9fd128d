"""Signing, and the validation of what was signed."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.errors import OutputRefused
from ca.issue import Issuer
from ca.keys import new_key
from ca.template import LeafTemplate, prepare_template
from ringfence.spiffe import ChainVerifier, TrustBundle, check_leaf
from tests.authorities import ORDERS, SHOP, WEB, make_hierarchy

NOW = time.time()
MADE = make_hierarchy(NOW)
ISSUER = MADE.issuer


def template(**changes: object) -> LeafTemplate:
    made = prepare_template(
        WEB,
        new_key().public_key(),
        lifetime_seconds=600,
        backdate_seconds=60,
        now=NOW,
        issuer=ISSUER.span,
        serial=0x1234,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_leaf_says_what_its_template_says_and_nothing_more() -> None:
    wanted = template(dns_names=("web.shop.example",))
    leaf = x509.load_der_x509_certificate(ISSUER.sign(wanted))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical  # as the subject is empty
    assert list(names.value) == [x509.UniformResourceIdentifier(str(WEB)), x509.DNSName("web.shop.example")]
    assert leaf.subject == x509.Name([])
    assert leaf.public_key() == wanted.public_key
    assert leaf.serial_number == 0x1234
    assert leaf.not_valid_before_utc.timestamp() == wanted.not_before
    assert leaf.not_valid_after_utc.timestamp() == wanted.not_after
    assert {extension.oid._name for extension in leaf.extensions} == {
        "subjectAltName",
        "keyUsage",
        "extendedKeyUsage",
        "basicConstraints",
        "authorityKeyIdentifier",
        "subjectKeyIdentifier",
    }


def test_a_leaf_keeps_the_rules_of_x509_svid() -> None:
    leaf = x509.load_der_x509_certificate(ISSUER.sign(template()))
    assert check_leaf(leaf) == WEB
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_what_was_signed_passes_and_is_handed_on_with_its_issuer(curve: ec.EllipticCurve) -> None:
    wanted = template(public_key=ec.generate_private_key(curve).public_key())
    svid = ISSUER.validate(wanted, ISSUER.sign(wanted), NOW)
    assert svid.chain[1] == MADE.hierarchy.intermediate_der
    assert (svid.spiffe_id, svid.serial, svid.not_after) == (WEB, "1234", wanted.not_after)
    bundle = TrustBundle(SHOP, (MADE.hierarchy.root_der,))
    assert ChainVerifier([bundle]).verify(svid.chain, NOW, [WEB]).spiffe_id == WEB


def test_a_signature_by_another_key_is_found_out() -> None:
    broken = Issuer.of(MADE.hierarchy, new_key())
    wanted = template()
    with pytest.raises(OutputRefused, match="fails verification"):
        broken.validate(wanted, broken.sign(wanted), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"spiffe_id": ORDERS},
        {"public_key": new_key().public_key()},
        {"serial": 0x1235},
        {"not_after": int(NOW) + 601},
    ],
    ids=["identity", "key", "serial", "end"],
)
def test_a_leaf_that_differs_from_its_template_is_found_out(changes: dict[str, object]) -> None:
    wanted = template()
    other = ISSUER.sign(replace(wanted, **changes))  # type: ignore[arg-type]
    with pytest.raises(OutputRefused):
        ISSUER.validate(wanted, other, NOW)


def test_a_leaf_that_is_not_valid_now_is_found_out() -> None:
    wanted = template(not_before=int(NOW) + 100, not_after=int(NOW) + 700)
    with pytest.raises(OutputRefused, match="not_yet_valid"):
        ISSUER.validate(wanted, ISSUER.sign(wanted), NOW)


def test_the_signing_key_is_not_shown() -> None:
    assert "key=" not in repr(ISSUER)
