"""Host keys: what they sign, and that a signature serves for nothing else."""

from __future__ import annotations

from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.errors import RequestInvalid
from ca.host_proof import HostKey, attest_message, enrol_message, prove_message
from ca.keys import new_key
from tests.authorities import ALGORITHM, HostKeyPair

SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_the_messages_are_those_of_the_wire_contract() -> None:
    csr_hash = sha256(b"csr").digest()
    assert enrol_message("token", b"csr") == b"ringfence-enrol-v1\0" + sha256(b"token").digest() + csr_hash
    assert attest_message(b"nonce", b"csr") == b"ringfence-attest-v1\0" + b"nonce" + csr_hash
    proven = sha256(b"kubernetes").digest() + sha256(b"token").digest()
    assert prove_message("kubernetes", b"token", b"csr") == b"ringfence-prove-v1\0" + proven + csr_hash


def test_a_key_knows_its_own_signatures_only() -> None:
    pair, other = HostKeyPair(), HostKeyPair()
    key = HostKey.parse(pair.spki)
    message = attest_message(b"n" * 56, b"csr")
    assert key.signed(pair.key.sign(message, ALGORITHM), message)
    assert not key.signed(other.key.sign(message, ALGORITHM), message)
    assert not key.signed(pair.key.sign(attest_message(b"m" * 56, b"csr"), ALGORITHM), message)
    assert not key.signed(pair.key.sign(enrol_message("n" * 56, b"csr"), ALGORITHM), message)


@pytest.mark.parametrize("signature", [b"", b"\x30\x00", b"rubbish", b"\x30" * 129])
def test_malformed_signatures_are_no_signatures(signature: bytes) -> None:
    assert not HostKey.parse(HostKeyPair().spki).signed(signature, b"message")


def test_the_id_is_the_hash_of_the_key() -> None:
    pair = HostKeyPair()
    assert HostKey.parse(pair.spki).key_id == sha256(pair.spki).hexdigest()


def test_another_encoding_of_the_same_key_is_refused() -> None:
    key = new_key().public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    # AlgorithmIdentifier {ecPublicKey, prime256v1}, then the compressed point as a bit string.
    algorithm = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
    spki = b"\x30" + bytes([len(algorithm) + 3 + len(point)]) + algorithm + b"\x03" + bytes([len(point) + 1, 0]) + point
    with pytest.raises(RequestInvalid, match=r"canonical|SubjectPublicKeyInfo"):
        HostKey.parse(spki)


@pytest.mark.parametrize(
    "spki",
    [
        b"rubbish",
        b"\x30" * 300,
        ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(*SPKI),
        ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*SPKI),
        HostKeyPair().spki + b"\0",
    ],
    ids=["rubbish", "huge", "p384", "ed25519", "trailing"],
)
def test_other_keys_are_refused(spki: bytes) -> None:
    with pytest.raises(RequestInvalid, match="host key"):
        HostKey.parse(spki)
