"""The language of parent and workers: what is said is what is heard, and nothing else is heard."""

from __future__ import annotations

import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from sidecar.workers import identity
from sidecar.workers.messages import (
    BLOB_LIMIT_BYTES,
    Answer,
    AppRefused,
    Attached,
    Connections,
    Decoder,
    Drain,
    Flowed,
    Identity,
    Message,
    MessageError,
    Prepare,
    Start,
    TapOpened,
    encode,
)
from tests.issuing_backends import ORDERS, TRUST_DOMAIN
from tests.pki import TestCa

MESSAGES: list[Message] = [
    Attached(version="1.2"),
    Start(
        worker=2,
        spiffe_id=str(ORDERS),
        every_request=True,
        sample=1.0,
        spans_endpoint="",
        spans_sample=0.0,
        spans_headers_file="",
        log_level="info",
        log_lock=7,
        limits=8,
        drain_seconds=10,
        pod_addresses=("10.0.0.7", "fd00::7"),
        resolvers=(),
    ),
    Prepare(serial=3, received=1.5, blob=b"\0\xff snapshot"),
    Drain(seconds=0.5),
    Connections(serial=4, limit=10),
    TapOpened(tap=1, denied=True, would_deny=False, shadow=True, caller="", service="shop/\N{SNOWMAN}"),
    Answer(serial=3, error="no: \n"),
    AppRefused(port=8080),
    Flowed(blob=b"\0\xff flows"),
]


@given(st.lists(st.sampled_from(MESSAGES)), st.integers(1, 40))
def test_messages_come_out_as_they_went_in_whatever_the_pieces(messages: list[Message], size: int) -> None:
    data = b"".join(map(encode, messages))
    decoder = Decoder()
    found = [one for at in range(0, len(data), size) for one in decoder.feed(data[at : at + size])]
    assert found == messages


def _frame(text: bytes, blob: bytes = b"", *, version: int = 1, kind: int = 1) -> bytes:
    return struct.pack(">BBII", version, kind, len(text), len(blob)) + text + blob


@pytest.mark.parametrize(
    "data",
    [
        _frame(b'{"version":"1"}', version=2),
        _frame(b'{"version":"1"}', kind=0),
        _frame(b'{"version":"1"}', kind=200),
        _frame(b"nonsense"),
        _frame(b"[]"),
        _frame(b"{}"),
        _frame(b'{"version":1}'),
        _frame(b'{"version":"1","more":1}'),
        _frame(b'{"version":"1"}', b"blob"),
        _frame(b'{"seconds":true}', kind=7),
        struct.pack(">BBII", 1, 4, 10, BLOB_LIMIT_BYTES + 1),
        struct.pack(">BBII", 1, 4, (1 << 20) + 1, 0),
    ],
)
def test_what_is_no_message_is_refused_as_soon_as_that_shows(data: bytes) -> None:
    with pytest.raises(MessageError):
        Decoder().feed(data)


def test_nothing_is_sent_that_would_be_refused() -> None:
    with pytest.raises(MessageError):
        encode(Attached(version="x" * (1 << 20)))


def test_an_identity_crosses_whole_and_its_key_is_never_shown() -> None:
    ca = TestCa(TRUST_DOMAIN)
    svid, bundles = ca.svid(ORDERS), (ca.bundle(),)
    message = identity.told(svid, bundles)
    [heard] = Decoder().feed(encode(message))
    assert isinstance(heard, Identity)
    there, there_bundles = identity.read(heard)
    assert (there.chain, there.serial, there.spiffe_id) == (svid.chain, svid.serial, ORDERS)
    assert there.private_key.private_numbers() == svid.private_key.private_numbers()
    assert there_bundles == bundles
    assert "blob" not in repr(message)


def _pkcs8(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def test_an_identity_that_is_none_is_refused() -> None:
    ca = TestCa(TRUST_DOMAIN)
    good = identity.told(ca.svid(ORDERS), (ca.bundle(),))
    other, foreign = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    parts = {name: getattr(good, name) for name in ("chain", "trust_domains", "roots", "roots_of", "blob")}
    for change in (
        {"blob": _pkcs8(other)},
        {"blob": _pkcs8(foreign)},
        {"blob": b"no key"},
        {"chain": ()},
        {"chain": ("***",)},
        {"roots": ("AAAA",)},
        {"roots_of": ()},
        {"trust_domains": ("Not One",)},
    ):
        with pytest.raises(MessageError):
            identity.read(Identity(**{**parts, **change}))
