"""The host key: what it signs, and how its file is kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_public_key

from sidecar.identity.host_key import CURRENT, PENDING, HostKey, HostKeyStore
from sidecar.state_folder import StateError, StateFolder
from tests.pki import new_key


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


@pytest.fixture
def store(folder: StateFolder) -> HostKeyStore:
    made = HostKeyStore(folder)
    assert made.candidates() == []
    return made


def verify(key: HostKey, signature: bytes, message: bytes) -> None:
    public = load_der_public_key(key.public_der)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature, message, ec.ECDSA(hashes.SHA256()))


def test_the_id_is_the_digest_of_the_public_key() -> None:
    key = HostKey(new_key())
    assert key.id == hashlib.sha256(key.public_der).hexdigest()


def test_enrolment_is_signed_over_token_and_csr() -> None:
    key = HostKey(new_key())
    message = b"ringfence-enrol-v1\0" + hashlib.sha256(b"token").digest() + hashlib.sha256(b"csr").digest()
    verify(key, key.enrolment_proof("token", b"csr"), message)


def test_attestation_is_signed_over_nonce_and_csr() -> None:
    key = HostKey(new_key())
    message = b"ringfence-attest-v1\0" + b"nonce" + hashlib.sha256(b"csr").digest()
    verify(key, key.attestation(b"nonce", b"csr"), message)


def test_the_private_key_is_not_shown() -> None:
    assert "private" not in repr(HostKey(new_key()))


def test_a_key_is_on_disk_before_it_is_enrolled_and_found_after_a_crash(store: HostKeyStore) -> None:
    drawn = store.draw()
    assert [key.id for key in store.candidates()] == [drawn.id]


def test_an_enrolled_key_takes_the_place_of_the_old_one(store: HostKeyStore, folder: StateFolder) -> None:
    first = store.draw()
    store.enrolled(first)
    second = store.draw()
    assert [key.id for key in store.candidates()] == [first.id, second.id]
    store.enrolled(second)
    assert [key.id for key in store.candidates()] == [second.id]
    assert not (folder.path / PENDING).exists()


def test_the_current_key_proved_again_stays_current(store: HostKeyStore) -> None:
    first = store.draw()
    store.enrolled(first)
    second = store.draw()
    store.enrolled(first)
    assert [key.id for key in store.candidates()] == [first.id, second.id]


def test_a_file_without_a_key_is_told_with_the_mend(store: HostKeyStore, folder: StateFolder) -> None:
    folder.write(CURRENT, b"not a key")
    with pytest.raises(StateError, match="join again with a new token"):
        store.candidates()


def pem_of(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "pem", [pem_of(ec.generate_private_key(ec.SECP384R1())), pem_of(ed25519.Ed25519PrivateKey.generate())]
)
def test_a_key_of_another_kind_is_refused(store: HostKeyStore, folder: StateFolder, pem: bytes) -> None:
    folder.write(CURRENT, pem)
    with pytest.raises(StateError, match="not a P-256 key"):
        store.candidates()


def test_a_key_that_others_may_read_is_refused(store: HostKeyStore, folder: StateFolder) -> None:
    store.enrolled(store.draw())
    (folder.path / CURRENT).chmod(0o644)
    with pytest.raises(StateError, match="0644"):
        store.candidates()
