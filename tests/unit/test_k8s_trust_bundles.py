"""The objects that hold the mesh's roots: the same roots are the same text."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from k8s.trust.bundles import (
    HeldBundle,
    bundle_text,
    cluster_bundle,
    config_map,
    read_cluster_bundle,
    read_config_map,
)
from ringfence.spiffe import TrustBundle, TrustDomain
from tests.pki import TestCa

SHOP = TrustDomain("shop.example")
ROOTS = tuple(TestCa(SHOP).root.der for _ in range(3))


def test_the_order_of_roots_and_how_often_they_come_changes_nothing() -> None:
    texts = {bundle_text(TrustBundle(SHOP, roots)) for roots in (ROOTS, ROOTS[::-1], (*ROOTS, ROOTS[0]))}
    (text,) = texts
    read = x509.load_pem_x509_certificates(text.encode())
    assert {one.public_bytes(Encoding.DER) for one in read} == set(ROOTS)
    assert len(read) == 3
    assert TrustBundle.from_pem(SHOP, text).roots != ()


def test_a_bundle_without_roots_is_never_told() -> None:
    with pytest.raises(ValueError, match="no roots now"):
        bundle_text(TrustBundle(SHOP, ()))


def test_what_is_written_is_read_back() -> None:
    assert read_config_map(config_map("pem")) == HeldBundle(pem="pem")
    assert read_cluster_bundle(cluster_bundle("pem")) == HeldBundle(pem="pem")
    assert cluster_bundle("pem")["metadata"]["name"] == "ringfence.io:svid:bundle"
    assert cluster_bundle("pem")["spec"]["signerName"] == "ringfence.io/svid"


@pytest.mark.parametrize(
    ("document", "held"),
    [
        ({"metadata": {"name": "other"}, "data": {"bundle.pem": "pem"}}, None),
        ({}, None),
        ({"metadata": {"name": "ringfence-trust"}}, HeldBundle(pem="")),
        ({"metadata": {"name": "ringfence-trust"}, "data": {"ca.crt": "pem"}}, HeldBundle(pem="")),
        ({"metadata": {"name": "ringfence-trust"}, "data": None, "immutable": True}, HeldBundle(pem="", fixed=True)),
    ],
)
def test_other_config_maps_are_not_ours_and_ours_may_say_anything(document: dict[str, Any], held: object) -> None:
    assert read_config_map(document) == held
