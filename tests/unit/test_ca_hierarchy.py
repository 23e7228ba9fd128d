"""The signing certificates: what they may sign, for whom, for how long."""

from __future__ import annotations

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.errors import DataFolderError, OutputRefused
from ca.hierarchy import build_intermediate, is_dns_name, read_hierarchy, same_key
from ca.keys import new_key
from ca.template import prepare_template
from ringfence.spiffe import SpiffeId, TrustDomain, VerificationError, check_leaf
from tests.authorities import SHOP, WEB, MadeHierarchy, make_hierarchy

NOW = time.time()
TEN_YEARS_SECONDS = 3652 * 86_400


@pytest.fixture(scope="module")
def made() -> MadeHierarchy:
    return make_hierarchy(NOW, dns_names=("svc.cluster.local",))


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def issue(made: MadeHierarchy, spiffe_id: SpiffeId, dns_names: tuple[str, ...] = ()) -> None:
    template = prepare_template(
        spiffe_id,
        new_key().public_key(),
        lifetime_seconds=600,
        backdate_seconds=60,
        now=NOW,
        issuer=made.issuer.span,
        serial=1 << 100,
        dns_names=dns_names,
    )
    made.issuer.validate(template, made.issuer.sign(template), NOW)


def test_the_root_lives_ten_years_and_the_intermediate_no_longer_than_it(made: MadeHierarchy) -> None:
    root, intermediate = made.hierarchy.root, made.hierarchy.intermediate
    assert root.not_valid_after_utc.timestamp() - NOW == pytest.approx(TEN_YEARS_SECONDS, abs=2)
    assert intermediate.not_valid_after_utc <= root.not_valid_after_utc


def test_an_intermediate_made_late_ends_with_its_root(made: MadeHierarchy) -> None:
    late = build_intermediate(
        new_key().public_key(),
        root=made.hierarchy.root,
        root_key=made.keys.root,
        trust_domain=SHOP,
        dns_names=(),
        now=NOW + TEN_YEARS_SECONDS - 86_400,
        serial=5,
    )
    assert late.not_valid_after_utc == made.hierarchy.root.not_valid_after_utc


def test_signers_are_signers_only(made: MadeHierarchy) -> None:
    for certificate, path_length in ((made.hierarchy.root, 1), (made.hierarchy.intermediate, 0)):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert constraints.critical
        assert constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
        assert usage.critical
        assert usage.value.key_cert_sign
        assert not usage.value.digital_signature
        with pytest.raises(VerificationError):
            check_leaf(certificate)


def test_the_constraint_is_the_bare_host_and_critical(made: MadeHierarchy) -> None:
    constraint = made.hierarchy.intermediate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraint.critical
    assert constraint.value.permitted_subtrees == [
        x509.UniformResourceIdentifier("shop.example"),
        x509.DNSName("shop.example"),
        x509.DNSName("svc.cluster.local"),
    ]
    assert made.hierarchy.dns_constraints == ("shop.example", "svc.cluster.local")


def test_a_workload_of_the_trust_domain_verifies(made: MadeHierarchy) -> None:
    issue(made, WEB, ("web.shop.example", "web.shop.svc.cluster.local"))


@pytest.mark.parametrize(
    ("spiffe_id", "dns_names"),
    [
        ("spiffe://partner.example/ns/shop/sa/web", ()),
        ("spiffe://sub.shop.example/ns/shop/sa/web", ()),
        ("spiffe://shop.example/ns/shop/sa/web", ("web.partner.example",)),
        ("spiffe://shop.example/ns/shop/sa/web", ("notshop.example",)),
    ],
)
def test_what_lies_beyond_the_constraints_fails_verification(
    made: MadeHierarchy, spiffe_id: str, dns_names: tuple[str, ...]
) -> None:
    with pytest.raises(OutputRefused):
        issue(made, SpiffeId.parse(spiffe_id), dns_names)


def test_a_hierarchy_is_read_back(made: MadeHierarchy) -> None:
    read = read_hierarchy(pem(made.hierarchy.root), pem(made.hierarchy.intermediate))
    assert read == made.hierarchy
    assert same_key(made.keys.issuing, read.intermediate)
    assert not same_key(made.keys.root, read.intermediate)


def test_certificates_of_two_authorities_are_refused(made: MadeHierarchy) -> None:
    twin = make_hierarchy(NOW)
    with pytest.raises(DataFolderError):
        read_hierarchy(pem(made.hierarchy.root), pem(twin.hierarchy.intermediate))


def test_certificates_of_two_trust_domains_are_refused(made: MadeHierarchy) -> None:
    other = make_hierarchy(NOW, TrustDomain("partner.example"))
    with pytest.raises(DataFolderError, match="different trust domains"):
        read_hierarchy(pem(made.hierarchy.root), pem(other.hierarchy.intermediate))


def test_rubbish_is_refused(made: MadeHierarchy) -> None:
    with pytest.raises(DataFolderError, match="malformed"):
        read_hierarchy(b"rubbish", pem(made.hierarchy.intermediate))


def test_two_roots_of_one_trust_domain_have_different_names(made: MadeHierarchy) -> None:
    assert make_hierarchy(NOW).hierarchy.root.subject != made.hierarchy.root.subject


@pytest.mark.parametrize("name", ["shop.example", "a", "svc.cluster.local", "x-1.y", "a" * 63 + ".b"])
def test_dns_names_that_may_be_constrained(name: str) -> None:
    assert is_dns_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        ".shop.example",
        "shop.example.",
        "*.shop.example",
        "Shop.example",
        "a..b",
        "-a.b",
        "a-.b",
        "a_b",
        "a b",
        "ä.example",
        "a" * 64,
        "a." * 130 + "a",
        "shop.example\n",
    ],
)
def test_dns_names_that_may_not(name: str) -> None:
    assert not is_dns_name(name)
