"""The leaf that is put together from prebuilt parts is, byte by byte, the one that a general builder makes."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from ca.leaf_der import LeafEncoder, certificate
from ca.template import LeafTemplate
from ringfence.spiffe import SpiffeId
from tests.authorities import make_hierarchy

ISSUER = make_hierarchy(time.time()).issuer
INTERMEDIATE = ISSUER.hierarchy.intermediate
KEY_ID = INTERMEDIATE.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
AUTHORITY = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(KEY_ID)
KEYS = [ec.generate_private_key(curve).public_key() for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())]
WORD = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
DNS = st.lists(WORD, min_size=1, max_size=3).map(".".join)
FIRST, LAST = (int(datetime(year, 12, 31, tzinfo=UTC).timestamp()) for year in (1969, 9998))


@st.composite
def templates(draw: st.DrawFn) -> LeafTemplate:
    not_before = draw(st.integers(FIRST, LAST) | st.integers(2_524_607_990, 2_524_608_010))  # around the end of 2049
    return LeafTemplate(
        spiffe_id=SpiffeId.parse(f"spiffe://{draw(DNS)}/ns/{draw(WORD)}/sa/{draw(WORD)}"),
        public_key=draw(st.sampled_from(KEYS)),
        serial=draw(st.integers(1, (1 << 159) - 1) | st.sampled_from([1, 0x7F, 0x80, 0xFF, 0x100, 1 << 126])),
        not_before=not_before,
        not_after=not_before + draw(st.integers(1, 86_400)),
        dns_names=tuple(draw(st.lists(DNS, max_size=8))),
    )


def built(template: LeafTemplate) -> x509.Certificate:
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    uri = x509.UniformResourceIdentifier(str(template.spiffe_id))
    names = [uri, *map(x509.DNSName, template.dns_names)]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        x509.CertificateBuilder()
        .issuer_name(INTERMEDIATE.subject)
        .subject_name(x509.Name([]))
        .public_key(template.public_key)
        .serial_number(template.serial)
        .not_valid_before(datetime.fromtimestamp(template.not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(template.not_after, UTC))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(AUTHORITY, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(template.public_key), critical=False)
        .sign(ISSUER.key, hashes.SHA256())
    )


@given(templates())
def test_leaf_is_the_one_that_a_builder_makes(template: LeafTemplate) -> None:
    wanted = built(template)
    to_be_signed = LeafEncoder(INTERMEDIATE.subject, AUTHORITY).to_be_signed(template)
    assert to_be_signed == wanted.tbs_certificate_bytes
    assert certificate(to_be_signed, wanted.signature) == wanted.public_bytes(Encoding.DER)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.curve.name)
def test_key_that_came_as_a_compressed_point_is_written_as_the_builder_writes_it(
    key: ec.EllipticCurvePublicKey,
) -> None:
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    came = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point)
    template = leaf(public_key=came)
    assert ISSUER.encoder.to_be_signed(template) == built(template).tbs_certificate_bytes


def test_key_read_from_compressed_der_is_written_as_the_builder_writes_it() -> None:
    point = KEYS[0].public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    came = load_der_public_key(head + point)
    assert isinstance(came, ec.EllipticCurvePublicKey)
    template = leaf(public_key=came)
    assert ISSUER.encoder.to_be_signed(template) == built(template).tbs_certificate_bytes


def leaf(**changes: object) -> LeafTemplate:
    fields: dict[str, object] = {
        "spiffe_id": SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web"),
        "public_key": KEYS[0],
        "serial": 1,
        "not_before": 1_800_000_000,
        "not_after": 1_800_003_600,
    }
    return LeafTemplate(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"serial": 0},
        {"serial": -1},
        {"serial": 1 << 159},
        {"dns_names": ("",)},
        {"dns_names": ("bücher.example",)},
        {"dns_names": ("a" * 70_000,)},
        {"not_before": -631_152_001},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_no_certificate_can_say_is_refused(changes: dict[str, object]) -> None:
    ISSUER.encoder.to_be_signed(leaf())
    with pytest.raises(ValueError):
        ISSUER.encoder.to_be_signed(leaf(**changes))
